"""Homes at odd places, and homes that can only be read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promptcot_assets.lake import Lake, LakeError
from tests.lake.lake_examples import PROBLEMS, problems, provenance, train

ROOT = Path(__file__).parents[2]
GOOD = [
    "with space", "it's", 'quo"ted', "semi;colon", "a#b", "a&b", "{a}", "a,b", "ümlaut-日本", "~tilde", "$HOME", "a:b",
    "a(b)", "!", "-x", "..hidden", "a+b", "back`tick",
]  # fmt: skip
BAD = ["a*b", "a?b", "a[b]", "a=b", "a%20b", "a\\b", "line\nbreak", "tab\tbed", "bell\a", "carriage\rreturn", "\udce9"]


@pytest.mark.parametrize("name", GOOD)
def test_a_home_of_this_name_works(tmp_path: Path, name: str) -> None:
    from promptcot_assets.reports.query import query

    lake = Lake(tmp_path / name)
    ref = lake.commit("problems", [problems(3)], PROBLEMS, provenance(), "a")
    model = train(lake, "student", b"1", provenance(1, ref))
    lake.commit("problems", [problems(2)], PROBLEMS, provenance(2), "b")
    assert query(lake.home, "select count(*) from problems").rows == [(5,)]
    assert lake.verify(ref) and lake.verify(model) and lake.gc(grace_hours=0) == []
    lake.check_log("problems")


@pytest.mark.parametrize("name", BAD)
def test_a_home_of_this_name_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(LakeError, match="set PROMPTCOT_HOME elsewhere") as error:
        Lake(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bwrap for a folder that root cannot write in either")
def test_a_read_only_copy_can_be_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "home")
    ref = lake.commit("problems", [problems(3)], PROBLEMS, provenance(), "a")
    train(lake, "student", b"1", provenance(1, ref))
    copy = Path(shutil.copytree(lake.home, tmp_path / "copy"))  # whose catalogue is of another place
    shutil.rmtree(lake.home)
    program = f"""if True:
        import sys
        from promptcot_assets.lake import Lake, LakeError
        from promptcot_assets.lineage.history import History
        from promptcot_assets.reports.query import query
        from tests.lake.lake_examples import PROBLEMS, problems, provenance
        lake = Lake({str(copy)!r})
        ref = lake.newest("problems", "a")
        print(lake.table(ref).num_rows, lake.verify(ref), lake.checkpoint(lake.newest("student")).name != "")
        print(query(lake.home, "select count(*) from problems").rows, len(History(lake.home).entries), lake.gc())
        try:
            lake.commit("problems", [problems(1)], PROBLEMS, provenance(9))
        except LakeError as error:
            print(error)
    """
    command = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(copy), str(copy), sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, asked, refused = done.stdout.splitlines()
    assert rows == "3 True True" and asked == "[(3,)] 2 []"
    assert "set PROMPTCOT_HOME to a folder one can write in" in refused
