"""Concept sets for synthesis: which concepts a new problem should combine, and at which level (method.md section 4).

The sampler of PromptCoT 1.0 made right. The first concept of a set is drawn in proportion to the number of seed lists
it stands in. Each further one is drawn, without replacement, from

    p(j | chosen) ∝ exp((mean of C[i, j] / C[i, i] over chosen i + cos(e_j, mean of e_i over chosen i)) / temperature)

where C[i, j] counts the lists with both i and j (C[i, i] those with i) and e are embeddings. Both terms lie in [-1, 1],
so nothing overflows however large the corpus; every similarity stays attached to its own concept, and the same seed
gives the same sets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BATCH = 64  # sets drawn together: their score rows stay in the core's cache
_BLOCK = 64
_MAX_GRAM = 8192  # concepts up to which all pairs of embeddings are multiplied once (256 MiB); beyond, on the way

Floats = NDArray[np.float32]
Sizes = int | Mapping[int, float]


class ConceptError(ValueError):
    """Concept lists, embeddings or settings that cannot be sampled from: names the list or setting and the mend."""


@dataclass
class _Draft:
    """A batch of sets being drawn; all arrays have one row a set and one column a concept."""

    chosen: NDArray[np.int64]  # [sets, size], -1 where still to come
    co_occurrence: Floats  # sum over the chosen of C[i, j] / C[i, i]
    dots: Floats  # sum over the chosen of e_i . e_j / |e_j|


class ConceptSampler:
    """Draws concept sets after the statistics of `concept_lists`; build one per domain to keep domains apart."""

    def __init__(
        self,
        concept_lists: Sequence[Sequence[str]],
        embeddings: Any = None,
        *,
        temperature: float = 0.2,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """`embeddings` [concepts, d] has one row for each of `self.concepts`, the sorted distinct names, or maps each
        name to its vector; None leaves co-occurrence alone to decide. `weights` multiply the chance of the concepts
        that they name at every draw.

        Raises: ConceptError on lists without concepts, on embeddings of another shape, missing or not finite, on
        a temperature that is not positive, and on a weight that is not.
        """
        if not temperature > 0:
            raise ConceptError(f"temperature={temperature}: must be positive; the paper's sampler uses 0.2")
        self.temperature = float(temperature)
        self.concepts = _names(concept_lists)
        counts, self._conditional = _statistics(concept_lists, self.concepts)
        self._favour = None if weights is None else _favour(weights, self.concepts)
        if self._favour is not None:
            counts = counts * self._favour
        self._shares = np.cumsum(counts[:-1], dtype=float) / counts.sum(
            dtype=float
        )  # of all concepts up to each but the last
        self._embeddings = None if embeddings is None else _checked(embeddings, self.concepts)
        self._gram: Floats | None = None
        if self._embeddings is not None:
            self._lengths = np.sqrt((self._embeddings**2).sum(axis=1))
            self._directions = self._embeddings * _inverse_root(self._lengths**2)[:, None]
            if len(self.concepts) <= _MAX_GRAM:
                self._gram = self._embeddings @ self._directions.T

    def sample(self, n: int, size: Sizes = 5, seed: int = 0) -> list[list[str]]:
        """`n` sets of distinct concepts in the order drawn. The first k sets are the same for every n >= k.

        `size` is the number of concepts in each set, or maps sizes to their weights.
        Raises: ConceptError when a size is below 1 or above the number of concepts.
        """
        for_sizes, for_draws = np.random.default_rng(seed).spawn(2)
        sizes = _drawn_sizes(size, n, len(self.concepts), for_sizes)
        uniforms = for_draws.random((n, int(_largest(size))))
        sets: list[list[str]] = []
        for start in range(0, n, _BATCH):
            some = slice(start, start + _BATCH)
            for chosen, length in zip(self._draw(uniforms[some]), sizes[some].tolist(), strict=True):
                sets.append([self.concepts[concept] for concept in chosen[:length]])
        return sets

    def _draw(self, uniforms: NDArray[np.float64]) -> list[list[int]]:
        """One set for each row of `uniforms` [sets, size]; a smaller set is a prefix of a larger one."""
        shape = (len(uniforms), len(self.concepts))
        draft = _Draft(
            chosen=np.full(uniforms.shape, -1),
            co_occurrence=np.zeros(shape, np.float32),
            dots=np.zeros(shape, np.float32),
        )
        draft.chosen[:, 0] = np.searchsorted(self._shares, uniforms[:, 0], "right")
        for step in range(1, uniforms.shape[1]):
            self._add(draft, draft.chosen[:, step - 1])
            draft.chosen[:, step] = _pick(self._weights(draft, step), uniforms[:, step])
        return draft.chosen.tolist()

    def _add(self, draft: _Draft, new: NDArray[np.int64]) -> None:
        """Take one more chosen concept of each set into the sums."""
        some = self._conditional[new]
        draft.co_occurrence[np.repeat(np.arange(len(new)), np.diff(some.indptr)), some.indices] += some.data
        if self._gram is not None:
            draft.dots += self._gram[new]
        elif self._embeddings is not None:
            draft.dots += self._embeddings[new] @ self._directions.T

    def _weights(self, draft: _Draft, step: int) -> Floats:
        """exp(score / temperature) up to a factor a row; 0 for what is already chosen. [sets, concepts]"""
        rows, chosen = np.arange(len(draft.chosen))[:, None], draft.chosen[:, :step]
        scores = draft.co_occurrence * np.float32(1 / step / self.temperature)
        if self._embeddings is not None:
            # |sum of the chosen|^2 is the sum of their dots with each other; the cosine does not care for the 1 / step
            squares = (draft.dots[rows, chosen] * self._lengths[chosen]).sum(axis=1)
            scores += draft.dots * (_inverse_root(squares) / np.float32(self.temperature))[:, None]
        scores[rows, chosen] = -np.inf
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        if self._favour is not None:
            scores *= self._favour
        return scores


def sample_levels(levels: Sequence[str] | Mapping[str, float], n: int, seed: int = 0) -> list[str]:
    """`n` difficulty levels, uniform over `levels` or by their weights. The first k are the same for every n >= k."""
    weights = dict(levels) if isinstance(levels, Mapping) else dict.fromkeys(levels, 1.0)
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ConceptError(f"levels={levels!r}: name at least one level, with weights that are not negative")
    names = list(weights)
    uniforms = np.random.default_rng(seed).random(n)
    rows = np.tile(np.array(list(weights.values()), np.float32), (n, 1))
    return [names[level] for level in _pick(rows, uniforms).tolist()]


def _pick(weights: Floats, uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row of weights the column at which their running sum passes the share `uniforms` of the total.

    In two steps, a block and a column in it, since a running sum over thousands of columns would cost the most of all.
    """
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, weights.shape[1], _BLOCK), axis=1), axis=1, dtype=float)
    targets = uniforms * blocks[:, -1]
    block = _passed(blocks, targets)
    rows = np.arange(len(weights))
    targets -= np.where(block > 0, blocks[rows, block - 1], 0)
    columns = block[:, None] * _BLOCK + np.arange(_BLOCK)
    inside = np.where(columns < weights.shape[1], weights[rows[:, None], columns.clip(max=weights.shape[1] - 1)], 0)
    return block * _BLOCK + _passed(np.cumsum(inside, axis=1, dtype=float), targets)


def _passed(sums: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first column whose running sum exceeds the target; rounding cannot lead to a column of weight 0."""
    return np.minimum((sums <= targets[:, None]).sum(axis=1), (sums < sums[:, -1:]).sum(axis=1))


def _inverse_root(squares: Floats) -> Floats:
    """1 / sqrt, and 0 where there is no length to divide by: the cosine with a zero vector is 0."""
    return np.where(squares > 0, 1 / np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny)), 0).astype(np.float32)


def _favour(weights: Mapping[str, float], names: list[str]) -> Floats:
    """The weight of each concept, 1 where none is named."""
    for name, weight in weights.items():
        if not (weight > 0 and np.isfinite(weight)):
            raise ConceptError(f"the weight of {name!r} is {weight}: must be positive and finite")
    return np.array([weights.get(name, 1.0) for name in names], np.float32)


def _names(concept_lists: Sequence[Sequence[str]]) -> list[str]:
    for number, concepts in enumerate(concept_lists):
        if isinstance(concepts, str) or not all(isinstance(concept, str) and concept for concept in concepts):
            raise ConceptError(f"concept list {number} (from 0) is not a list of non-empty strings: {concepts!r:.80}")
    names = sorted({concept for concepts in concept_lists for concept in concepts})
    if not names:
        raise ConceptError("the concept lists name no concept; annotate the seeds first")
    return names


def _statistics(concept_lists: Sequence[Sequence[str]], names: list[str]) -> tuple[Floats, Any]:
    """In how many lists each concept stands [concepts], and C[i, j] / C[i, i] off the diagonal (sparse)."""
    from scipy import sparse

    column = {name: number for number, name in enumerate(names)}
    cells = sorted({(row, column[name]) for row, concepts in enumerate(concept_lists) for name in concepts})
    rows, columns = np.array(cells).T
    member = sparse.csr_array((np.ones(len(cells), np.float32), (rows, columns)), (len(concept_lists), len(names)))
    counts = np.asarray(member.sum(axis=0)).ravel()
    pairs = (member.T @ member).tolil()
    pairs.setdiag(0)
    return counts, sparse.csr_array(sparse.diags_array(1 / counts) @ pairs.tocsr(), dtype=np.float32)


def _checked(embeddings: Any, names: list[str]) -> Floats:
    if isinstance(embeddings, Mapping):
        if missing := [name for name in names if name not in embeddings]:
            raise ConceptError(f"{len(missing)} concepts have no embedding, {missing[0]!r} first")
        embeddings = [embeddings[name] for name in names]
    matrix = np.asarray(embeddings, np.float32)
    if matrix.ndim != 2 or len(matrix) != len(names):
        raise ConceptError(
            f"embeddings have shape {matrix.shape}; need one row for each of the {len(names)} sorted concepts"
        )
    if not (finite := np.isfinite(matrix).all(axis=1)).all():
        raise ConceptError(f"the embedding of {names[int(np.argmin(finite))]!r} is not finite")
    return matrix


def _largest(size: Sizes) -> int:
    return max(size) if isinstance(size, Mapping) else size


def _drawn_sizes(size: Sizes, n: int, concepts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    weights = dict(size) if isinstance(size, Mapping) else {size: 1.0}
    if not weights or min(weights) < 1 or max(weights) > concepts:
        raise ConceptError(f"size={size}: sets of 1 to {concepts} concepts can be drawn from these lists")
    if min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ConceptError(f"size={size}: the weights must not be negative and must not all be 0")
    sizes = np.array(list(weights))
    return sizes[_pick(np.tile(np.array(list(weights.values()), np.float32), (n, 1)), rng.random(n))]
