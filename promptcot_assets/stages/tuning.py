"""A generator that meets its solver, after EM (rejection sampling; the paper stops at EM).

EM makes p write problems like the human ones. Whether a student learns from them depends on how often it solves them:
what it always or never solves teaches nothing. So p learns once more, from those of its own problems (with the
rationales it wrote them on) that a student solved about as often as it should, beside human seeds that keep it where it
was. What this costs in diversity is measured on the concepts of held-out seeds, and a gate looks at it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import parse_completion
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.inference.refusals import embedded
from promptcot_assets.inference.sentence_encoder import Embedder
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Sampling, Tuning
from promptcot_assets.stages.asking import sampling_params
from promptcot_assets.stages.em.bounds import asked_for, distinct_n
from promptcot_assets.stages.em.gates import Verdict
from promptcot_assets.stages.em.loop import generator_prompt

OWN, ANCHOR = "own", "anchor"
BEFORE, AFTER = "before", "after"
GROUPS = 20  # of seeds, of which each is left out once


# ---- examples
def examples(
    problems: Iterable[Row],
    measured: Iterable[Row],
    anchors: Sequence[Row],
    settings: Tuning,
    seed: int,
) -> list[Row]:
    """Rows of `tuning_examples`: p's own problems of the right pass rate, then anchors; none without own ones.

    problems: rows of `problems`, their text as the student was asked it. measured: rows of `difficulty`, one a problem.
    anchors: rows of `em_m_step`, each drawn once at most. What a tuned generator wrote is not learned from: that would
    be a loop without an end. Nor is a problem that was never solved, whatever the settings say, since most of these
    cannot be.
    """
    rates = {row["problem_id"]: row for row in measured}
    own = [
        _example(row, OWN, rates[row["problem_id"]])
        for row in problems
        if _is_ems(row) and row["problem_id"] in rates and _is_near(rates[row["problem_id"]], settings)
    ]
    wanted = round(len(own) * settings.anchors / (1 - settings.anchors))
    drawn = sorted(anchors, key=lambda row: seed_from(seed, "anchor", row["rationale_id"]))[:wanted]
    return own + [_example(row, ANCHOR, None) for row in sorted(drawn, key=lambda row: str(row["rationale_id"]))]


def _is_ems(problem: Row) -> bool:
    """Whether a generator of EM wrote it, by the role that its model's id begins with."""
    return str(problem["problem_generator"]).partition("/")[0] == "problem_generator"


def _is_near(measured: Row, settings: Tuning) -> bool:
    """Whether the pass rate is near enough to the asked one; a hair more, so that 0.75 is within 0.25 of 0.5."""
    return measured["passes"] > 0 and abs(measured["pass_rate"] - settings.pass_rate) <= settings.within + 1e-9


def _example(row: Row, kind: str, measured: Row | None) -> Row:
    return {
        "example_id": content_id("tuning", kind, row["problem_id"], row.get("rationale_id")),
        "kind": kind,
        **{name: row[name] for name in ("problem_id", "domain", "concepts", "level", "rationale", "problem")},
        "pass_rate": measured["pass_rate"] if measured else None,
        "attempts": measured["rollouts"] if measured else None,
        "rationale_id": None if measured else row["rationale_id"],
    }


def example_figures(rows: Sequence[Row]) -> dict[str, float]:
    """What the page of the examples says."""
    rates = [row["pass_rate"] for row in rows if row["kind"] == OWN]
    told = {"own": len(rates), "anchors": len(rows) - len(rates)}
    return told | ({"mean_pass_rate": sum(rates) / len(rates)} if rates else {})


# ---- diversity
def samples(
    seeds: Sequence[Row], p: InferenceEngine, sampling: Sampling, count: int, seed: int, series: str, model: str
) -> list[Row]:
    """`count` problems on the concepts of every seed. Rows of `tuning_samples`, yet without their spread.

    Both series are asked the same prompts with the same seeds.
    """
    drawn = p.generate(
        [generator_prompt(row) for row in seeds], sampling_params(sampling, count),
        [seed_from(seed, "tuning", row["problem_id"]) for row in seeds],
    )  # fmt: skip
    rows = []
    for source, completions in zip(seeds, drawn, strict=True):
        domain = domain_named(source["domain"])
        for attempt, completion in enumerate(completions):
            block = parse_completion(completion.text, completion.finish_reason == "stop")
            sound = domain.well_posed(block.problem) if block.problem else None
            rows.append({
                "sample_id": content_id("tuning sample", source["problem_id"], model, series, attempt),
                "series": series,
                **{name: source[name] for name in ("problem_id", "domain", "concepts", "level")},
                "rationale": block.rationale,
                "problem": block.problem,
                "drop_reason": completion.refusal.reason if completion.refusal else block.drop_reason,
                "well_posed": sound,
                "on_concepts": None if sound is None else asked_for(domain, block.problem or "", source["concepts"]),
                "tokens": completion.tokens,
                "seed": completion.seed,
                "problem_generator": model,
            })  # fmt: skip
    return rows


def with_spread(rows: Sequence[Row], model: Embedder) -> list[Row]:
    """The samples with their mean cosine distance to the other problems of their series and domain.

    None where there is no problem, no other one, or a text that cannot be embedded.
    """
    spread = dict[str, float]()
    for group in _by(rows, "series", "domain").values():
        told = [row for row in group if row["problem"] is not None]
        vectors = np.asarray(model.embed([row["problem"] for row in told]), np.float64) if told else np.zeros((0, 1))
        known = embedded(vectors) if told else np.zeros(0, bool)
        vectors, told = vectors[known], [row for row, is_known in zip(told, known, strict=True) if is_known]
        if len(told) > 1:
            cosines = (vectors @ vectors.sum(axis=0) - (vectors * vectors).sum(axis=1)) / (len(told) - 1)
            spread |= {row["sample_id"]: float(1 - cosine) for row, cosine in zip(told, cosines, strict=True)}
    return [row | {"spread": spread.get(row["sample_id"])} for row in rows]


def _parsed(rows: Sequence[Row], _: int) -> float | None:
    return sum(row["problem"] is not None for row in rows) / len(rows) if rows else None


def _word_pairs(rows: Sequence[Row], count: int) -> float | None:
    return distinct_n([row["problem"] for row in rows if row["problem"] is not None][:count], 2)


def _spread(rows: Sequence[Row], _: int) -> float | None:
    spreads = [row["spread"] for row in rows if row["spread"] is not None]
    return sum(spreads) / len(spreads) if spreads else None


# Of the samples of a series; the number is that of the problems to look at. Word pairs are rarer with every further
# text, so they are those of equally many.
MEASURES: dict[str, Callable[[Sequence[Row], int], float | None]] = {
    "share that parses": _parsed, "distinct word pairs": _word_pairs, "cosine spread": _spread,
}  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A measure of one domain before and after. lost: what is missing of the share that must stay; error: its standard
    error by leaving out groups of seeds (jackknife), infinite of a single seed."""

    domain: str
    measure: str
    before: float | None
    after: float | None
    lost: float
    error: float


def compared(rows: Iterable[Row], least: float) -> list[Compared]:
    """Every measure of every domain. least: the share of what was before that must stay."""
    found = []
    for (domain,), own in sorted(_by(rows, "domain").items()):
        seeds = sorted({row["problem_id"] for row in own})
        groups = [set(seeds[start::GROUPS]) for start in range(min(GROUPS, len(seeds)))]
        without = [[row for row in own if row["problem_id"] not in group] for group in groups]
        for measure in MEASURES:
            before, after = _both(own, measure)
            losses = [_lost(*_both(some, measure), least) for some in without]
            found.append(Compared(domain, measure, before, after, _lost(before, after, least), _jackknife(losses)))
    return found


def _both(rows: Sequence[Row], measure: str) -> tuple[float | None, float | None]:
    series = [[row for row in rows if row["series"] == name] for name in (BEFORE, AFTER)]
    count = min(sum(row["problem"] is not None for row in own) for own in series)
    before, after = (MEASURES[measure](own, count) for own in series)
    return before, after


def _lost(before: float | None, after: float | None, least: float) -> float:
    return least * (before or 0.0) - (after or 0.0)


def _jackknife(estimates: Sequence[float]) -> float:
    """Standard error of an estimate from those without one group each."""
    if len(estimates) < 2:
        return math.inf
    mean = math.fsum(estimates) / len(estimates)
    return math.sqrt((len(estimates) - 1) / len(estimates) * math.fsum((one - mean) ** 2 for one in estimates))


def measures(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """By domain, what p's problems are like before and after."""
    found: dict[str, dict[str, float | None]] = defaultdict(dict)
    for one in compared(rows, 1.0):
        found[one.domain] |= {f"{one.measure}, {BEFORE}": one.before, f"{one.measure}, {AFTER}": one.after}
    return dict(found)


def diversity_gate(rows: Sequence[Row], least: float, standard_errors: float) -> Verdict:
    """Whether the tuned p's problems kept `least` of the diversity of those before, within noise."""
    failures, measured = [], {"samples": float(len(rows))}  # none: nothing was tuned, or there is no held-out seed
    for one in compared(rows, least):
        name = f"{one.domain}: {one.measure}"
        told = {f"{name}, {BEFORE}": one.before, f"{name}, {AFTER}": one.after}
        measured |= {key: value for key, value in told.items() if value is not None}
        if one.lost > standard_errors * one.error:
            failures.append(
                f"{name} fell from {one.before or 0.0:.3f} to {one.after or 0.0:.3f}, at least {least:.0%} are to stay"
            )
    return Verdict(tuple(failures), measured)


def _by(rows: Iterable[Row], *columns: str) -> Mapping[tuple[str, ...], list[Row]]:
    groups = defaultdict[tuple[str, ...], list[Row]](list)
    for row in rows:
        groups[tuple(row[name] for name in columns)].append(row)
    return groups
