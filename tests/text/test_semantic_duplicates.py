"""Duplicates by meaning: against one pair at a time in plain Python, under every order; numbers are content."""

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.text.semantic_duplicates import FALL_SCHEMA, MEANING_SCHEMA, meanings, semantic_duplicates


def bag_of_words(texts):
    """A sentence model in the small: each word has a direction, digits have none; [n, 8] of unit length."""
    vectors = np.zeros((len(texts), 8), np.float32)
    for row, text in enumerate(texts):
        for word in (word for word in text.split() if not word.isdigit()):
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
            vectors[row] += np.random.default_rng(seed).normal(size=8)
        vectors[row] /= np.linalg.norm(vectors[row]) or 1.0
    return vectors


def meant(texts: dict[str, str]) -> pa.Table:
    table = pa.table(
        {"id": list(texts), "text": list(texts.values())}, pa.schema({"id": pa.string(), "text": pa.string()})
    )
    return meanings(table, bag_of_words)


def falls(batch: dict[str, str], former: dict[str, str], threshold: float = 0.95) -> dict[str, str]:
    found = semantic_duplicates(meant(batch), meant(former), threshold)
    assert found.schema == FALL_SCHEMA
    return dict(zip(found["id"].to_pylist(), found["survivor_id"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("left", "right", "same", "why"),
    [
        ("add 3 and 4 apples", "apples add 4 and 3", True, "other order, the same numbers"),
        ("add 3 and 4 apples", "add 3 and 5 apples", False, "another number"),
        ("add 3 and 3 apples", "add 3 and apples", False, "a number less often"),
        ("add 3 and 4 apples", "boil 3 eggs for 4 minutes", False, "other words"),
        ("what is a prime", "a prime is what", True, "no numbers at all"),
    ],
)
def test_what_means_the_same(left, right, same, why):
    assert falls({"a": left, "b": right}, {}) == ({"b": "a"} if same else {}), why
    assert falls({"a": left}, {"z": right}) == ({"a": "z"} if same else {}), why  # published ones come first


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "1", "2"]), min_size=1, max_size=5).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(WORDS, max_size=12),
    st.lists(WORDS, max_size=5),
    st.sampled_from([0.5, 0.9]),
    st.randoms(use_true_random=False),
)
def test_agrees_with_one_pair_at_a_time_in_any_order(texts, published, threshold, rng):
    batch = {f"p{i:02}": text for i, text in enumerate(texts)}
    former = {f"z{i:02}": text for i, text in enumerate(published)}
    rounded = {key: np.rint(bag_of_words([text])[0] * 2**20) for key, text in (former | batch).items()}

    def numbers(key: str) -> list[str]:
        return sorted(word for word in (former | batch)[key].split() if word.isdigit())

    stays, expected = list(former), {}
    for key in batch:
        cosines = {o: float(rounded[o] @ rounded[key]) / 2**40 for o in stays if numbers(o) == numbers(key)}
        best = max(cosines, key=lambda other: cosines[other], default=None)
        if best is not None and cosines[best] >= threshold:
            expected[key] = best
        else:
            stays.append(key)
    assert falls(batch, former, threshold) == expected
    shuffled = dict(rng.sample(list(batch.items()), len(batch)))
    assert falls(shuffled, former, threshold) == expected


def test_many_blocks_agree_with_one(monkeypatch):
    rng = random.Random(0)
    texts = {f"{i:03}": " ".join(rng.choices("abcdefgh", k=4)) for i in range(150)}
    once = falls(texts, {})
    monkeypatch.setattr("promptcot_assets.text.semantic_duplicates._BLOCK", 7)
    monkeypatch.setattr("promptcot_assets.text.semantic_duplicates._TEXTS", 11)
    assert falls(texts, {}) == once and 20 < len(once) < 150


def test_nothing_in_nothing_out():
    empty = MEANING_SCHEMA.empty_table()
    assert len(semantic_duplicates(empty, empty, 0.9)) == 0 and meant({}).schema == MEANING_SCHEMA
