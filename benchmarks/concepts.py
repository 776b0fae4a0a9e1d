"""What vectorised concept sampling gains over one full similarity search and dense softmax a draw.

    python benchmarks/concepts.py [SETS]

The peer re-states how the released sampler works, without its defects: for each draw the mean embedding of the chosen
is compared with all concepts, co-occurrences are looked up, and one softmax over all concepts is drawn from. 6,000
concepts, 15,000 lists, 384 dimensions. Peers take turns in one process, in CPU time; the best of three counts, set-up
(the statistics of the lists) apart. The distribution itself is tested in tests/stages/test_concepts.py.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy: on a busy machine its threads burn CPU time waiting

import sys
import time
from collections import Counter
from itertools import combinations

import numpy as np

from promptcot_assets.stages.concepts import ConceptSampler


def one_by_one(sampler: ConceptSampler, lists: list[list[str]], embeddings: np.ndarray, n: int) -> list[list[str]]:
    names = sampler.concepts
    column = {name: number for number, name in enumerate(names)}
    count = Counter(name for one in lists for name in one)
    both: dict[str, Counter[str]] = {name: Counter() for name in names}
    for one in lists:
        for left, right in combinations(one, 2):
            both[left][right] += 1
            both[right][left] += 1
    frequency = np.array([count[name] for name in names], float)
    lengths = np.linalg.norm(embeddings, axis=1)
    rng = np.random.default_rng(0)
    start = time.process_time()
    sets = []
    for _ in range(n):
        chosen = [int(rng.choice(len(names), p=frequency / frequency.sum()))]
        while len(chosen) < 5:
            centre = embeddings[chosen].mean(axis=0)
            scores = embeddings @ centre / (lengths * np.linalg.norm(centre))
            for i in chosen:
                for name, times in both[names[i]].items():
                    scores[column[name]] += times / count[names[i]] / len(chosen)
            weights = np.exp((scores - scores.max()) / sampler.temperature)
            weights[chosen] = 0
            chosen.append(int(rng.choice(len(names), p=weights / weights.sum())))
        sets.append([names[i] for i in chosen])
    one_by_one.seconds = time.process_time() - start  # type: ignore[attr-defined]
    return sets


def main(sets: int = 4000) -> None:
    rng = np.random.default_rng(0)
    names = [f"concept {number:05}" for number in range(6000)]
    shares = np.arange(1, 6001) ** -0.7
    lists = [[names[i] for i in rng.choice(6000, 5, replace=False, p=shares / shares.sum())] for _ in range(15_000)]
    lists += [[name] for name in names]
    embeddings = rng.standard_normal((6000, 384)).astype(np.float32)
    start = time.process_time()
    sampler = ConceptSampler(lists, embeddings)
    built = time.process_time() - start
    ours = theirs = np.inf
    for _ in range(3):
        start = time.process_time()
        sampler.sample(sets)
        ours = min(ours, (time.process_time() - start) / sets)
        one_by_one(sampler, lists, embeddings, 100)
        theirs = min(theirs, one_by_one.seconds / 100)  # type: ignore[attr-defined]
    print(
        f"a set of five of 6,000 concepts: {theirs / ours:.1f}x   "
        f"({ours * 1e6:.0f} against {theirs * 1e6:,.0f} CPU microseconds; built in {built:.1f} CPU seconds)"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
