"""Labels that verified rollouts speak against."""

from promptcot_assets.lake import Row
from promptcot_assets.stages.students.relabelling import relabelled, with_new_labels


def label(problem: str, answer: str | None, *answers: str) -> Row:
    return {"label_id": f"l_{problem}", "problem_id": problem, "domain": "maths", "answer": answer,
            "answers": list(answers)}  # fmt: skip


def rolled(problem: str, *answers: str | None, usable: bool = True, passed: bool | None = False) -> list[Row]:
    return [
        {"problem_id": problem, "domain": "maths", "answer": answer, "usable": usable, "passed": passed}
        for answer in answers
    ]


def test_a_label_changes_only_by_more_than_half_of_all_ballots() -> None:
    labels = [label(name, "4", "4", "4", "4", "5") for name in "abc"] + [label("none", None, "4", "5")]
    rollouts = (
        rolled("a", "5", "5.0", "5", "5")  # five of eight say 5
        + rolled("b", "5", "5", "5")  # four of seven: more than half
        + rolled("c", "5", "5")  # three of six: not more than half
        + rolled("none", "5", "5")
    )
    rows = {row["problem_id"]: row for row in relabelled(labels, rollouts, 0.0)}
    assert rows.keys() == {"a", "b", "c"}
    assert [(rows[name]["before"], rows[name]["after"], rows[name]["changed"]) for name in "abc"] == [
        ("4", "5", True), ("4", "5", True), ("4", "4", False),
    ]  # fmt: skip
    assert (rows["a"]["share_before"], rows["a"]["share_after"], rows["a"]["rollouts"]) == (3 / 8, 5 / 8, 4)


def test_what_is_not_usable_or_not_judged_is_no_ballot_and_spelling_is_no_change() -> None:
    labels = [label("a", "1/2", "1/2", "1/2")]
    silent = rolled("a", "3", "3", "3", usable=False) + rolled("a", "3", "3", "3", passed=None) + rolled("a", None)
    assert relabelled(labels, silent, 0.0) == []
    (row,) = relabelled(labels, rolled("a", "0.5", "0.5", "0.5"), 0.0)
    assert (row["after"], row["changed"], row["share_before"]) == ("1/2", False, 1.0)


def test_a_divided_label_can_be_taken_away() -> None:
    labels, rollouts = [label("a", "4", "4", "4", "5")], rolled("a", "5", "6", "7", "8", "9")
    assert [row["after"] for row in relabelled(labels, rollouts, 0.2)] == ["4"]  # two of eight
    (row,) = relabelled(labels, rollouts, 0.3)
    assert (row["after"], row["changed"], row["share_after"]) == (None, True, 0.0)


def test_the_next_round_is_judged_by_the_new_labels() -> None:
    known = [{"problem_id": name, "answer": "4", "tests": None} for name in "abc"]
    known.append({"problem_id": "code", "answer": None, "tests": "[]"})
    changes = [
        {"problem_id": "a", "after": "5", "changed": True}, {"problem_id": "b", "after": None, "changed": True},
        {"problem_id": "c", "after": "4", "changed": False},
    ]  # fmt: skip
    assert [(row["problem_id"], row["answer"]) for row in with_new_labels(known, changes)] == [
        ("a", "5"), ("c", "4"), ("code", None),
    ]  # fmt: skip
