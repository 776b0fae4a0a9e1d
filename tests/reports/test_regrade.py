"""Verdicts of a former, wrong grader in a lake: what the present one changes, down to pairs and scores."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.lake import LakeError
from promptcot_assets.reports.regrade import as_json, as_text, regrade
from promptcot_assets.settings import load_settings
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages.evaluation.benchmarks import verdicts as judge_benchmarks
from promptcot_assets.stages.students.self_play import verdicts as judge_rollouts
from tests.small_home import Home

PROFILE = """
extends: demo
evaluation: {generations: 2}
sandbox: {workers: 1}
"""
ABOUT = {"domain": "maths", "problem_id": "p", "model": "sft/1"}
RIGHT, WRONG = r"<think>a</think>\boxed{0.5}", r"<think>b</think>\boxed{2}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("regrade") / "home")
    (home.path / "profile.yaml").write_text(PROFILE)
    at = {"partition": "tiny"}
    home.commit("problems", [{"problem_id": "p", "domain": "maths", "problem": "Half?"}])
    home.commit("math_answers", [{"label_id": "l", "problem_id": "p", "domain": "maths", "answer": r"\frac12"}])
    home.commit("code_tests", [])
    drawn = [ABOUT | {"rollout_id": f"r{n}", "completion": text} for n, text in enumerate((RIGHT, WRONG))]
    home.commit("rollouts", drawn, **at)
    home.commit("benchmark_items", [{"item_id": "i", "benchmark": "aime", "domain": "maths", "answer": "0.5"}])
    about = {"item_id": "i", "benchmark": "aime", "domain": "maths", "stage": "sft", "model": "sft/1"}
    asked = [
        about | {"generation_id": f"g{n}", "attempt": n, "completion": text} for n, text in enumerate((RIGHT, WRONG))
    ]
    home.commit("benchmark_generations", asked, **at)
    with open_verifier(load_settings(str(home.path / "profile.yaml")).sandbox) as verifier:
        label = {"answer": r"\frac12", "tests": None}
        played, answered = (
            judge_rollouts(drawn, {"p": label}, verifier),
            judge_benchmarks(asked, {"i": label}, verifier),
        )
    played[0] |= {"passed": False, "verdict": "wrong_answer", "rule": "text"}  # a grader that cannot read decimals
    played[0]["grader"] = "sandbox.maths/0"
    answered[0] |= {"passed": False, "verdict": "wrong_answer", "rule": "text"}  # ... and kept its version
    home.commit("verdicts", played, "rollouts", "problems", "math_answers", "code_tests", **at)
    home.commit("benchmark_verdicts", answered, "benchmark_generations", "benchmark_items", **at)
    return home


def test_rewards_pairs_and_scores_that_a_new_grader_changes(home: Home) -> None:
    found = regrade(home.path, "tiny", load_settings(str(home.path / "profile.yaml")))
    for table, changed in (("verdicts", "r0"), ("benchmark_verdicts", "g0")):
        assert found.tables[table].judged == 2
        assert [row["id"] for row in found.tables[table].rewards] == [changed]
        assert found.tables[table].moves() == {"fail -> pass": 1}
    assert len(found.pairs["gained"]) == 1 and found.pairs["lost"] == []
    moved = {score["metric"]: (score["before"]["value"], score["after"]["value"]) for score in found.scores}
    assert moved == {"avg@2": (0.0, 0.5), "pass@2": (0.0, 1.0), "majority@2": (0.0, 0.5)}
    assert [len(one.unannounced()) for one in found.tables.values()] == [0, 1]
    text = as_text(found)
    assert "1 gained" in text and "give the grader a new one" in text and "--select 'verdicts*'" in text
    assert json.loads(json.dumps(as_json(found)))["tables"]["verdicts"]["rewards"] == {"fail -> pass": 1}


def test_labels_and_traces_and_online_rollouts_are_judged_anew(tmp_path: Path) -> None:
    """A former grader read the answer of two votes wrongly and took a right trace, and a right rollout, for wrong."""
    home, batch = Home(tmp_path / "home"), {"partition": "first"}
    (home.path / "profile.yaml").write_text(PROFILE + "labels: {votes: 4, min_votes: 2}\n")
    about = {"problem_id": "p", "domain": "maths", "problem": "Half?"}
    home.commit("problems", [about | {"problem": "Half?"}, about | {"problem_id": "q"}], **batch)
    texts = [RIGHT, RIGHT, WRONG, WRONG]
    votes = [
        {"vote_id": f"{of}{n}", "problem_id": of, "domain": "maths", "attempt": n, "seed": n, "model": "v",
         "completion": text, "answer": read, "finish_reason": "stop"}
        for of, answers in (("p", "7575"), ("q", "2222"))
        for n, (text, read) in enumerate(zip(texts, answers, strict=True))
    ]  # fmt: skip
    votes[7] |= {"completion": None}  # was not kept: its answer stands
    votes[6] |= {"completion": RIGHT}
    home.commit("math_votes", votes, "problems", **batch)
    labels = [{"label_id": of, "problem_id": of, "domain": "maths", "answer": answer}
              for of, answer in (("p", "7"), ("q", "2"))]  # fmt: skip
    home.commit("math_answers", labels, "math_votes", **batch)
    double = "print(2 * int(input()))"
    of_code = {"problem_id": "c", "domain": "code"}
    home.commit("proposed_tests", [of_code | {"proposal_id": "a", "becomes": "t", "origin": "written", "stdin": "3",
                                              "proposed": "6", "writer": "w"}], "problems", **batch)  # fmt: skip
    home.commit("candidate_programs", [of_code | {"program_id": f"g{n}", "program": double, "outputs": ["7"],
                                                  "finish_reason": "stop"} for n in range(2)],
                "problems", "proposed_tests", **batch)  # fmt: skip
    home.commit("code_tests", [of_code | {"test_id": "t", "stdin": "3", "expected": "7"}], "proposed_tests",
                "candidate_programs", **batch)  # fmt: skip
    trace = {"trace_id": "t", "problem_id": "q", "domain": "maths", "trace": WRONG, "valid": False, "answer": "2",
             "drop_reason": "wrong_answer", "teacher": "v"}  # fmt: skip
    home.commit("teacher_traces", [trace], "problems", "math_answers", "code_tests", **batch)
    home.commit("sft_examples", [], "teacher_traces", partition="tiny")
    online = {"rollout_id": "o", "problem_id": "q", "domain": "maths", "completion": WRONG, "finish_reason": "stop",
              "passed": False, "verdict": "wrong_answer", "answer": "2", "grader": "sandbox.maths/0"}  # fmt: skip
    home.commit("rollouts_online", [online], "problems", "math_answers", "code_tests", partition="tiny")

    found = regrade(home.path, "tiny", load_settings(str(home.path / "profile.yaml")))
    changed = {name.partition("[")[0]: [(row["id"], row["before"], row["after"]) for row in rows]
               for name, rows in found.labels.items()}  # fmt: skip
    assert changed == {"math_answers": [("p", "7", None), ("q", "2", "0.5")], "code_tests": [("t", "7", "6")]}
    assert found.tables["teacher_traces"].moves() == {"fail -> pass": 1}
    assert found.tables["rollouts_online"].moves() == {"fail -> pass": 1}
    text = as_text(found)
    assert "code_tests[first]@1: 1 labels are others" in text and "--select 'rollouts_online*'" in text
    assert "materialize these tables of their batch anew" in text
    assert json.loads(json.dumps(as_json(found)))["labels"]


CHECKER = """import json, sys
told = json.load(sys.stdin)
print('ok' if told['output'].strip() in ('6', '7') else 'wrong')"""


@pytest.mark.parametrize(("decides", "now"), [(True, "6"), (False, None)])
def test_labels_are_decided_anew_by_the_judges_that_decided_them(
    decides: bool, now: str | None, tmp_path: Path
) -> None:
    home, batch = Home(tmp_path / "home"), {"partition": "first"}
    (home.path / "profile.yaml").write_text(PROFILE + "labels: {checkers: 1, mutants: 0, min_test_agreement: 1.0}\n")
    about = {"problem_id": "c", "domain": "code"}
    home.commit("problems", [about | {"problem": "A number near 2n."}], **batch)
    home.commit("proposed_tests", [about | {"proposal_id": "a", "becomes": "t", "origin": "written", "stdin": "3",
                                            "proposed": "6", "writer": "w"}], "problems", **batch)  # fmt: skip
    programs = ["print(2 * int(input()))", "print(2 * int(input()) + 1)"]
    home.commit("candidate_programs", [about | {"program_id": f"g{n}", "program": one, "outputs": ["5"],
                                                "finish_reason": "stop"} for n, one in enumerate(programs)],
                "problems", "proposed_tests", **batch)  # fmt: skip
    judge = about | {"judge_id": "j", "kind": "checker", "number": 0, "program": CHECKER, "decides": decides}
    home.commit("tested_judges", [judge], "proposed_tests", "candidate_programs", **batch)
    home.commit("code_tests", [about | {"test_id": "t", "stdin": "3", "expected": "5", "checker": CHECKER}],
                "proposed_tests", "candidate_programs", "tested_judges", **batch)  # fmt: skip
    right = {"rollout_id": "r", **about, "completion": f"<think>a</think>```python\n{programs[1]}\n```"}
    home.commit("rollouts", [right], partition="tiny")
    before = {"rollout_id": "r", **about, "passed": False, "usable": True, "verdict": "wrong_answer", "grader": "old"}
    home.commit("verdicts", [before], "rollouts", "problems", "code_tests", partition="tiny")
    found = regrade(home.path, "tiny", load_settings(str(home.path / "profile.yaml")))
    ((_, changed),) = found.labels.items()
    assert [(row["id"], row["before"], row["after"]) for row in changed] == [("t", "5", now)]
    assert found.tables["verdicts"].moves() == {"fail -> pass": 1}  # by the checker of the label that it was judged by


def test_the_command_writes_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTCOT_HOME", str(home.path))
    monkeypatch.setenv("PROMPTCOT_PROFILE", str(home.path / "profile.yaml"))
    before = sorted(path for path in home.path.rglob("*") if path.is_file())
    result = CliRunner().invoke(main, ["regrade", "tiny", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["student"] == "tiny"
    assert sorted(path for path in home.path.rglob("*") if path.is_file()) == before
    missing = CliRunner().invoke(main, ["regrade", "nobody"])
    assert missing.exit_code == 1 and "no verdicts of student 'nobody'" in missing.output


def test_a_home_without_verdicts_says_so(tmp_path: Path) -> None:
    empty = Home(tmp_path / "home")
    with pytest.raises(LakeError, match="materialize verdicts"):
        regrade(empty.path, "tiny", load_settings("demo"))


SLOW = "```python\nimport time\nwhile time.process_time() < 1.5:\n    pass\nprint(4)\n```"
FAST, WRONG_PROGRAM = "```python\nprint(4)\n```", "```python\nprint(5)\n```"


def test_a_new_limit_flips_exactly_the_verdicts_it_was_about_and_the_scores_below_them(tmp_path: Path) -> None:
    """Judged for real under half a second of CPU time, then under the profile's limit."""
    home, at = Home(tmp_path / "home"), {"partition": "tiny"}
    (tmp_path / "profile.yaml").write_text(PROFILE.replace("{workers: 1}", "{workers: 1, cpu_s: 6, wall_s: 60}"))
    items = [{"item_id": f"i{n}", "benchmark": "code", "domain": "code",
              "tests": json.dumps([{"stdin": "", "expected": "4"}])} for n in range(4)]  # fmt: skip
    home.commit("benchmark_items", items)
    stages = {"base": (WRONG_PROGRAM, FAST, WRONG_PROGRAM, FAST), "sft": (SLOW, FAST, SLOW, WRONG_PROGRAM)}
    asked = [
        {"generation_id": f"{stage}{n}", "item_id": f"i{n}", "benchmark": "code", "domain": "code", "stage": stage,
         "model": f"{stage}/1", "attempt": 0, "completion": text}
        for stage, texts in stages.items() for n, text in enumerate(texts)
    ]  # fmt: skip
    home.commit("benchmark_generations", asked, "benchmark_items", **at)
    with open_verifier(Sandbox(workers=1, cpu_s=0.5, wall_s=60)) as strict:
        judged = judge_benchmarks(asked, {item["item_id"]: item | {"answer": None} for item in items}, strict)
    assert [row["verdict"] for row in judged if row["stage"] == "sft"] == [
        "time_limit",
        "ok",
        "time_limit",
        "wrong_answer",
    ]
    home.commit("benchmark_verdicts", judged, "benchmark_generations", "benchmark_items", **at)

    found = regrade(home.path, "tiny", load_settings(str(tmp_path / "profile.yaml")))
    changed = found.tables["benchmark_verdicts"]
    assert [row["id"] for row in changed.rewards] == [row["id"] for row in changed.changed] == ["sft0", "sft2"]
    assert changed.moves() == {"fail -> pass": 2}
    moved = {
        (row["stage"], row["compared_with"]): (row["before"]["value"], row["after"]["value"]) for row in found.scores
    }
    assert moved == {("sft", None): (0.25, 0.75), ("sft", "base"): (-0.25, 0.25)}
