import io
import json

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import MATHS_GRADER
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages.students.reward_service import label, serve


def test_a_usable_pass_is_rewarded_and_nothing_else() -> None:
    row = {"problem_id": "p", "domain": "maths", "answer": "4", "tests": None, "problem": "2 + 2?"}
    asked = [r"<think>so</think>\boxed{4}", r"\boxed{4}", r"<think>so</think>\boxed{5}", "<think>"]
    labels = [label(row)] * len(asked) + [label(row, think_block=False)]
    request = json.dumps({"labels": labels, "completions": [*asked, r"\boxed{4}"]}) + "\n"
    answers = io.StringIO()
    with open_verifier(Sandbox(workers=1, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        serve(io.StringIO(request + request), answers, verifier)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [[one["reward"] for one in line] for line in said] == [[1.0, 0.0, 0.0, 0.0, 1.0]] * 2
    assert said[0][0] == {
        "problem_id": "p", "domain": "maths", "opened": "", "reward": 1.0, "usable": True,
        "unusable_because": None, "answer": "4", "reference": "4", "verdict": "ok", "passed": True,
        "rule": said[0][0]["rule"], "grader": MATHS_GRADER,
    }  # fmt: skip
    assert (said[0][1]["passed"], said[0][1]["unusable_because"]) == (True, "not exactly one think block")


def test_a_program_is_rewarded_as_its_source_judges_it() -> None:
    tests = json.dumps([{"stdin": "", "expected": "101"}])
    row = {"problem_id": "q", "domain": "code", "answer": None, "tests": tests, "judge_profile": "lcb", "checker": None}
    asked = "<think>so</think>\n```python\nprint('0101')\n```"
    labels = [label(row), label(row | {"judge_profile": None})]
    assert [json.loads(one).keys() - {"problem_id", "domain", "answer", "tests"} for one in labels] == [
        {"judge_profile"},
        set(),
    ]
    answers = io.StringIO()
    with open_verifier(Sandbox(workers=1, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        serve(io.StringIO(json.dumps({"labels": labels, "completions": [asked] * 2}) + "\n"), answers, verifier)
    assert [one["reward"] for one in json.loads(answers.getvalue())] == [1.0, 0.0]
