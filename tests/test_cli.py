"""The commands as a user types them: one JSON document with --json, one message without traceback on a mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from promptcot_assets.cli import main
from promptcot_assets.lake import Ref
from promptcot_assets.tables import open_lake
from tests.small_home import Home, whole_arc

RESULTS = str(Path(__file__).parent / "reports" / "results.csv")
REF = ("asset", "version", "partition", "data_version", "rows")
HEAVY = (
    "torch",
    "transformers",
    "dagster",
    "deltalake",
    "duckdb",
    "pyarrow",
    "numpy",
    "matplotlib",
    "sympy",
    "datasets",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return whole_arc(tmp_path_factory.mktemp("cli") / "home")


def promptcot(at: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"PROMPTCOT_HOME": str(at)})


@pytest.mark.parametrize(("arguments", "key"), [
    (["sql", "select 1 as one"], None),
    (["score", RESULTS], "differences"),
    (["diff", "problems[first]", "problems"], "causes"),
    (["lineage", "sft_model"], "commits"),
    (["lineage", "sft_model", "tiny"], "of"),
    (["lineage", "--stale"], None),
    (["trace", "pair_1"], "nodes"),
    (["trace", "seed_1", "--down"], "edges"),
    (["recall", "seed_1"], "backfill"),
    (["gc"], "garbage"),
    (["show", "problems"], None),
    (["show", "problems", "problem_2", "problem_1"], None),
    (["mark"], "marks"),
    (["recall", "--marked"], None),
])  # fmt: skip
def test_json_is_one_document_and_nothing_else(home: Home, arguments: list[str], key: str | None) -> None:
    result = promptcot(home.path, *arguments, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, list) if key is None else key in document
    assert result.stderr == ""


@pytest.mark.parametrize(("arguments", "shown"), [
    (["sql", "select problem_id from problems order by all"], "problem_1"),
    (["sql", "--csv", "select problem_id from problems order by all"], "problem_id\nproblem_1\nproblem_2\n"),
    (["lineage", "sft_model"], "├─ student_base[tiny]@1"),
    (["lineage", "--stale"], "nothing is stale"),
    (["trace", "pair_1"], "concept_sets[first]@1 set_2"),
    (["recall", "seed_1"], "--select group:em --partition round_01"),
    (["gc"], "nothing to delete"),
    (["show", "problems", "problem_2"], "── 1 of 1 ──\nproblem_id: problem_2\n"),
    (["show", "problems", "--where", "problem like '%2%'"], "problem: new 2?"),
    (["show", "problems", "--where", "false"], "no rows"),
    (["sql", "--record", "select e'a\\x1b[31mb' as x"], "x: a\\x1b[31mb"),
    (["mark"], "no row is marked yet"),
    (["recall", "--marked"], "no row is marked bad"),
])  # fmt: skip
def test_text_is_for_people(home: Home, arguments: list[str], shown: str) -> None:
    result = promptcot(home.path, *arguments)
    assert result.exit_code == 0, result.output
    assert shown in result.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["sql", "select * from lineagee"], 'Did you mean "lineage"'),
    (["sql", ""], "the query is empty"),
    (["sql", "copy (select 1) to '/dev/null'"], "a query only reads, and COPY does not"),
    (["sql", "select 1 as a, 2 as a", "--json"], "two columns of the answer are named 'a'"),
    (["sql", "select 1", "--csv", "--json"], "give --csv or --json, not both"),
    (["sql", "select 1", "--csv", "--parquet", "out"], "give --csv or --parquet, not both"),
    (["benchmark-report", "--out", __file__], f"cannot write {__file__}"),
    (["benchmark-report", "--out", "/proc/nope"], "cannot write /proc/nope"),
    (["score", "none.jsonl"], "none.jsonl: no such file; check the path"),
    (["score", RESULTS, "--column", "correct"], "--column takes OURS=THEIRS"),
    (["score", RESULTS, "--points", "0"], "effect=0.0"),
    (["verify-release", "nowhere"], "'nowhere' is no folder"),
    (["diff", "problems"], "problems has replaced nothing"),
    (["lineage", "nothing"], "no table or model 'nothing'"),
    (["lineage"], "name an ASSET"),
    (["trace", "nothing"], "has a row 'nothing'"),
    (["recall", "nothing"], "has a row 'nothing'"),
    (["export", "nothing", "--out", "out"], "no table 'nothing'"),
    (["gc", "--keep", "0"], "--keep"),
    (["show", "nothing"], "there is no table 'nothing'"),
    (["show", "problems", "none"], "problems has no row 'none'"),
    (["show", "problems", "--where", "true; select 1"], "is no SQL condition"),
    (["sql", "select 1", "--record", "--csv"], "give --record or another form"),
    (["read", "nothing"], "there is no table 'nothing'"),
    (["read", "problems", "--where", "nonsense"], "nonsense"),
    (["read", "--out", __file__], "is no reader"),
    (["sql", "select '\udcff'"], "is not UTF-8"),
    (["improve", "tiny", "--rounds", "1" + "0" * 20], "is not in the range 1<=x<=1000"),
    (["improve", "tiny", "--strength", "inf"], "is not in the range 0<x<=1000000"),
    (["improve", "tiny"], "was asked no held-out problems"),
    (["sql", "select 1", "--parquet", "."], ". is a folder; name the file to write"),
    (["sql", "select 1", "--parquet", "/"], "/ is a folder"),
    (["diff", "problems[first]", "problems", "--out", "."], ". is a folder"),
    (["doctor", "--for", ""], "or several as 8xh100"),
    (["verify-release", "a" * 300], "File name too long; give another path"),
    (["export", "problems", "--out", "a" * 300], "File name too long"),
    (["show", "problems", "--where", "problem = '😀\udcff'"], "is not UTF-8"),
    (["mark", "seed_1", "bad", "--reason", "\udcff"], "is not UTF-8"),
    (["mark", "nothing", "bad"], "has a row 'nothing'"),
    (["mark", "seed_1"], "say good or bad"),
])  # fmt: skip
def test_a_mistake_gets_one_message(home: Home, arguments: list[str], message: str) -> None:
    result = promptcot(home.path, *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr and "Traceback" not in result.stderr and result.stdout == ""
    assert isinstance(result.exception, SystemExit)
    assert not (home.path / "improve").exists()


@pytest.mark.parametrize("arguments", [["sql", "select 1"], ["lineage", "--stale"], ["trace", "x"], ["recall", "x"],
                                       ["export", "problems", "--out", "out"], ["gc"], ["plan", "2"],
                                       ["benchmark-report"], ["regrade", "tiny"], ["show", "problems"], ["mark"],
                                       ["read"], ["mark", "x", "bad"], ["recall", "--marked"],
                                       ["improve", "tiny"]])  # fmt: skip
def test_without_a_lake_every_command_says_what_to_run_and_makes_nothing(tmp_path: Path, arguments: list[str]) -> None:
    result = promptcot(tmp_path / "none", *arguments)
    assert result.exit_code == 1 and "promptcot run" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_unicode_is_printed_as_its_escape(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "halves.jsonl"
    path.write_text('{"problem": "What is 3 + 4?", "answer": "7", "\\ud801": 2}\n{"problem": "\\ud800"}\n')
    for arguments in (["inspect", str(path)], ["inspect", str(path), "--json"]):
        done = promptcot(home.path, *arguments)
        assert done.exit_code == 0, done.output
        assert "\\ud801" in done.stdout


def test_export_says_what_it_wrote(home: Home, tmp_path: Path) -> None:
    result = promptcot(
        home.path, "export", "problems", "first", "--out", str(tmp_path / "out"), "--format", "jsonl", "--json"
    )
    assert json.loads(result.stdout)["refs"][0]["asset"] == "problems"
    assert (tmp_path / "out" / "data" / "first.jsonl").exists() and (tmp_path / "out" / "README.md").exists()
    result = promptcot(home.path, "export", "figure", "em", "--out", str(tmp_path / "em.png"))
    assert result.exit_code == 0 and "em_curves[all]@1" in result.stdout


def test_sql_writes_parquet(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    result = promptcot(home.path, "sql", "--parquet", str(out), "select problem_id from problems", "--json")
    assert json.loads(result.stdout) == {"out": str(out), "rows": 2} and out.exists()


def test_a_copy_of_the_folder_is_a_backup_and_a_copy_of_that_restores_it(home: Home, tmp_path: Path) -> None:
    """At another path, with nothing of the first one left: all data, all lineage, all models, and it can be written."""
    own = Path(shutil.copytree(home.path, tmp_path / "first"))
    backup = Path(shutil.copytree(own, tmp_path / "backup"))
    shutil.rmtree(own)
    restored = Path(shutil.copytree(backup, tmp_path / "elsewhere" / "home"))
    shutil.rmtree(backup)
    before, after = (
        json.loads(promptcot(at, "lineage", "scaling", "--json").stdout)["commits"] for at in (home.path, restored)
    )
    assert before == after
    count = promptcot(restored, "sql", "select count(*) as n from benchmark_verdicts", "--json")
    assert json.loads(count.stdout) == [{"n": 6}]
    lake = open_lake(restored)
    assert all(lake.verify(Ref.from_json({name: one[name] for name in REF})) for one in after)
    copied = Home(restored)
    copied.refs |= home.refs
    copied.commit("difficulty", [], "rollouts", "verdicts", partition="tiny")
    assert lake.newest("difficulty", "tiny").version == home.refs["difficulty"].version + 1
    assert home.lake.newest("difficulty", "tiny") == home.refs["difficulty"]


def test_gc_deletes_only_when_told(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Home(Path(shutil.copytree(home.path, tmp_path / "home")))
    own.refs |= home.refs
    (old,) = (own.path / "lake" / "difficulty").glob("_part=*/*.parquet")
    own.commit("difficulty", [], "rollouts", "verdicts", partition="tiny")
    now = time.time()
    two_days_later = SimpleNamespace(time=lambda: now + 2 * 86400)  # garbage collection spares what is young
    monkeypatch.setattr("promptcot_assets.lake.retention.time", two_days_later)
    for arguments, is_left in (([], True), (["--apply"], False)):
        result = promptcot(own.path, "gc", "--keep", "1", "--json", *arguments)
        garbage = json.loads(result.stdout)
        assert "difficulty" in [one["asset"] for one in garbage["garbage"]]
        assert garbage["applied"] is not is_left and old.exists() is is_left


def test_doctor_fails_with_exit_code_1(home: Home) -> None:
    result = promptcot(home.path, "doctor", "--profile", "nowhere", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1 and document["healthy"] is False
    assert [one["name"] for one in document["findings"] if one["level"] == "fail"] == ["profile"]
    assert all(one["mend"] for one in document["findings"] if one["level"] == "fail")


def imported(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of the modules a fresh Python has after running `code`."""
    script = f"import sys; {code}; print('imported:', *[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_help_imports_nothing_heavy() -> None:
    assert imported("import promptcot_assets.cli as cli; cli.main(['--help'], standalone_mode=False)", HEAVY) == []


@pytest.mark.parametrize("module", ["doctor.diagnosis", "reports.export", "reports.query", "lineage.recall"])
def test_reports_import_no_dagster_and_no_torch(module: str) -> None:
    assert imported(f"import promptcot_assets.{module}", ("dagster", "torch", "matplotlib")) == []


def test_the_manual_has_every_command_and_option() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    for name, command in main.commands.items():
        assert f"`promptcot {name}" in manual
        for parameter in command.params:
            for spelled in (one for one in parameter.opts if one.startswith("--")):
                assert spelled in manual, (name, spelled)
