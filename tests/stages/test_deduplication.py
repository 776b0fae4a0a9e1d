"""Deduplication against exhaustive comparison and datasketch, under every order, split and worker count."""

import json
import random
import re
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.stages.deduplication import DROPPED_SCHEMA, DeduplicationError, deduplicate, indexed, similarity
from promptcot_assets.text import sketches
from promptcot_assets.text.duplicate_index import compact

CASES = json.loads(Path(__file__).with_name("same_problems.json").read_text())


def rows_of(*texts: str) -> list[dict]:
    return [{"id": f"p{number:04}", "text": text} for number, text in enumerate(texts)]


def ids(rows) -> list[str]:
    return [row["id"] for row in rows]


# --- an independent oracle: every pair, one row at a time, in plain Python ---


@cache
def plain_tokens(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+|[-+/^=<>|!%()\[\]]", text.lower())


@cache
def plain_shingles(text: str, n: int = 3) -> tuple[set, list[str]]:
    tokens = plain_tokens(text)
    shingles = {tuple(tokens[i : i + n]) for i in range(max(len(tokens) - n + 1, 1))}
    return shingles, [token for token in tokens if token.isdigit()]


def plain_similarity(left: str, right: str) -> float:
    if plain_tokens(left) == plain_tokens(right):
        return 1.0
    (a, a_numbers), (b, b_numbers) = plain_shingles(left), plain_shingles(right)
    return len(a & b) / len(a | b) if a_numbers == b_numbers else 0.0


def exhaustively_kept(batches: list[list[dict]], threshold: float) -> list[str]:
    kept: list[dict] = []
    for batch in batches:
        for row in sorted(batch, key=lambda row: row["id"]):
            if all(plain_similarity(other["text"], row["text"]) < threshold for other in kept):
                kept.append(row)
    return ids(kept)


def corpus(size: int, seed: int, words: int = 40) -> list[dict]:
    """Statements, a third of them edited copies of others at every distance around the threshold, some of copies."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 9))) for _ in range(800)] + [
        str(i) for i in range(9)
    ]
    texts: list[list[str]] = []
    for _ in range(size):
        text = rng.choices(vocabulary, k=words)
        if texts and rng.random() < 0.35:
            text = list(rng.choice(texts))
            for _ in range(rng.randint(0, 5)):
                text[rng.randrange(len(text))] = rng.choice(vocabulary)
        texts.append(text)
    names = rng.sample(range(10**6), size)
    return [{"id": f"{name:06}", "text": " ".join(text)} for name, text in zip(names, texts, strict=True)]


# --- what is the same ---


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_what_counts_as_the_same_problem(case):
    result = deduplicate(rows_of(case["left"], case["right"]))
    reasons = [row["reason"] for row in result.dropped]
    assert reasons == ([case["reason"]] if case["reason"] else [])
    assert len(result.kept) + len(result.dropped) == 2


def test_numbers_as_text_and_other_settings():
    left = (
        "Let A be the root of 4t + 3 = 31. Let B be the larger share of 35 split 2:5. Find the remainder of A + B by 6."
    )
    right = left.replace("by 6", "by 7")
    assert similarity(left, right) == 0 and similarity(left, right, numbers="text") == pytest.approx(29 / 31)
    assert ids(deduplicate(rows_of(left, right), numbers="text").kept) == ["p0000"]
    assert len(deduplicate(rows_of(left, right), numbers="text", threshold=0.95).kept) == 2
    assert similarity("a b c d", "a b c e", shingle=1) == pytest.approx(3 / 5)


MARKED = st.lists(st.sampled_from(["a", "bb", "ccc", "1", "2", "+", "-", ".", "$", ","]), max_size=12).map(" ".join)


@given(MARKED, MARKED)
def test_similarity_agrees_with_plain_python(left, right):
    assert similarity(left, right) == similarity(right, left) == pytest.approx(plain_similarity(left, right))


def test_a_chain_falls_as_its_ids_say():
    words = [f"w{chr(97 + i)}" for i in range(20)]
    a, b, c = ([*words[:6], *middle, *words[10:]] for middle in (["x", "y"], ["y", "y"], ["y", "z"]))
    chain = [" ".join(text) for text in (a, b, c)]
    near = [similarity(chain[0], chain[1]), similarity(chain[1], chain[2]), similarity(chain[0], chain[2])]
    threshold = (near[2] + min(near[:2])) / 2
    assert near[2] < threshold < min(near[:2])  # a ~ b ~ c, a and c differ
    for order, kept in {(0, 1, 2): {0, 2}, (1, 0, 2): {1}, (0, 2, 1): {0, 2}, (2, 1, 0): {0, 2}}.items():
        rows = [{"id": f"{order.index(who)}", "text": chain[who]} for who in range(3)]
        stays = {order[int(row["id"])] for row in deduplicate(rows, threshold=threshold).kept}
        assert stays == kept, order


# --- the kept set ---


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_kept_set_is_that_of_exhaustive_comparison(threshold):
    rows = corpus(700, seed=1)
    assert ids(deduplicate(rows, threshold=threshold).kept) == exhaustively_kept([rows], threshold)


def test_kept_set_is_that_of_datasketch_with_exact_verification():
    datasketch = pytest.importorskip("datasketch")
    rows = sorted(corpus(400, seed=2), key=lambda row: row["id"])
    lsh, kept = datasketch.MinHashLSH(params=(32, 4), num_perm=128), {}
    for row in rows:
        tokens = plain_tokens(row["text"])
        sketch = datasketch.MinHash(num_perm=128)
        sketch.update_batch([" ".join(tokens[i : i + 3]).encode() for i in range(len(tokens) - 2)])
        if all(plain_similarity(kept[other], row["text"]) < 0.8 for other in lsh.query(sketch)):
            lsh.insert(row["id"], sketch)
            kept[row["id"]] = row["text"]
    assert ids(deduplicate(rows).kept) == list(kept)


def test_minhash_estimates_jaccard_as_well_as_128_permutations_should():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        shared, own = int(rng.integers(20, 100)), int(rng.integers(0, 60))
        grams = rng.integers(0, 2**64, shared + 2 * own, dtype=np.uint64)
        both = np.concatenate((grams[: shared + own], grams[:shared], grams[shared + own :]))
        found = sketches.Shingles(both, np.array([0, shared + own]), np.array([shared + own, shared + own]))
        left, right = sketches.minhash(found, 128)
        jaccard = shared / (shared + 2 * own)
        errors.append((np.mean(left == right) - jaccard) / np.sqrt(jaccard * (1 - jaccard) / 128 + 1e-4))
    assert abs(np.mean(errors)) < 0.2 and np.std(errors) < 1.15  # unbiased, no wider than independent permutations


STATEMENTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "1", "2"]), min_size=1, max_size=9).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(STATEMENTS, max_size=14),
    st.randoms(use_true_random=False),
    st.sampled_from([0.3, 0.5, 0.8]),
    st.integers(0, 14),
)
def test_order_workers_and_storage_change_nothing_and_batches_follow_the_oracle(statements, rng, threshold, cut):
    rows = rows_of(*statements)
    rng.shuffle(rows)
    batches = [rows[:cut], rows[cut:]]
    index, kept, dropped = None, [], []
    for batch in batches:
        result = deduplicate(batch, index, threshold=threshold)
        again = deduplicate(
            rng.sample(batch, len(batch)), index and shuffled(index, rng), threshold=threshold, workers=2
        )
        assert (again.kept, again.dropped) == (result.kept, result.dropped) and again.added.equals(result.added)
        index, kept, dropped = result.index, kept + result.kept, dropped + result.dropped
    assert ids(kept) == exhaustively_kept(batches, threshold) == index["id"].to_pylist()
    assert sorted(ids(kept) + ids(dropped)) == ids(rows_of(*statements))
    check_evidence(rows, kept, dropped, threshold)


def shuffled(table: pa.Table, rng: random.Random) -> pa.Table:
    return table.take(rng.sample(range(len(table)), len(table)))


def check_evidence(rows, kept, dropped, threshold):
    text_of = {row["id"]: row["text"] for row in rows}
    survivors = set(ids(kept))
    for row in dropped:
        survivor, fallen = text_of[row["survivor_id"]], text_of[row["id"]]
        assert row["survivor_id"] in survivors
        assert row["similarity"] == pytest.approx(plain_similarity(survivor, fallen)) and row["similarity"] >= threshold
        assert (row["reason"] == "exact") == (plain_tokens(survivor) == plain_tokens(fallen))
        assert row["shared_span"] and row["shared_span"] in fallen


@settings(max_examples=30, deadline=None)
@given(st.lists(STATEMENTS, max_size=14), st.integers(1, 6), st.sampled_from([0.3, 0.8]), st.integers(0, 14))
def test_in_parts_the_kept_set_is_the_same(statements, rows_at_once, threshold, cut):
    rows = rows_of(*statements)
    index = deduplicate(rows[:cut], threshold=threshold).index
    whole = deduplicate(rows[cut:], index, threshold=threshold)
    parts = deduplicate(rows[cut:], index, threshold=threshold, rows_at_once=rows_at_once)
    assert parts.kept == whole.kept and ids(parts.dropped) == ids(whole.dropped)
    assert parts.index["id"].to_pylist() == whole.index["id"].to_pylist()
    check_evidence(rows, rows_of(*statements)[:cut] + parts.kept, parts.dropped, threshold)


def test_parts_spill_to_files_and_still_make_an_index(tmp_path):
    rows = corpus(400, seed=8)
    whole = deduplicate(rows[:300])
    parts = deduplicate(rows[:300], rows_at_once=100, spill=tmp_path)
    assert parts.kept == whole.kept and len(list(tmp_path.iterdir())) == 3
    assert parts.index.equals(parts.added) and parts.index["text"].to_pylist() == whole.index["text"].to_pylist()
    assert deduplicate(rows[300:], parts.index).kept == deduplicate(rows[300:], whole.index).kept


def test_what_is_indexed_takes_precedence_also_near_duplicates_of_one_another():
    published = rows_of("a b c d e f g", "a b c d e f g h", "a b c d e f g h i")
    index = indexed(published, threshold=0.6)
    assert index["id"].to_pylist() == ids(published)
    result = deduplicate([{"id": "new", "text": "a b c d e f g h i j"}], index, threshold=0.6)
    assert (result.dropped[0]["survivor_id"], result.dropped[0]["similarity"]) == ("p0002", 7 / 8)
    assert len(indexed([])) == 0


def test_evidence_on_a_corpus():
    rows = corpus(500, seed=3)
    result = deduplicate(rows)
    assert len(result.dropped) > 50 and {row["reason"] for row in result.dropped} == {"exact", "near"}
    check_evidence(rows, result.kept, result.dropped, 0.8)
    near = next(row for row in result.dropped if row["reason"] == "near")
    survivor = next(row["text"] for row in rows if row["id"] == near["survivor_id"])
    assert near["shared_span"] in survivor and len(near["shared_span"].split()) >= 3


def test_a_crowd_of_candidates_is_settled_exactly():
    """Sixty statements of one template, each near its neighbours only: long chains, many rounds."""
    pool = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(100)]
    rows = [{"id": f"{(i * 37) % 60:02}", "text": " ".join(pool[i : i + 30])} for i in range(60)]
    assert ids(deduplicate(rows, threshold=0.6).kept) == exhaustively_kept([rows], 0.6)


# --- the index ---


def test_index_survives_parquet_shuffling_losses_and_compaction(tmp_path):
    rows = corpus(600, seed=4)
    first = deduplicate(rows[:200])
    second = deduplicate(rows[200:400], first.index)
    expected = deduplicate(rows[400:], second.index)
    pq.write_table(second.index, tmp_path / "index.parquet", row_group_size=37)
    stored = pq.read_table(tmp_path / "index.parquet")
    for index in (
        stored,
        shuffled(stored, random.Random(0)),
        compact(stored),
        pa.concat_tables([second.added, first.index]),
    ):
        result = deduplicate(rows[400:], index)
        assert (result.kept, result.dropped) == (expected.kept, expected.dropped)
    assert len(compact(stored)["run"].unique()) == 1
    # rows recalled from the index no longer stand in the way of others
    without = second.index.filter(pa.array([number % 3 > 0 for number in range(len(second.index))]))
    oracle = exhaustively_kept([without.select(["id", "text"]).to_pylist(), rows[400:]], 0.8)
    assert ids(deduplicate(rows[400:], without).kept) == oracle[len(without) :]


def test_index_survives_a_delta_table(tmp_path):
    """As the lake stores it: one commit a batch, read back in whatever order and types Delta has."""
    from deltalake import DeltaTable, write_deltalake

    rows, index = corpus(300, seed=7), None
    for batch in (rows[:100], rows[100:200]):
        result = deduplicate(batch, index)
        write_deltalake(tmp_path / "index", result.added, mode="append")
        index = pa.table(DeltaTable(tmp_path / "index").to_pyarrow_table())
        assert sorted(index["id"].to_pylist()) == sorted(result.index["id"].to_pylist())
    assert ids(deduplicate(rows[200:], index).kept) == ids(deduplicate(rows[200:], result.index).kept)


def test_added_is_what_the_index_gained_and_former_rows_stay():
    rows = corpus(300, seed=5)
    first = deduplicate(rows[:150])
    second = deduplicate(rows[150:], first.index)
    assert second.index.slice(0, len(first.index)).equals(first.index)
    assert second.index.slice(len(first.index)).equals(second.added)
    assert second.added["id"].to_pylist() == ids(second.kept)
    assert deduplicate([], second.index).index.equals(second.index)


def test_tables_in_tables_out_with_their_other_columns():
    rows = [{**row, "seed": number} for number, row in enumerate(corpus(100, seed=6))]
    as_table, as_rows = deduplicate(pa.Table.from_pylist(rows)), deduplicate(rows)
    assert as_table.kept.to_pylist() == as_rows.kept and "seed" in as_table.kept.column_names
    assert as_table.dropped.schema == DROPPED_SCHEMA and as_table.dropped.to_pylist() == as_rows.dropped


def test_nothing_in_nothing_out():
    result = deduplicate([])
    assert (result.kept, result.dropped, len(result.index)) == ([], [], 0)
    assert len(compact(result.index)) == 0


@pytest.mark.parametrize(
    ("rows", "arguments", "says"),
    [
        ([{"id": "a"}], {}, "problem 0 .* no `text`"),
        ([{"id": "a", "text": "x"}, {"text": "y"}], {}, "problem 1 .* no `id`"),
        ([{"id": "a", "text": None}], {}, "no `text`"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], {}, "id a: two rows"),
        ([], {"threshold": 1.2}, "threshold=1.2"),
        ([], {"shingle": 0}, "shingle=0"),
        ([], {"numbers": "ignore"}, "numbers='ignore'"),
        ([], {"rows_at_once": 0}, "rows_at_once=0"),
        ([], {"index": pa.table({"id": ["a"]})}, "the index lacks"),
        (pa.table({"id": ["a"]}), {}, "no column `text`"),
    ],
)
def test_bad_input_is_named(rows, arguments, says):
    with pytest.raises(DeduplicationError, match=says):
        deduplicate(rows, **arguments)


def test_an_index_of_other_settings_is_refused():
    index = deduplicate(rows_of("one two three")).index
    with pytest.raises(DeduplicationError, match=r"made with 'threshold=0.8 .*asked for is 'threshold=0.7"):
        deduplicate([], index, threshold=0.7)
