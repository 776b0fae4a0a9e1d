"""What loading the code location costs beside importing dagster alone: medians of fresh processes, taken in turn."""

import statistics
import subprocess
import sys
import time

RUNS = 7
STATEMENTS = {"import dagster": "import dagster", "code location": "import promptcot_assets.definitions"}


def seconds(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(RUNS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, value in median.items():
        print(f"{name:<16} {value:.2f} s")
    extra = median["code location"] - median["import dagster"]
    ratio = median["code location"] / median["import dagster"]
    print(f"{'extra':<16} {extra:.2f} s (bound: 0.70 s), ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
