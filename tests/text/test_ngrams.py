"""Tokens, fingerprints and n-grams of many texts at once against plain Python on one text."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.text.ngrams import mix, ranges, tokenize

TEXTS = st.lists(st.text(alphabet="aB1 2+-$.\n\0_{}é√数", max_size=30), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("text", "signs", "words"),
    [
        ("Let $4t+3 = 31$.", ["let", "4", "t", "+", "3", "=", "31"], ["let", "4t", "3", "31"]),
        ("x_{1} x_1 \\frac{1}{2}", ["x", "1", "x", "1", "frac", "1", "2"], ["x", "1", "x", "1", "frac", "1", "2"]),
        ("√3 ≤ x²", ["√", "3", "≤", "x", "2"], ["3", "x2"]),
        ("−5 “quoted”", ["-", "5", "quoted"], ["5", "quoted"]),
        ("ÜNÏ 数学 Straße", ["ünï", "数", "学", "strasse"], ["ünï", "数", "学", "strasse"]),
        ("a\0b", ["a", "b"], ["a", "b"]),
        ("++", ["+", "+"], []),
        ("", [], []),
    ],
)
def test_tokens(text, signs, words):
    assert tokenize([text]).words(0) == signs
    assert tokenize([text], symbols=False).words(0) == words


@given(TEXTS)
def test_a_text_is_cut_alike_alone_and_among_others(texts):
    together = tokenize(texts)
    alone = [tokenize([text]) for text in texts]
    assert [together.words(i) for i in range(len(texts))] == [one.words(0) for one in alone]
    assert np.array_equal(together.hashes, np.concatenate([one.hashes for one in alone]))
    assert np.array_equal(together.fingerprints(), np.concatenate([one.fingerprints() for one in alone]))
    numbers = np.concatenate([one.number_fingerprints() for one in alone])
    assert np.array_equal(together.number_fingerprints(), numbers)


@given(TEXTS, st.integers(1, 5))
def test_equal_hashes_mean_equal_tokens(texts, n):
    tokens = tokenize(texts)
    words = [tokens.words(i) for i in range(len(texts))]
    prints, numbers = tokens.fingerprints(), tokens.number_fingerprints()
    grams, counts = tokens.ngrams(n)
    grams = grams[ranges(tokens.offsets[:-1], counts)]
    plain = [[tuple(w[i : i + n]) for i in range(len(w) - n + 1)] for w in words]
    assert counts.tolist() == [len(each) for each in plain]
    seen: dict[int, tuple] = {}
    for gram, expected in zip(grams.tolist(), [gram for each in plain for gram in each], strict=True):
        assert seen.setdefault(gram, expected) == expected
    assert len(seen) == len({gram for each in plain for gram in each})
    digits = [[w for w in each if re.fullmatch(r"[0-9]+", w)] for each in words]
    for i in range(len(texts)):
        for j in range(i):
            assert (prints[i] == prints[j]) == (words[i] == words[j])
            assert (numbers[i] == numbers[j]) == (digits[i] == digits[j])


def test_long_words_are_told_apart_to_their_last_letter():
    words = ["abcdefgh", "abcdefghi", "abcdefghj", "x" * 100, "x" * 101, "x" * 99 + "y", "abcdefghabcdefgh"]
    assert len(set(tokenize(words).hashes.tolist())) == len(words)


def test_hashes_never_change():
    """They are stored in deduplication indexes: a change here needs a new kind of index."""
    tokens = tokenize(["Find the remainder when 4t + 3 is divided by 31."])
    assert mix(np.array([1], np.uint64)).tolist() == [6238072747940578789]
    assert tokens.fingerprints()[0] == 14150082295469336476
    assert tokens.number_fingerprints()[0] == 4058271945761060002
    assert tokens.ngrams(3)[0][0] == 13498562805913001752
