"""How fast problems are held against every published benchmark, beside the same test in plain Python sets.

    python -m benchmarks.decontamination [ROWS]

The items are 1,800 in the shape of the released evaluation files (tests/published_samples.py). Peers take turns in
one process, in CPU time on one thread; the best of three counts. Indexing the items is part of it. Both must name the
same contaminated problems.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from promptcot_assets.stages.corpus.reading import read_seeds
from promptcot_assets.stages.decontamination import contaminated
from promptcot_assets.text.wrappers import strip_wrapper
from tests import published_samples

WRAPPER = "<|im_start|>user\n{}\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"


def load() -> dict[str, list[dict[str, str]]]:
    benchmarks = {}
    with tempfile.TemporaryDirectory() as folder:
        published_samples.write(
            Path(folder), {"aime24": 30, "aime25": 30, "hmmt25": 30, "gsm8k": 1310, "codeforces": 400}
        )
        for path in sorted(Path(folder).iterdir()):
            rows, _ = read_seeds(path)
            benchmarks[path.stem] = [{"id": f"{path.stem}:{row['row']}", "text": row["problem"]} for row in rows]
    return benchmarks


def problems(count: int, items: list[str]) -> list[dict[str, str]]:
    """Statements of 600 characters, every fourth in a chat wrapper, every hundredth with 13 words of an item."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(5000)])
    rows = []
    for number in range(count):
        text = " ".join(words[rng.integers(0, 5000, 97)])
        if number % 100 == 0:
            planted = re.findall(r"[^\W_]+", items[int(rng.integers(len(items)))])
            start = int(rng.integers(len(planted) - 12))
            text = f"{text[:300]} {' '.join(planted[start : start + 13])} {text[300:]}"
        rows.append({"id": str(number), "text": WRAPPER.format(text) if number % 4 == 0 else text})
    return rows


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return set(zip(*(words[k:] for k in range(13)), strict=False))


def in_plain_python(rows: list[dict[str, str]], items: list[str]) -> set[str]:
    known = set().union(*map(grams, items))
    return {row["id"] for row in rows if not known.isdisjoint(grams(strip_wrapper(row["text"])))}


def main(rows: int = 40_000) -> None:
    benchmarks = load()
    items = [row["text"] for named in benchmarks.values() for row in named]
    given = problems(rows, items)
    ours = theirs = np.inf
    for _ in range(3):
        start = time.process_time()
        hits = contaminated(given, benchmarks)
        ours = min(ours, time.process_time() - start)
        start = time.process_time()
        plain = in_plain_python(given[: rows // 10], items)
        theirs = min(theirs, time.process_time() - start)
    found = set(hits["problem_id"].to_pylist())
    planted = {row["id"] for row in given[::100]}
    print(f"{len(items):,} items, a problem on one core: {theirs * 10 / ours:.1f}x   ({rows / ours:,.0f} a second)")
    print(
        f"found {len(found & planted)} of {len(planted)} planted, {len(found - planted)} others; "
        f"agrees with plain Python: {plain == {name for name in found if int(name) < rows // 10}}"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
