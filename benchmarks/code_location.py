"""What loading the code location costs beside importing dagster alone: medians of fresh processes, taken in turn.

    python -m benchmarks.code_location [RUNS]

CPU seconds stand beside the wall clock: on a machine with other work to do only their ratio means anything.
"""

import resource
import statistics
import subprocess
import sys
import time

RUNS = 7
STATEMENTS = {"import dagster": "import dagster", "code location": "import promptcot_assets.definitions"}


def cost(statement: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a process that runs the statement."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def main(runs: int = RUNS) -> None:
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in STATEMENTS}
    for _ in range(runs):
        for name, statement in STATEMENTS.items():
            costs[name].append(cost(statement))
    wall, cpu = (
        {name: statistics.median(one[at] for one in values) for name, values in costs.items()} for at in (0, 1)
    )
    for name in STATEMENTS:
        print(f"{name:<16} {wall[name]:.2f} s, CPU {cpu[name]:.2f} s")
    extra = [side["code location"] - side["import dagster"] for side in (wall, cpu)]
    ratio = cpu["code location"] / cpu["import dagster"]
    print(f"{'extra':<16} {extra[0]:.2f} s (bound: 0.70 s), CPU {extra[1]:.2f} s, CPU ratio {ratio:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
