"""EM's gains at every size of the common pool, worked out again from the weights that `common_bounds` keeps.

    python -m benchmarks.pool_gains HOME [HOME ...]

Reads two tables of each home and nothing else: no model is asked, and none of our code that bounds or averages is used.
From the log weights log p(z,x|c) - log mixture(z) of the first K proposals it takes the bound, its effective number of
proposals, EM's paired difference to the cold start and to the control, and that difference carried on (twice the gain
at the largest pool, less that at the size before). Everything that `em_curves` says of the same is held against it;
the exit code is 1 where anything differs by more than 1e-6 nats. Two sizes of a pool that disagree beyond their errors
are marked: there the smaller one flatters.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptcot_assets.tables import open_lake

TOLERANCE = 1e-6
Key = tuple[str, str, int]  # domain, series, round


def measured(home: Path) -> tuple[dict[Key, dict[str, list[float]]], list[int], list[dict[str, object]]]:
    """Log weights of the largest pool by problem (-inf: unusable), the sizes that were measured, rows of em_curves."""
    lake = open_lake(home)
    rows, curves = (lake.table(ref).to_pylist() for ref in map(lake.newest, ("common_bounds", "em_curves")) if ref)
    sizes = sorted({row["proposals"] for row in rows})
    weights: dict[Key, dict[str, list[float]]] = defaultdict(dict)
    for row in rows:
        if row["proposals"] == sizes[-1]:
            own = [-np.inf if one is None else one for one in row["log_weights"]]
            weights[row["domain"], row["series"], row["round"]][row["problem_id"]] = own
    return weights, sizes, curves


def bound(weights: list[float], size: int) -> float:
    return float(np.logaddexp.reduce(np.array(weights[:size])) - np.log(size))


def effective(weights: list[float], size: int) -> float:
    shares = np.exp(np.array(weights[:size]) - np.logaddexp.reduce(np.array(weights[:size])))
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def told(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def compare(home: Path) -> int:
    weights, sizes, curves = measured(home)
    said = {(p["domain"], p["series"], p["round"], p["metric"]): p for p in curves if p["split"] == "held_out"}
    print(f"\n{home}: pools of {', '.join(map(str, sizes))} proposals")
    if len(sizes) == 1:
        print("  one size only: set em.held_out.large_pool")
        return 1
    wrong = 0
    for (domain, series, round_), own in sorted(weights.items()):
        for other in ("cold_start", "extra_training") if series == "em" else ():
            against = weights.get((domain, other, 0 if other == "cold_start" else round_), {})
            problems = sorted(problem for problem in own.keys() & against.keys()
                              if np.isfinite(own[problem]).any() and np.isfinite(against[problem]).any())  # fmt: skip
            if not problems:
                continue
            each = {
                size: np.array([bound(own[one], size) - bound(against[one], size) for one in problems])
                for size in sizes
            }
            finite = np.isfinite(list(each.values())).all(axis=0)
            gains = {f"gain at pool {size} over {other}": values[finite] for size, values in each.items()}
            last, before = (each[size][finite] for size in (sizes[-1], sizes[-2]))
            gains[f"gain carried on over {other}"] = 2 * last - before
            print(f"  {domain} round {round_} over {other}, {int(finite.sum())} of {len(own)} problems, "
                  f"effective {np.mean([effective(own[one], sizes[-1]) for one in problems]):.1f}")  # fmt: skip
            for metric, values in gains.items():
                mean, error = told(values)
                point = said.get((domain, series, round_, metric))
                differs = point is None or (finite.all() and abs(point["value"] - mean) > TOLERANCE)
                wrong += differs
                print(f"    {metric:<42}{mean:+.3f} ± {error:.3f}{'   em_curves says otherwise' if differs else ''}")
            for size in sizes[:-1]:
                mean, error = told(each[size][finite] - last)
                apart = "   more than two errors" if abs(mean) > 2 * error else ""
                print(f"    pool {size} less pool {sizes[-1]:<21}{mean:+.3f} ± {error:.3f}{apart}")
    return int(wrong > 0)


def main() -> int:
    if not sys.argv[1:]:
        print("python -m benchmarks.pool_gains HOME [HOME ...]: no home is named, nothing is compared")
        return 0
    return max(compare(Path(home)) for home in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
