"""Rows gained, lost and changed against a comparison in Python, and the reasons that were planted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from promptcot_assets.lake import LakeError, Provenance
from promptcot_assets.lineage.changes import setting_changes
from promptcot_assets.lineage.difference import as_text, difference
from tests.small_home import Home, whole_arc


def problem(name: str, of: str, text: str) -> dict[str, Any]:
    return {"problem_id": name, "raw_problem_id": of, "concept_set_id": "set_1", "problem": text, "batch": "first"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Problems anew: one changed, one dropped by the step, one lost and one gained with its completion."""
    home = whole_arc(tmp_path / "home")
    raw = [{"raw_problem_id": f"raw_{n}", "concept_set_id": "set_1", "problem": f"new {n}?"} for n in (1, 2, 3, 4)]
    home.commit("raw_problems", raw, "concept_sets", partition="first")
    home.commit("problems", [problem(f"p{n}", f"raw_{n}", f"new {n}?") for n in (1, 2, 3)], "raw_problems",
                partition="first")  # fmt: skip
    home.commit("raw_problems", [*raw[:2], raw[3], {**raw[0], "raw_problem_id": "raw_5"}], "concept_sets",
                partition="first")  # fmt: skip
    changed = [{**problem("p1", "raw_1", "new 1?"), "well_posed": True}, problem("p5", "raw_5", "new 1?")]
    home.commit("problems", changed, "raw_problems", partition="first")
    home.commit("dropped_problems", [{"raw_problem_id": "raw_2", "problem": "new 2?", "reason": "near",
                                      "batch": "first"}], "raw_problems", partition="first")  # fmt: skip
    return home


def test_rows_and_their_reasons(home: Home) -> None:
    found = difference(home.path, "problems[first]")
    assert (found.gained, found.lost, found.changed, found.same) == (1, 2, 1, 0)
    assert found.columns == {"well_posed": 1}
    rows = {(row["change"], row["id"]): row for row in found.rows}
    assert set(rows) == {("gained", "p5"), ("lost", "p2"), ("lost", "p3"), ("changed", "p1")}
    assert rows["lost", "p2"]["why"] == "in dropped_problems of after: near"
    assert (
        rows["lost", "p3"]["why"] == "the row of raw_problems that it comes from is no longer in what after was made of"
    )
    assert rows["gained", "p5"]["why"] == "the row of raw_problems that it comes from is not in what before was made of"
    assert rows["changed", "p1"]["why"] == "what it comes from is in both, so it is this step"
    assert rows["changed", "p1"]["values"] == {"well_posed": {"before": None, "after": True}}
    (cause,) = found.causes
    assert cause.what == "input raw_problems" and cause.because == ()
    text = as_text(found)
    assert "gained 1, lost 2, changed 1, the same 0" in text and "lost 1: in dropped_problems of after: near" in text


def test_versions_named_either_way_round(home: Home) -> None:
    versions = [entry.version for entry in (one.ref for one in home.lake.history("problems"))]
    forth = difference(home.path, f"problems@{versions[-2]}", f"problems@{versions[-1]}")
    back = difference(home.path, f"problems@{versions[-1]}", f"problems[first]@{versions[-2]}")
    assert (forth.gained, forth.lost, forth.changed) == (back.lost, back.gained, back.changed) == (1, 2, 1)
    same = difference(home.path, f"problems@{versions[-1]}", "problems")
    assert (same.gained, same.lost, same.changed, same.same, same.causes) == (0, 0, 0, 2, [])
    assert "made of the same inputs by the same code, settings and seed" in as_text(same)


def test_every_row_that_differs_is_in_the_file(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "diff.parquet"
    difference(home.path, "problems[first]", out=out)
    rows = pq.read_table(out).to_pylist()
    changed = [row for row in rows if row["change"] == "changed"]
    assert [(row["id"], row["column"], row["before"], row["after"]) for row in changed] == [
        ("p1", "well_posed", None, "true")
    ]  # fmt: skip
    gained = {row["column"]: json.loads(row["after"]) for row in rows if row["change"] == "gained" and row["after"]}
    assert gained["raw_problem_id"] == "raw_5" and gained["problem"] == "new 1?"
    assert {row["id"] for row in rows if row["change"] == "lost"} == {"p2", "p3"}
    assert all(row["why"] for row in rows)


def test_rows_of_another_model_are_paired_by_what_they_are_about(home: Home) -> None:
    asked = [{"rollout_id": f"{model}_{k}", "problem_id": "problem_2", "attempt": k, "completion": f"{model} {k}",
              "model": model} for model in ("m1", "m2") for k in (0, 1)]  # fmt: skip
    home.commit("rollouts", asked[:2], "sft_model", partition="one")
    home.commit("rollouts", asked[2:], "sft_model", partition="two")
    found = difference(home.path, "rollouts[one]", "rollouts[two]")
    assert (found.gained, found.lost, found.changed) == (0, 0, 2)
    assert found.paired_by == ["problem_id", "domain", "attempt", "seed"]
    assert found.columns == {"completion": 2, "model": 2}
    assert {(row["id_before"], row["id"]) for row in found.rows} == {("m1_0", "m2_0"), ("m1_1", "m2_1")}


def test_models_are_compared_by_what_they_are_made_of(home: Home) -> None:
    home.train("sft_model", "student_base", "sft_examples", partition="tiny", weights="again", examples=9)
    found = difference(home.path, "sft_model[tiny]")
    assert (found.gained, found.lost, found.changed) == (0, 0, 1)
    assert found.columns["examples"] == 1


def test_causes_go_up_to_what_began_it(home: Home) -> None:
    def made(asset: str, settings: str, code: str, *inputs: Any) -> Provenance:
        return Provenance(code, settings, 0, "run", inputs)

    from promptcot_assets.tables import SCHEMAS
    from tests.small_home import row

    def commit(asset: str, rows: list[dict[str, Any]], made_from: Provenance) -> Any:
        import pyarrow as pa

        content = pa.Table.from_pylist([row(asset, **one) for one in rows], SCHEMAS[asset])
        return home.lake.commit(asset, [content], SCHEMAS[asset], made_from, "second")

    for k, code in ((1, "1"), (2, "2")):
        sets = commit("concept_sets", [{"concept_set_id": f"s{k}"}], made("concept_sets", f'[{{"n":{k}}}]', "1"))
        raw = commit("raw_problems", [{"raw_problem_id": f"r{k}"}], made("raw_problems", "[]", code, sets))
        commit("problems", [problem(f"x{k}", f"r{k}", "?")], made("problems", "[]", "1", raw))
    (cause,) = difference(home.path, "problems[second]").causes
    assert cause.what == "input raw_problems"
    code, sets = cause.because
    assert (code.what, code.before, code.after) == ("code", "1", "2")
    assert [(one.what, one.before, one.after) for one in sets.because] == [("setting n", "1", "2")]


def test_a_row_whose_source_changed_and_one_that_fell_say_so(home: Home) -> None:
    traces = [{"trace_id": f"t{n}", "problem_id": f"problem_{n}", "trace": "so", "valid": True} for n in (1, 2)]
    changed = [{"problem_id": f"problem_{n}", "problem": f"new {n}{'!' * (n == 1)}"} for n in (1, 2)]
    home.commit("problems", [{**row, "problem": f"new {n}"} for n, row in enumerate(changed, 1)], partition="third")
    home.commit("teacher_traces", traces, "problems", partition="third")
    home.commit("problems", changed, partition="third")
    home.commit("teacher_traces", [{**traces[0], "valid": False}, {**traces[1], "valid": False, "drop_reason": "long"}],
                "problems", partition="third")  # fmt: skip
    assert difference(home.path, "teacher_traces[third]").why == {
        "changed": {"drop_reason is long": 1, "the row of problems that it comes from differs": 1}
    }


def test_settings_are_compared_leaf_by_leaf() -> None:
    before, after = '[{"a":{"b":1,"c":[1]},"d":2}]', '[{"a":{"b":1,"c":[2]},"e":3}]'
    assert setting_changes(before, after) == [("a.c", "[1]", "[2]"), ("d", "2", None), ("e", None, "3")]


@pytest.mark.parametrize(("names", "message"), [
    (("problems", "rollouts"), "are of two tables"),
    (("concept_corpus",), "concept_corpus has replaced nothing"),
    (("problems@99", "problems"), "no commit problems@99"),
    (("nothing",), "no table or model 'nothing'"),
])  # fmt: skip
def test_what_cannot_be_compared_says_so(home: Home, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(LakeError, match=message):
        difference(home.path, *names)


def test_rows_that_are_gone_and_files_that_cannot_be_written(home: Home, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="cannot write"):
        difference(home.path, "problems[first]", out=tmp_path / "none" / "diff.parquet")
    first = home.lake.history("problems")[0].ref
    for file in (home.path / "lake" / "problems").glob("_part=first/*.parquet"):
        file.unlink()
    with pytest.raises(LakeError, match="its rows are gone"):
        difference(home.path, f"problems@{first.version}", "problems")
