"""Thousands of mixed honest and hostile programs on two workers beside a CPU burner: wrong, flaky, left behind.

    python benchmarks/sandbox_stability.py [--runs 3000] [--tier bwrap]

Then programs that burn 0.8 and 1.2 times their CPU limit, under the same load: verdicts that flipped.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sandbox import Limits, Pool, Program, Test, Verdict
from tests.sandbox.programs import CASES, GREEDY, Case


def judge(pool: Pool, case: Case) -> Verdict:
    limits = Limits(case.cpu_s, case.wall_s, memory=256 << 20, output=1 << 20)
    tests = [Test(case.stdin, case.expected)]
    return pool.run(Program(case.code, case.fn), tests, limits, profile=case.profile).verdict


def burn() -> None:
    while True:
        pass


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> set[str]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(path.read_text().split()) if path.exists() else set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3000)
    parser.add_argument("--tier", choices=["bwrap", "landlock"])
    asked = parser.parse_args()
    burner = multiprocessing.Process(target=burn, daemon=True)
    burner.start()
    files, processes = open_files(), children()
    weights = [0.1 if case in GREEDY else 1.0 for case in CASES]
    mixed = random.Random(0).choices(CASES, weights, k=asked.runs)
    seen: dict[str, set[Verdict]] = defaultdict(set)
    with Pool(2, tier=asked.tier) as pool, ThreadPoolExecutor(2) as threads:
        verdicts = list(threads.map(lambda case: judge(pool, case), mixed))
        flips = sum(
            pool.run(
                Program(f"import time\nwhile time.process_time() < {share} * 0.5: pass"),
                [Test("", "")],
                Limits(cpu_s=0.5, wall_s=30),
            ).verdict
            is not verdict
            for share, verdict in ((0.8, Verdict.OK), (1.2, Verdict.TIME_LIMIT))
            for _ in range(10)
        )
        tier = pool.tier
    wrong = [(c.name, v.value) for c, v in zip(mixed, verdicts, strict=True) if v not in c.verdicts.split("|")]
    for case, verdict in zip(mixed, verdicts, strict=True):
        seen[case.name].add(verdict)
    flaky = [name for name, found in seen.items() if len(found) > 1]
    single = [name for name in flaky if "|" not in next(c for c in CASES if c.name == name).verdicts]
    burner.kill()
    burner.join()
    print(f"{tier}: {len(mixed)} runs of {len(seen)} programs")
    print(f"{len(wrong)} wrong {wrong[:5]}, {len(single)} flaky {single[:5]}")
    print(f"verdicts that flipped at 0.8 and 1.2 of the CPU limit: {flips} of 20")
    print(f"left behind: {open_files() - files} files, {len(children() - processes)} processes")


if __name__ == "__main__":
    main()
