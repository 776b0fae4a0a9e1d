import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.lake import Provenance, Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Deduplication
from promptcot_assets.stages.decontamination import DecontaminationError
from promptcot_assets.stages.synthesis.problem_set import Encoder, contamination, kept_rows, published, settle
from promptcot_assets.tables import SCHEMAS, open_lake
from tests.stages.assembled import assemble

SETTINGS = Deduplication()
LONG = (
    "A farmer has 12 red hens and 30 white hens in a yard behind the old mill near the river and sells 7 of them at "
    "the market on Friday. How many hens does the farmer have left?"
)
BENCHMARK = [
    {"benchmark": "aime", "item_id": "i1", "problem": LONG},
    {"benchmark": "hmmt", "item_id": "i2", "problem": "What is 2 + 2?"},
]


def raw(number: int, problem: str | None, **changed: object) -> Row:
    return {
        "raw_problem_id": f"r{number}", "concept_set_id": "c", "domain": "maths", "concepts": ["a"], "level": "easy",
        "rationale": "why", "problem": problem, "well_posed": None, "problem_generator": "p", "batch": "b1",
        "drop_reason": None if problem else "problem block missing", "completion": problem or "", "seed": number,
        "finish_reason": "stop", "tokens": 1, "logprob": -1.0, **changed,
    }  # fmt: skip


def reasons(dropped: list[Row]) -> dict[str, str]:
    return {row["raw_problem_id"]: row["reason"] for row in dropped}


def test_every_parsed_problem_is_kept_or_dropped_with_its_reason() -> None:
    rows = [
        raw(0, "What is $3 + 4$?"),
        raw(1, "what is   3 + 4?"),  # the same, in other clothes
        raw(2, None),
        raw(3, "What is 2 + 2?"),
        raw(4, LONG.replace("A farmer", "My uncle")),
        raw(5, "Find the value of"),
        raw(6, "Find $x$ in the figure below."),
        raw(7, "Known already?"),
        raw(8, "What is $3 + 5$?"),
    ]
    former = [{"problem_id": "s1", "problem": "Known already?"}]
    kept, dropped = assemble(rows, former, BENCHMARK, SETTINGS)
    assert {row["raw_problem_id"] for row in kept} == {"r0", "r8"}
    assert reasons(dropped) == {
        "r1": "exact", "r3": "contaminated by hmmt", "r4": "contaminated by aime", "r5": "truncated",
        "r6": "refers to a figure it does not have", "r7": "exact",
    }  # fmt: skip
    evidence = {row["raw_problem_id"]: row for row in dropped}
    assert (evidence["r1"]["survivor_id"], evidence["r1"]["similarity"]) == ("r0", 1.0)
    assert evidence["r7"]["survivor_id"] == "s1"
    assert evidence["r4"]["survivor_id"] == "i1" and "red hens and 30 white hens" in evidence["r4"]["matched_span"]
    assert evidence["r5"]["survivor_id"] is evidence["r5"]["similarity"] is None


def test_a_good_problem_is_not_lost_to_one_like_it_that_falls_itself() -> None:
    whole = "A train leaves the town at noon and runs 60 miles an hour for 5 hours; how far does it get in all?"
    kept, dropped = assemble([raw(0, whole[:-5]), raw(1, whole)], [], BENCHMARK, SETTINGS)
    assert [row["raw_problem_id"] for row in kept] == ["r1"] and reasons(dropped) == {"r0": "truncated"}


def test_a_kept_problem_has_the_id_of_its_text_and_its_whole_ancestry() -> None:
    ((kept,), _) = assemble([raw(0, "What is $3 + 4$?")], [], BENCHMARK, SETTINGS)
    assert kept["problem_id"] == content_id("maths", "What is $3 + 4$?")
    assert (kept["raw_problem_id"], kept["concept_set_id"], kept["problem_generator"], kept["batch"]) == (
        "r0",
        "c",
        "p",
        "b1",
    )


def test_what_earlier_batches_kept_is_never_withdrawn() -> None:
    text = "A train leaves the town at noon and runs 60 miles an hour for 5 hours; how far does it get in all?"
    near = text.replace("in all?", "in total?")
    kept, dropped = assemble([raw(0, near)], [{"problem_id": "z", "problem": text}], BENCHMARK, SETTINGS)
    assert not kept and reasons(dropped) == {"r0": "near"}
    kept, _ = assemble([raw(0, near)], [{"problem_id": "z", "problem": text.replace("60", "80")}], BENCHMARK, SETTINGS)
    assert len(kept) == 1  # numbers are content


def test_the_first_of_several_benchmark_hits_is_named() -> None:
    both = [{"benchmark": name, "item_id": name, "problem": "What is 2 + 2?"} for name in ("b", "a")]
    found = contamination([raw(0, "What is 2 + 2?"), raw(1, "What is 2 + 3?")], both, 13)
    assert list(found) == ["r0"] and found["r0"]["benchmark"] == "a"


def test_the_ngram_of_the_settings_decides() -> None:
    shared = " ".join(LONG.split()[:14])
    rows = [raw(0, f"{shared} on Monday?")]
    assert reasons(assemble(rows, [], BENCHMARK, SETTINGS)[1]) == {"r0": "contaminated by aime"}
    assert assemble(rows, [], BENCHMARK, Deduplication(decontamination_ngram=30))[1] == []


def test_nothing_in_gives_nothing_out() -> None:
    assert assemble([], [], BENCHMARK, SETTINGS) == ([], [])
    assert assemble([raw(0, None)], [], BENCHMARK, SETTINGS) == ([], [])


def test_without_a_benchmark_nothing_can_be_called_clean() -> None:
    with pytest.raises(DecontaminationError, match="name the benchmarks in use"):
        assemble([raw(0, "What is $3 + 4$?")], [], [], SETTINGS)


TEXTS = ["What is $3 + 4$?", "What is 2 + 2?", "Find the value of", "What is $9 - 1$?", "Is it so?", None]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(TEXTS), max_size=8), st.randoms(use_true_random=False))
def test_the_sets_add_up_and_do_not_depend_on_the_order_of_rows(texts: list, rng: random.Random) -> None:
    rows = [raw(number, text) for number, text in enumerate(texts)]
    former = [{"problem_id": "s", "problem": "Is it so?"}]
    kept, dropped = assemble(rows, former, BENCHMARK, SETTINGS)
    parsed = {row["raw_problem_id"] for row in rows if row["problem"] is not None}
    fates = [row["raw_problem_id"] for row in (*kept, *dropped)]
    assert sorted(fates) == sorted(parsed)
    assert len({row["problem_id"] for row in kept}) == len(kept)
    again = assemble(rng.sample(rows, len(rows)), former, BENCHMARK, SETTINGS)
    assert [sorted(map(str, part)) for part in again] == [sorted(map(str, part)) for part in (kept, dropped)]


def test_a_near_duplicate_of_a_former_problem_falls_even_if_that_one_is_near_another_former_one() -> None:
    """Former problems are never withdrawn from the comparison, also not for one another."""
    words = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)]

    def text(changed: list[int]) -> str:
        return " ".join("other" + word if i in changed else word for i, word in enumerate(words)) + "?"

    former = [{"problem_id": "s0", "problem": text([])}, {"problem_id": "s1", "problem": text([10, 20])}]
    kept, dropped = assemble([raw(0, text([10, 20, 30, 40]))], former, BENCHMARK, SETTINGS)
    assert not kept
    assert (dropped[0]["reason"], dropped[0]["survivor_id"]) == ("near", "s1")


def test_published_problems_are_indexed_once_and_take_precedence_batch_after_batch(tmp_path: Path) -> None:
    lake, refs = open_lake(tmp_path), []
    texts = [f"A {word} train runs {miles} miles; how far is that in all?" for word in "abc" for miles in (10, 20)]
    for batch in range(3):  # each batch repeats all of the former ones
        rows = [raw(10 * batch + i, text, batch=f"b{batch}") for i, text in enumerate(texts[: 2 * batch + 2])]
        given = pa.Table.from_pylist(rows, SCHEMAS["raw_problems"]).to_batches()
        fates = settle(given, published(lake, refs, SETTINGS), BENCHMARK, SETTINGS, tmp_path / "scratch")
        kept = pa.concat_tables(kept_rows(given, fates.kept))
        assert kept["problem"].to_pylist() == texts[2 * batch : 2 * batch + 2]
        assert set(fates.dropped["survivor_id"].to_pylist()) == {
            content_id("maths", text) for text in texts[: 2 * batch]
        }
        refs.append(lake.commit("problems", [kept], SCHEMAS["problems"], Provenance("1", "{}", batch), f"b{batch}"))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("derived/*/*/*")}
    assert len(files) == 2  # the last batch is indexed when one comes after it
    assert len(published(lake, refs[:2], SETTINGS).index) == 4
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.glob("derived/*/*/*")}
    published(lake, refs, Deduplication(threshold=0.9))
    assert len(list(tmp_path.glob("derived/*"))) == 2  # other settings have an index of their own


def test_problems_of_one_meaning_fall_last_and_name_whom_they_repeat() -> None:
    def embed(texts: Sequence[str]) -> np.ndarray:
        """A sentence model in the small: sums are one direction, everything else another."""
        return np.array([[1, 0] if "sum" in text or "add" in text else [0, 1] for text in texts], np.float32)

    values = Deduplication(semantic_threshold=0.9)
    rows = [
        raw(0, "What is the sum of 3 and 4?"),
        raw(1, "Please add 4 to 3; what do you get?"),
        raw(2, "What is the sum of 3 and 5?"),
        raw(3, "How large is the sum of 8 and 9?"),
        raw(4, "How often does 3 go into 4?"),
        raw(5, "How large is the sum if 2 is added to 2?"),
    ]
    items = [{"benchmark": "hmmt", "item_id": "s1", "problem": "Find the sum of 2 and 2."}]
    former = [{"problem_id": "s", "problem": "If you add 9 and 8, what is it?"}]
    kept, dropped = assemble(rows, former, items, values, Encoder(embed, "small"))
    assert {row["raw_problem_id"] for row in kept} == {"r0", "r2", "r4"}
    assert {(row["raw_problem_id"], row["reason"], row["survivor_id"]) for row in dropped} == {
        ("r1", "semantic", "r0"),
        ("r3", "semantic", "s"),
        ("r5", "contaminated by hmmt", "s1"),
    }
    assert assemble(rows, former, items, values)[1] == []
