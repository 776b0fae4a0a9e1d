"""How often the regression gate and the early stop of EM err, by simulation of whole loops.

    python -m benchmarks.gates [LOOPS]

A loop has six rounds, each measured on 120 held-out problems. A problem's bound is its own level, what the loop did to
it, and noise of the proposals; the noise of one problem in one round has the size that the demo's own bounds have:

- false stops: loops without any change (or with steady small gains) that the regression gate ends;
- caught: loops whose third round truly falls, that end in that round or the next;
- early ends: loops that gain in every round and are called converged after a round that gained.

`one round` compares a round with its neighbour alone, `and patience` is the rule in use: the gate asks for a fall below
the round before and below the one `em.patience` rounds ago, the early stop for a gain over those rounds together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np

from promptcot_assets.settings.profile import Gate
from promptcot_assets.stages.em.bounds import bound_change
from promptcot_assets.stages.em.gates import bound_gate, converged

LOOPS, ROUNDS, PROBLEMS, PATIENCE = 1000, 6, 120, 2
NOISE, SPREAD = 1.5, 2.0  # nats: of one problem's bound in one round; between problems
Rounds = list[list[dict[str, object]]]


def loop(rng: np.random.Generator, gains: Sequence[float]) -> Rounds:
    """Rows of em_bounds of the cold start and every round; gains: nats that each round truly adds."""
    levels, true = rng.normal(-10, SPREAD, PROBLEMS), np.cumsum([0.0, *gains])
    return [
        [
            {"problem_id": str(at), "split": "held_out", "iw_bound": float(value)}
            for at, value in enumerate(levels + gain + rng.normal(0, NOISE, PROBLEMS))
        ]
        for gain in true
    ]


def stopped(rounds: Rounds, both: bool) -> int | None:
    """The round that the regression gate ends, from 1."""
    for number in range(1, len(rounds)):
        long_before = rounds[max(0, number - PATIENCE)] if both else None
        if not bound_gate(rounds[number], rounds[number - 1], Gate(), long_before).passed:
            return number
    return None


def ended(rounds: Rounds, together: bool) -> int | None:
    """The round before which the loop is called converged, from 1."""
    for number in range(PATIENCE + 1, len(rounds)):
        history = rounds[:number]
        if together:
            done = converged(history, PATIENCE, Gate())
        else:
            changes = [bound_change(history[at], history[at - 1]) for at in range(number - PATIENCE, number)]
            done = all(change <= Gate().standard_errors * error for change, error, _ in changes)
        if done:
            return number
    return None


def share(loops: int, gains: Sequence[float], errs: Callable[[Rounds], bool]) -> float:
    rng = np.random.default_rng(0)
    return sum(errs(loop(rng, gains)) for _ in range(loops)) / loops


def main() -> None:
    loops = int(sys.argv[1]) if len(sys.argv) > 1 else LOOPS
    print(f"{loops:,} loops of {ROUNDS} rounds, {PROBLEMS} problems, noise {NOISE} nats a problem and round")
    print(f"  {'':<58}{'one round':>10}{'and patience':>14}")
    none, small, fall = [0.0] * ROUNDS, [0.15] * ROUNDS, [0.0, 0.0, -1.0, 0.0, 0.0, 0.0]
    lines: list[tuple[str, Sequence[float], Callable[[Rounds, bool], bool]]] = [
        ("regression gate, no change: false stops", none, lambda r, rule: stopped(r, rule) is not None),
        ("regression gate, +0.15 nats a round: false stops", small, lambda r, rule: stopped(r, rule) is not None),
        (
            "regression gate, round 3 falls by 1 nat: caught by round 4",
            fall,
            lambda r, rule: stopped(r, rule) in (3, 4),
        ),
        ("early stop, no change: ends", none, lambda r, rule: ended(r, rule) is not None),
        ("early stop, +0.15 nats a round: ends", small, lambda r, rule: ended(r, rule) is not None),
        ("early stop, +0.3 nats a round: ends", [0.3] * ROUNDS, lambda r, rule: ended(r, rule) is not None),
    ]
    for name, gains, errs in lines:
        one, both = (share(loops, gains, lambda r, rule=rule, errs=errs: errs(r, rule)) for rule in (False, True))
        print(f"  {name:<58}{one:>10.3f}{both:>14.3f}", flush=True)


if __name__ == "__main__":
    main()
