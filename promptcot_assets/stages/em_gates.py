"""When EM must stop, and when it may (method section 3: a regression gate and a stop rule are our choice).

A verdict says what was measured and, where it fails, what is wrong and the mend. Thresholds are `em.gate`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from promptcot_assets.settings.profile import Gate
from promptcot_assets.stages import Row
from promptcot_assets.stages.em_bounds import bound_change

STOPPED = "stopped by its gate"  # in the message of every run that a gate ends


@dataclass(frozen=True)
class Verdict:
    """`failures`: one sentence each; empty when the gate lets through. `measured`: the numbers it looked at."""

    failures: tuple[str, ...]
    measured: dict[str, float]

    @property
    def passed(self) -> bool:
        return not self.failures


def cold_start_gate(bounds: Sequence[Row], gate: Gate) -> Verdict:
    """Whether the cold start writes what EM can learn from: finished rationales, problems that parse."""
    held_out = [row for row in bounds if row["split"] == "held_out"]
    usable = _share(sum(row["proposals_used"] for row in held_out), sum(row["proposals"] for row in held_out))
    told = [row for row in held_out if row["samples_parsed"] is not None]
    parsed = _share(sum(row["samples_parsed"] for row in told), sum(row["samples"] for row in told))
    measured = {"usable rationales": usable, "fresh problems that parse": parsed}
    return Verdict(
        tuple(
            f"{name}: {share:.1%}, at least {gate.min_usable_share:.0%} are asked for; train the cold start longer "
            "or on more triples (em.cold_start), or raise em.sampling.max_new_tokens if texts are cut off"
            for name, share in measured.items()
            if share < gate.min_usable_share
        ),
        measured,
    )


def collapse_gate(candidates: Sequence[Row], before: Sequence[Row], gate: Gate) -> Verdict:
    """Whether q still proposes different, whole rationales. before: the rationales of the round before, or triples."""
    winners = [row for row in candidates if row["selected"]]
    usable = [row for row in candidates if row["reward"] is not None]
    repeated = Counter(row["rationale"] for row in winners).most_common(1)
    measured = {
        "usable share": _share(len(usable), len(candidates)),
        "distinct share": _share(len({(row["problem_id"], row["rationale"]) for row in usable}), len(usable)),
        "share of the most repeated winner": _share(repeated[0][1], len(winners)) if len(winners) > 1 else 0.0,
        "winners' length over the rationales' before": _mean_length(winners) / (_mean_length(before or winners) or 1.0),
    }
    usable_share, distinct, most, length = measured.values()
    failures = []
    if usable_share < gate.min_usable_share:
        reasons = Counter(row["lost_because"] for row in candidates if row["reward"] is None).most_common(2)
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
        failures.append(f"only {usable_share:.1%} of the candidates are usable ({why})")
    if usable and distinct < gate.min_distinct_share:
        failures.append(f"only {distinct:.1%} of the usable candidates differ from the others of their seed")
    if most > gate.max_repeated_share:
        failures.append(f"{most:.1%} of the winners are one text: {repeated[0][0][:80]!r}")
    if winners and length < gate.min_length_ratio:
        failures.append(f"the winners have {length:.1%} of the length of the rationales before")
    return Verdict(tuple(failures), measured)


def bound_gate(after: Sequence[Row], before: Sequence[Row], gate: Gate) -> Verdict:
    """Whether the held-out bound did not fall beyond noise."""
    change, error, problems = bound_change(after, before)
    fell = change < -gate.standard_errors * error
    failures = (f"the held-out bound fell by {-change:.3f} ± {error:.3f} nats a problem",) if fell else ()
    return Verdict(failures, {"change in nats": change, "standard error": error, "problems": problems})


def converged(history: Sequence[Sequence[Row]], patience: int, gate: Gate) -> bool:
    """Whether none of the last `patience` rounds lifted the held-out bound beyond noise; history: oldest first."""
    if not patience or len(history) <= patience:
        return False
    last = history[-patience - 1 :]
    changes = [bound_change(after, before) for before, after in pairwise(last)]
    return all(change <= gate.standard_errors * error for change, error, _ in changes)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _mean_length(rows: Sequence[Row]) -> float:
    return sum(len(row["rationale"]) for row in rows) / len(rows) if rows else 0.0
