import json

from promptcot_assets.judging.opening import metered
from promptcot_assets.judging.verdicts import judge
from promptcot_assets.settings.engines import Sandbox

SANDBOX = Sandbox(workers=1, cpu_s=1.0, wall_s=4.0, memory_mb=256)
LABELS = {
    "sum": {"answer": r"\frac{2}{4}", "tests": None},
    "double": {"answer": None, "tests": json.dumps([{"stdin": "2", "expected": "4"}])},
}


def test_a_verdict_has_both_normal_forms_rule_and_grader_and_its_cost_is_metered_apart() -> None:
    drawn = [
        {"problem_id": "sum", "domain": "maths", "completion": r"<think>so</think>\boxed{0.5}"},
        {"problem_id": "sum", "domain": "maths", "completion": r"<think>so</think>\boxed{2}"},
        {"problem_id": "double", "domain": "code", "completion": "```python\nprint(2 * int(input()))\n```"},
    ]
    with metered(SANDBOX) as (verifier, pool):
        right, wrong, program = judge(drawn, LABELS, "problem_id", verifier)
        figures = pool.figures()
    assert right["passed"] is True and right["answer"] == right["reference"]
    assert wrong["passed"] is False and wrong["answer"] == "2" and wrong["reference"] == right["reference"]
    assert program["passed"] is True and program["reference"] is None
    assert all(row["grader"] and row["rule"] for row in (right, wrong, program))
    assert not any("cpu" in name or "second" in name for name in right)
    assert len(pool.cpu_s) == 1 and 0 < figures["program_longest_cpu_s"] == round(pool.cpu_s[0], 3)


def test_where_no_program_ran_there_is_nothing_to_tell() -> None:
    with metered(SANDBOX) as (_, pool):
        assert pool.figures() == {}
