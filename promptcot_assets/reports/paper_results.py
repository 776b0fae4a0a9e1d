"""The paper's benchmark tables (method section 8): what our own numbers stand beside. None of them has an interval."""

from __future__ import annotations

BENCHMARKS = ("aime24", "aime25", "hmmt25", "livecodebench_v5", "livecodebench_v6", "codeforces")  # Codeforces: Elo
METRICS = dict.fromkeys(BENCHMARKS[:3], "avg@16") | dict.fromkeys(BENCHMARKS[3:5], "pass@1") | {"codeforces": "Elo"}

# setting -> (before, after training on the synthetic problems), in the order of BENCHMARKS; None: not in the paper
RESULTS: dict[str, tuple[tuple[float | None, ...], tuple[float | None, ...]]] = {
    "self-play 30B-A3B": ((87.7, 85.0, 71.4, 68.1, 66.0, 2044), (92.1, 89.8, 76.7, 74.2, 71.0, 2079)),
    "self-play 4B": ((85.2, 81.3, 55.5, 63.8, 55.2, 1852), (87.3, 85.0, 66.5, 67.7, 61.1, 1934)),
    "SFT 7B": ((12.8, 8.0, 2.7, 14.7, 13.7, 706), (73.1, 65.6, 46.5, 53.4, 48.9, 1815)),
    "Ring-Lite": ((76.6, 69.1, None, 60.7, None, None), (79.8, 70.4, None, 62.7, None, None)),
}
# the paper's ablations of the 7B student
ABLATIONS: dict[str, tuple[float, ...]] = {
    "full": (73.1, 65.6, 46.5, 53.4, 48.9, 1815),
    "without cold start": (72.1, 63.9, 45.3, 50.4, 43.6, 1677),
    "without EM": (69.8, 59.0, 41.3, 44.9, 44.2, 1592),
}
