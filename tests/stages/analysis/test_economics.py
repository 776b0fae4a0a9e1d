import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Prices
from promptcot_assets.stages.analysis.economics import Cost, a_kept_row, flow, funnel, ledger

# ---- funnel
FELL_BEFORE = {"exact", "near", "contaminated by a", "truncated"}  # a label was asked for
FATES = ["unparsed", *sorted(FELL_BEFORE), "no label", "invalid", "taught", "at the second attempt"]
TAUGHT = {"taught", "at the second attempt"}


def rows_of(key: Row, fate: str) -> dict[str, list[Row]]:
    """The rows that one completion leaves in the tables, when it ends like this."""
    if fate == "unparsed":
        return {"raw": [key | {"problem": None, "drop_reason": "problem block missing"}]}
    tables = {"raw": [key | {"problem": "x", "drop_reason": None}]}
    if fate in FELL_BEFORE:
        return tables | {"dropped": [key | {"reason": fate}]}
    reason = "no agreement" if fate == "no label" else None
    label = None if reason else "1"
    tables["problems"] = [key]
    if key["domain"] == "maths":
        tables["answers"] = [key | {"answer": label, "drop_reason": reason}]
    else:
        untrusted = key | {"expected": None, "drop_reason": "no agreement"}
        tables["tests"] = [untrusted, key | {"expected": label, "drop_reason": reason}]
    wrong, right = key | {"valid": False, "drop_reason": "wrong_answer"}, key | {"valid": True, "drop_reason": None}
    tables["traces"] = {"invalid": [wrong], "taught": [right], "at the second attempt": [wrong, right]}.get(fate, [])
    return tables


@given(st.lists(st.tuples(st.sampled_from(["maths", "code"]), st.sampled_from(FATES)), max_size=30))
def test_every_raw_row_is_in_the_last_step_or_fell_at_exactly_one(drawn: list[tuple[str, str]]) -> None:
    tables: dict[str, list[Row]] = {name: [] for name in ("raw", "dropped", "problems", "answers", "tests", "traces")}
    for number, (domain, fate) in enumerate(drawn):
        for name, rows in rows_of({"domain": domain, "problem_id": f"p{number}"}, fate).items():
            tables[name] += rows
    rows = funnel("b1", **tables)
    for domain in {domain for domain, _ in drawn}:
        fates = [fate for own, fate in drawn if own == domain]
        steps = sorted((row for row in rows if row["domain"] == domain), key=lambda row: row["position"])
        assert [row["step"] for row in steps] == [
            "completions", "parsed", "unique", "uncontaminated", "askable", "labelled", "with a valid trace",
        ]  # fmt: skip
        left = len(fates)
        for row in steps:
            left -= sum(json.loads(row["dropped"]).values())
            assert row["rows"] == left and row["share_of_raw"] == left / len(fates)
        assert left == sum(fate in TAUGHT for fate in fates)
        assert sum(sum(json.loads(row["dropped"]).values()) for row in steps) == len(fates) - left
    assert len({row["step_id"] for row in rows}) == len(rows)


def test_the_funnel_of_one_batch_by_hand() -> None:
    maths = {"domain": "maths"}
    raw = [
        maths | {"problem": text, "drop_reason": None if text else "problem block missing"}
        for text in (*"abcdef", None)
    ]
    dropped = [maths | {"reason": reason} for reason in ("exact", "near", "contaminated by aime", "truncated")]
    problems = [maths | {"problem_id": name} for name in "ef"]
    answers = [maths | {"answer": "1", "drop_reason": None}, maths | {"answer": None, "drop_reason": "tie"}]
    traces = [maths | {"problem_id": "e", "valid": True, "drop_reason": None}]
    rows = funnel("b1", raw, dropped, problems, answers, [], traces)
    assert [row["rows"] for row in rows] == [7, 6, 4, 3, 2, 1, 1]
    assert [json.loads(row["dropped"]) for row in rows] == [
        {}, {"problem block missing": 1}, {"exact": 1, "near": 1}, {"contaminated by aime": 1}, {"truncated": 1},
        {"tie": 1}, {},
    ]  # fmt: skip
    assert funnel("b1", [], [], [], [], [], []) == []
    assert Counter(row["batch"] for row in rows) == {"b1": 7}


def test_a_problem_without_tests_counts_with_its_commonest_reason() -> None:
    key = {"domain": "code", "problem_id": "p", "expected": None}
    tests = [key | {"drop_reason": reason} for reason in ("no JSON object", "nobody agrees", "nobody agrees")]
    raw = [{"domain": "code", "problem": "x", "drop_reason": None}]
    rows = {row["step"]: row for row in funnel("b", raw, [], [key], [], tests, [])}
    assert (rows["labelled"]["rows"], json.loads(rows["labelled"]["dropped"])) == (0, {"nobody agrees": 1})


# ---- ledger
TABLES: dict[str, list[Row]] = {
    "concept_sets": [{}] * 5,
    "raw_problems": [{"problem": text} for text in ("a", "b", "c", "d", None, None)],
    "problems": [{}] * 3,
    "math_votes": [{"answer": "1"}, {"answer": "1"}, {"answer": None}],
    "math_answers": [{"answer": "1"}, {"answer": None}],
    "proposed_tests": [{"drop_reason": None}, {"drop_reason": "no JSON object"}],
    "candidate_programs": [{"finish_reason": "stop"}, {"finish_reason": "refused by the server"}],
    "code_tests": [{"problem_id": "p", "expected": value} for value in ("1", None, "2")],
    "teacher_traces": [
        {"problem_id": name, "valid": valid} for name, valid in (("p", True), ("p", False), ("q", True), ("r", False))
    ],
}
COSTS = {
    "concept_sets": Cost(0, 1.0), "raw_problems": Cost(1_000_000, 1800.0), "problems": Cost(0, 2.0),
    "math_votes": Cost(400_000, 500.0), "math_answers": Cost(100_000, 100.0), "proposed_tests": Cost(0, 100.0),
    "candidate_programs": Cost(200_000, 100.0), "code_tests": Cost(0, 100.0), "teacher_traces": Cost(300_000, 897.0),
}  # fmt: skip


def test_the_flow_of_a_batch() -> None:
    assert flow(TABLES) == {
        "concept_sets": (0, 5), "raw_problems": (5, 4), "problems": (4, 3), "math_votes": (3, 2),
        "math_answers": (2, 1), "proposed_tests": (2, 1), "candidate_programs": (2, 1), "code_tests": (1, 1),
        "teacher_traces": (3, 2),
    }  # fmt: skip


def test_written_and_tested_judges_are_in_the_flow_of_a_batch_that_has_them() -> None:
    judges: dict[str, list[Row]] = {
        "written_judges": [{"drop_reason": None}, {"drop_reason": "no program in what was written"}],
        "tested_judges": [{"decides": True}, {"decides": False}, {"decides": False}],
    }
    assert flow(TABLES | judges) == flow(TABLES) | {"written_judges": (2, 1), "tested_judges": (3, 1)}
    entries = ledger(TABLES | judges, COSTS | dict.fromkeys(judges, Cost(500_000, 100.0)), Prices(machine_hour=3.6))
    assert entries[-1].tokens == 3_000_000 and entries[-1].money == pytest.approx(3.8)
    before = {entry.step: entry for entry in ledger(TABLES, COSTS, Prices())}
    assert {entry.step for entry in entries} - before.keys() == judges.keys()


def test_every_step_pays_for_its_time_and_its_tokens() -> None:
    prices = Prices(machine_hour=2.0, million_tokens={"raw_problems": 0.5, "teacher_traces": 10})
    entries = {entry.step: entry for entry in ledger(TABLES, COSTS, prices)}
    assert entries["raw_problems"].money == pytest.approx(1.0 + 0.5)
    assert entries["math_votes"].money == pytest.approx(2 / 7.2)  # its tokens have no price
    assert entries["teacher_traces"].money == pytest.approx(897 / 1800 + 3)
    assert entries["raw_problems"].tokens_a_row == 250_000 and entries["math_votes"].seconds_a_row == 250
    total = entries["the batch"]
    assert (total.rows_in, total.rows_out, total.tokens, total.seconds) == (5, 2, 2_000_000, 3600.0)
    assert total.money == pytest.approx(2.0 + 0.5 + 3)
    assert a_kept_row(list(entries.values())) == {
        "tokens_a_kept_row": 1_000_000, "seconds_a_kept_row": 1800, "money_a_kept_row": pytest.approx(2.75),
    }  # fmt: skip


def test_without_prices_there_is_no_money_and_without_rows_no_price_of_one() -> None:
    entries = ledger(TABLES, COSTS, Prices())
    assert all(entry.money is None and entry.money_a_row is None for entry in entries)
    assert a_kept_row(entries).keys() == {"tokens_a_kept_row", "seconds_a_kept_row"}
    entries = ledger({name: [] for name in TABLES}, COSTS, Prices(machine_hour=1))
    assert entries[-1].money == pytest.approx(1.0) and a_kept_row(entries) == {}
