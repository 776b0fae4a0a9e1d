from promptcot_assets.lake import Row
from promptcot_assets.stages.analysis.grader_change import pair_difference, score_difference, verdict_difference


def verdict(name: str, passed: bool | None, rule: str = "exact number", **changed: object) -> Row:
    word = {True: "ok", False: "wrong_answer", None: "system_error"}[passed]
    row = {"rollout_id": name, "domain": "maths", "verdict": word, "passed": passed, "answer": "4", "reference": "4",
           "rule": rule, "grader": "maths/1"}  # fmt: skip
    return row | changed


def test_only_what_says_something_else_is_a_change_and_only_another_reward_moves() -> None:
    before = [verdict("a", True), verdict("b", False), verdict("c", None), verdict("d", True)]
    after = [verdict("b", True), verdict("a", True, "normal form"), verdict("c", False), verdict("d", True)]
    found = verdict_difference(before, after, "rollout_id")
    assert (found.judged, [row["id"] for row in found.changed]) == (4, ["b", "a", "c"])
    assert [row["id"] for row in found.rewards] == ["b", "c"]
    assert found.moves() == {"fail -> pass": 1, "no verdict -> fail": 1}
    assert found.changed[0]["before"]["verdict"] == "wrong_answer" and found.changed[0]["after"]["verdict"] == "ok"


def test_a_reward_that_moves_under_one_version_is_unannounced() -> None:
    before = [verdict("a", True), verdict("b", True)]
    after = [verdict("a", False), verdict("b", False, grader="maths/2")]
    assert [row["id"] for row in verdict_difference(before, after, "rollout_id").unannounced()] == ["a"]


def test_a_column_that_an_older_table_lacks_is_no_change_but_a_new_answer_is() -> None:
    old = {name: value for name, value in verdict("a", True).items() if name != "reference"}
    assert verdict_difference([old], [verdict("a", True)], "rollout_id").changed == []
    assert len(verdict_difference([verdict("a", False, answer=None)], [verdict("a", False)], "rollout_id").changed) == 1


def test_pairs_are_told_apart_by_their_two_rollouts() -> None:
    pairs = [{"pair_id": name, "problem_id": "p", "domain": "maths", "chosen": "x"} for name in "abc"]
    found = pair_difference(pairs[:2], pairs[1:])
    assert [row["pair_id"] for row in found["lost"]] == ["a"]
    assert [row["pair_id"] for row in found["gained"]] == ["c"]


def test_scores_that_move_appear_or_vanish() -> None:
    def score(stage: str, value: float) -> Row:
        common = {"benchmark": "aime", "metric": "avg@2", "compared_with": None, "low": 0.0, "high": 1.0}
        return common | {"stage": stage, "value": value, "significant": None}

    found = score_difference([score("base", 0.5), score("sft", 0.5)], [score("sft", 0.25), score("self_play", 1.0)])
    assert [(row["stage"], row["before"] and row["before"]["value"], row["after"] and row["after"]["value"])
            for row in found] == [("base", 0.5, None), ("sft", 0.5, 0.25), ("self_play", None, 1.0)]  # fmt: skip
