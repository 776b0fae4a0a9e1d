"""The concept sampler against exact probabilities worked out in plain Python, and the defects of the released one."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.stages import concepts
from promptcot_assets.stages.concepts import ConceptError, ConceptSampler, sample_levels

LISTS = [["b", "a"], ["a", "b", "c"], ["a", "d"], ["d", "e", "c"], ["a"], ["e", "b"]]
EMBEDDINGS = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0, -1, 2], [0, 0, 0]], float)  # of a, b, c, d, e


def exact_probability(order: tuple[str, ...], lists, embeddings, temperature: float) -> float:
    """Probability of drawing exactly this sequence, by the formula, one concept at a time."""
    names = sorted({name for one in lists for name in one})
    count = {i: sum(i in one for one in lists) for i in names}
    both = {(i, j): sum(i in one and j in one for one in lists) for i in names for j in names}
    vector = {name: np.zeros(1) if embeddings is None else embeddings[names.index(name)] for name in names}

    def cosine(left, right):
        lengths = np.linalg.norm(left) * np.linalg.norm(right)
        return left @ right / lengths if lengths else 0.0

    probability = count[order[0]] / sum(count.values())
    for step in range(1, len(order)):
        chosen = order[:step]
        centre = np.mean([vector[i] for i in chosen], axis=0)
        score = {
            j: np.mean([both[i, j] / count[i] for i in chosen]) + cosine(vector[j], centre)
            for j in names
            if j not in chosen
        }
        total = sum(np.exp(value / temperature) for value in score.values())
        probability *= np.exp(score[order[step]] / temperature) / total
    return float(probability)


def chi_square_p(drawn: Counter, probabilities: dict, n: int) -> float:
    from scipy.stats import chisquare

    assert set(drawn) <= set(probabilities) and sum(probabilities.values()) == pytest.approx(1)
    likely = [key for key, p in probabilities.items() if n * p >= 5]
    observed = [drawn[key] for key in likely] + [n - sum(drawn[key] for key in likely)]
    expected = [n * probabilities[key] for key in likely] + [n * (1 - sum(probabilities[key] for key in likely))]
    if expected[-1] < 5:  # too few for a class of their own
        observed[-2:], expected[-2:] = [sum(observed[-2:])], [sum(expected[-2:])]
    return float(chisquare(observed, np.array(expected) * n / sum(expected)).pvalue)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("embeddings", [None, EMBEDDINGS], ids=["co-occurrence only", "with embeddings"])
def test_sequences_are_drawn_with_their_exact_probabilities(embeddings, temperature):
    n = 20_000
    drawn = ConceptSampler(LISTS, embeddings, temperature=temperature).sample(n, size=3, seed=1)
    exact = {order: exact_probability(order, LISTS, embeddings, temperature) for order in permutations("abcde", 3)}
    assert chi_square_p(Counter(map(tuple, drawn)), exact, n) > 1e-3


def test_blocks_and_matrix_products_change_nothing(monkeypatch):
    """Vocabularies beyond one block, and beyond the size whose pairs are multiplied once, follow the same formula."""
    rng = np.random.default_rng(0)
    names = [f"concept {i:03}" for i in range(150)]
    lists = [list(rng.choice(names, 4, replace=False)) for _ in range(400)]
    embeddings = rng.standard_normal((150, 8))
    sampler = ConceptSampler(lists, embeddings)
    sets = sampler.sample(300, seed=3)
    monkeypatch.setattr(concepts, "_MAX_GRAM", 10)
    assert ConceptSampler(lists, embeddings).sample(300, seed=3) == sets
    n = 30_000
    seconds = Counter(second for _, second in sampler.sample(n, size=2, seed=4))
    exact = dict(zip(names, second_probabilities(lists, embeddings, names), strict=True))
    assert chi_square_p(seconds, exact, n) > 1e-3


def second_probabilities(lists, embeddings, names) -> np.ndarray:
    """Probability of each concept to come second, summed over all first ones."""
    member = np.array([[name in one for name in names] for one in lists], float)
    both, count = member.T @ member, member.sum(axis=0)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    weights = np.exp((both / count[:, None] + unit @ unit.T) / 0.2) * (1 - np.eye(len(names)))
    return count / count.sum() @ (weights / weights.sum(axis=1, keepdims=True))


# --- the defects of the released sampler (method.md section 9, item 1) ---


def test_similarities_belong_to_their_own_concepts():
    """Two clusters of embeddings, no co-occurrence: at a low temperature sets stay inside a cluster."""
    names = [f"{cluster}{i}" for cluster in "xy" for i in range(5)]
    embeddings = np.array([[1, 0.01 * i] if name[0] == "x" else [0.01 * i, 1] for i, name in enumerate(names)])
    for seed in range(3):
        for drawn in ConceptSampler([[name] for name in names], embeddings, temperature=0.02).sample(50, 3, seed):
            assert len({name[0] for name in drawn}) == 1


def test_large_counts_neither_overflow_nor_make_nan():
    lists = [["a", "b"]] * 100_000 + [["c", "d"]] * 3
    with np.errstate(all="raise", under="ignore"):
        drawn = ConceptSampler(lists, temperature=0.2).sample(500, size=4)
    assert all(sorted(one) == ["a", "b", "c", "d"] for one in drawn)


def test_the_seed_decides_and_sets_do_not_depend_on_how_many_follow():
    sampler = ConceptSampler(LISTS, EMBEDDINGS)
    assert sampler.sample(200, 3, seed=5) == ConceptSampler(LISTS[::-1], EMBEDDINGS).sample(200, 3, seed=5)
    assert sampler.sample(70, 3, seed=5) == sampler.sample(200, 3, seed=5)[:70]
    assert sampler.sample(200, 3, seed=5) != sampler.sample(200, 3, seed=6)


def test_embeddings_may_be_named():
    named = dict(zip("abcde", EMBEDDINGS, strict=True)) | {"of no list": [9.0, 9.0]}
    assert ConceptSampler(LISTS, named).sample(50, 3) == ConceptSampler(LISTS, EMBEDDINGS).sample(50, 3)


# --- what every set is ---


@given(st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=4), min_size=1), st.data())
def test_sets_are_distinct_known_concepts_of_the_asked_size(lists, data):
    known = {name for one in lists for name in one}
    size = data.draw(st.integers(1, len(known)))
    sampler = ConceptSampler(lists, temperature=data.draw(st.sampled_from([0.01, 0.2, 5])))
    assert sampler.concepts == sorted(known)
    for drawn in sampler.sample(9, size=size, seed=data.draw(st.integers(0, 2**32))):
        assert len(drawn) == len(set(drawn)) == size and set(drawn) <= known


def test_sizes_follow_their_weights_and_leave_the_draws_alone():
    sampler = ConceptSampler(LISTS)
    drawn = sampler.sample(9000, size={2: 1, 3: 2})
    assert chi_square_p(Counter(map(len, drawn)), {2: 1 / 3, 3: 2 / 3}, 9000) > 1e-3
    assert drawn == [full[: len(one)] for one, full in zip(drawn, sampler.sample(9000, size=3), strict=True)]


def test_levels():
    drawn = Counter(sample_levels(["easy", "hard"], 4000, seed=1))
    assert chi_square_p(drawn, {"easy": 0.5, "hard": 0.5}, 4000) > 1e-3
    assert set(sample_levels({"easy": 0, "hard": 3}, 100)) == {"hard"}
    assert sample_levels(["easy", "hard"], 10, seed=2) == sample_levels(["easy", "hard"], 99, seed=2)[:10]
    with pytest.raises(ConceptError, match="levels"):
        sample_levels([], 3)


@pytest.mark.parametrize(
    ("lists", "embeddings", "settings", "arguments", "says"),
    [
        ([], None, {}, {}, "no concept"),
        ([[]], None, {}, {}, "no concept"),
        ([["a"], "bc"], None, {}, {}, "list 1 "),
        ([["a", ""]], None, {}, {}, "list 0 "),
        ([["a", "b"]], np.zeros((3, 2)), {}, {}, r"shape \(3, 2\).* 2 sorted"),
        ([["a", "b"]], [[0.0, 1], [np.nan, 0]], {}, {}, "embedding of 'b' is not finite"),
        ([["a", "b"]], {"a": [0.0, 1]}, {}, {}, "1 concepts have no embedding, 'b' first"),
        ([["a", "b"]], None, {"temperature": 0}, {}, "temperature=0"),
        ([["a", "b"]], None, {}, {"size": 3}, "size=3: sets of 1 to 2"),
        ([["a", "b"]], None, {}, {"size": {0: 1}}, "size="),
        ([["a", "b"]], None, {}, {"size": {1: 0}}, "weights"),
    ],
)
def test_bad_input_is_named(lists, embeddings, settings, arguments, says):
    with pytest.raises(ConceptError, match=says):
        ConceptSampler(lists, embeddings, **settings).sample(1, **({"size": 1} | arguments))
