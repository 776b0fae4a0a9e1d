"""The script of docs/ci.md, run by a shell as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from promptcot_assets.tables import open_lake

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"
PROFILE = """
extends: demo
corpus:
  procedural:
    mini_maths: {seeds: 20, held_out: 2, benchmark: 4, base_problems: 4}
    mini_code: {seeds: 20, held_out: 2, benchmark: 4, base_problems: 4}
"""


@pytest.mark.slow
def test_the_script_makes_the_corpus(tmp_path: Path) -> None:
    (script,) = re.findall(r"```bash\n(#!.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / "small.yaml").write_text(PROFILE)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PROMPTCOT_HOME": str(tmp_path / "home"),
        "PROMPTCOT_PROFILE": str(tmp_path / "small.yaml"),
    }
    done = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "held_out" in done.stdout
    assert json.loads((tmp_path / "stale.json").read_text()) == []
    written = (tmp_path / "versions.csv").read_text().splitlines()
    made = {
        asset: open_lake(tmp_path / "home").newest(asset)
        for asset in ("seed_problems", "seed_triples", "benchmark_items")
    }
    assert written[0] == "asset,partition,data_version"
    assert {f"{asset},all,{ref.data_version}" for asset, ref in made.items() if ref} < set(written)


def test_without_a_home_it_says_what_is_missing(tmp_path: Path) -> None:
    (script,) = re.findall(r"```bash\n(#!.*?)```", PAGE.read_text(), re.DOTALL)
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "a folder that outlives the job" in done.stderr
    assert list(tmp_path.iterdir()) == []
