"""A generator that meets its solver, after EM (rejection sampling; the paper stops at EM).

EM makes p write problems like the human ones. Whether a student learns from them depends on how often it solves them:
what it always or never solves teaches nothing. So p learns once more, from those of its own problems (with the
rationales it wrote them on) that a student solved about as often as it should, beside human seeds that keep it where it
was. What this costs in diversity is measured on the concepts of held-out seeds, and a gate looks at it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

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


# ---- examples
def examples(
    problems: Iterable[Row],
    measured: Iterable[Row],
    anchors: Sequence[Row],
    settings: Tuning,
    by_tuned: Collection[str],
    seed: int,
) -> list[Row]:
    """Rows of `tuning_examples`: p's own problems of the right pass rate, then anchors; none without own ones.

    problems: rows of `problems`. measured: rows of `difficulty`, one a problem. anchors: rows of `em_m_step`, each
    drawn once at most. by_tuned: batches that a tuned generator wrote, which no generator learns from: that would be
    a loop without an end. A problem that nobody ever solved is not learned from whatever the settings say, since most
    of these cannot be solved.
    """
    rates = {row["problem_id"]: row for row in measured}
    own = [
        _example(row, OWN, rates[row["problem_id"]])
        for row in problems
        if row["batch"] not in by_tuned and row["problem_id"] in rates and _is_near(rates[row["problem_id"]], settings)
    ]
    wanted = round(len(own) * settings.anchors / (1 - settings.anchors))
    drawn = sorted(anchors, key=lambda row: seed_from(seed, "anchor", row["rationale_id"]))[:wanted]
    return own + [_example(row, ANCHOR, None) for row in sorted(drawn, key=lambda row: str(row["rationale_id"]))]


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


def measures(rows: Iterable[Row]) -> dict[str, dict[str, float | None]]:
    """By domain and measure, what p's problems are like before and after: `{measure}, before` and `..., after`.

    Distinct word pairs grow rarer with every further text, so they are those of equally many problems.
    """
    found: dict[str, dict[str, float | None]] = {}
    for (domain,), own in sorted(_by(rows, "domain").items()):
        series = {name: [row for row in own if row["series"] == name] for name in (BEFORE, AFTER)}
        texts = {name: [row["problem"] for row in group if row["problem"]] for name, group in series.items()}
        count = min(map(len, texts.values()))
        found[domain] = {}
        for name, group in series.items():
            spreads = [row["spread"] for row in group if row["spread"] is not None]
            found[domain] |= {
                f"share that parses, {name}": len(texts[name]) / len(group) if group else None,
                f"distinct word pairs, {name}": distinct_n(texts[name][:count], 2),
                f"cosine spread, {name}": sum(spreads) / len(spreads) if spreads else None,
            }
    return found


def diversity_gate(rows: Iterable[Row], least: float) -> Verdict:
    """Whether the tuned p's problems kept `least` of the diversity of those before. No samples: nothing was tuned."""
    failures, measured = [], dict[str, float]()
    for domain, told in measures(rows).items():
        measured |= {f"{domain}: {name}": value for name, value in told.items() if value is not None}
        for name in ("share that parses", "distinct word pairs", "cosine spread"):
            before, after = told[f"{name}, {BEFORE}"], told[f"{name}, {AFTER}"]
            if before and (after or 0.0) < least * before:
                failures.append(
                    f"{domain}: {name} fell from {before:.3f} to {after or 0.0:.3f}, at least {least:.0%} are to stay"
                )
    return Verdict(tuple(failures), measured)


def _by(rows: Iterable[Row], *columns: str) -> Mapping[tuple[str, ...], list[Row]]:
    groups = defaultdict[tuple[str, ...], list[Row]](list)
    for row in rows:
        groups[tuple(row[name] for name in columns)].append(row)
    return groups
