"""When EM must stop, and when it may (method section 3: a regression gate and a stop rule are our choice).

A verdict says what was measured and, where it fails, what is wrong and the mend. Thresholds are `em.gate`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Gate
from promptcot_assets.stages.em.bounds import bound_change
from promptcot_assets.stages.statistics import mean_and_error

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
    held_out = _held_out(bounds)
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


def bound_gate(
    after: Sequence[Row], before: Sequence[Row], gate: Gate, long_before: Sequence[Row] | None = None
) -> Verdict:
    """Whether the held-out bound did not fall beyond noise, and the rationales tell as much as they must.

    before: rows of em_bounds of the round before; long_before: of `em.patience` rounds ago. A round ends the loop only
    if it fell below both: compared with its neighbour alone, a round of six without any change ends the loop in one run
    of ten (`python -m benchmarks.gates`). A round that lost the bounds of problems fails as well.
    """
    change, error, problems = bound_change(after, before)
    since = [(change, error)]
    if (
        long_before is not None and (longer := bound_change(after, long_before))[2]
    ):  # of no common problem it tells nothing
        since.append(longer[:2])
    failures = []
    if all(fall < -gate.standard_errors * noise for fall, noise in since):
        failures.append(f"the held-out bound fell by {-change:.3f} ± {error:.3f} nats a problem")
    lost = {row["problem_id"] for row in _held_out(before) if row["iw_bound"] is not None} & {
        row["problem_id"] for row in _held_out(after) if row["iw_bound"] is None
    }
    if lost:
        failures.append(f"{len(lost)} of {len(lost) + problems} held-out problems have no bound any more")
    measured = {
        "change in nats": change, "standard error": error, "problems": problems,
        "problems without a usable proposal": sum(row.get("proposals_used") == 0 for row in _held_out(after)),
    }  # fmt: skip
    told = [row["information"] for row in _held_out(after) if row.get("information") is not None]
    if told:
        information, noise = mean_and_error(told)
        measured["information of z"] = information
        least = gate.min_information
        if least is not None and len(told) > 1 and information < least - gate.standard_errors * noise:
            failures.append(
                f"the information of z is {information:.3f} ± {noise:.3f} nats a problem, at least {least:g} are asked "
                "for (em.gate.min_information)"
            )
    return Verdict(tuple(failures), measured)


def converged(history: Sequence[Sequence[Row]], patience: int, gate: Gate) -> bool:
    """Whether the last `patience` rounds together did not lift the held-out bound beyond noise.

    history: rows of em_bounds, the oldest round first.
    """
    if not patience or len(history) <= patience:
        return False
    change, error, _ = bound_change(history[-1], history[-patience - 1])
    return change <= gate.standard_errors * error


def _held_out(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["split"] == "held_out"]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _mean_length(rows: Sequence[Row]) -> float:
    return sum(len(row["rationale"]) for row in rows) / len(rows) if rows else 0.0
