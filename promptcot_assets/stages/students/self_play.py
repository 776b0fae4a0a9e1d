"""Rollouts of the student on labelled problems, what of them is usable, and preference pairs (method section 6)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.inference.refusals import REASONS
from promptcot_assets.judging.verdicts import judge
from promptcot_assets.judging.verifier import ProblemLabels, Verifier, extract
from promptcot_assets.lake import Row, Rows
from promptcot_assets.lake.ids import content_id, in_share, seed_from
from promptcot_assets.settings.profile import Band, SelfPlay
from promptcot_assets.stages.analysis.difficulty import Measured
from promptcot_assets.stages.asking import ask, completion_columns, solve_prompt
from promptcot_assets.stages.statistics import Interval, paired_difference
from promptcot_assets.stages.students.distillation import played_on

CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")


def labels(problems: Iterable[Row], answers: Iterable[Row], tests: Iterable[Row], seeds: Iterable[Row]) -> list[Row]:
    """Every problem that can be judged, with `answer`, `tests` and `source`: synthetic ones, then real ones.

    seeds: rows of `seed_problems`, or none where `self_play.real_problems` asks for none.
    """
    known_by = ProblemLabels(answers, tests)
    rows = [row | {"source": "synthetic"} for row in map(known_by.on, problems) if row]
    known = {row["problem_id"] for row in rows}
    for row in seeds:
        reference = row["answer"] if domain_named(row["domain"]).answers == "maths" else row["tests"]
        if row["split"] in ("train", "play") and reference is not None and row["problem_id"] not in known:
            rows.append(row | {"source": "real"})
    return rows


def uncontaminated(seeds: Sequence[Row], benchmarks: Sequence[Row], ngram: int) -> tuple[list[Row], Counter[str]]:
    """The seeds that share no `ngram` words in a row with a benchmark item, and how many fell, by benchmark.

    Synthetic problems are decontaminated where they are made; real ones must be before they are played on.
    benchmarks: rows of `benchmark_items`.
    """
    from promptcot_assets.stages.decontamination import contaminated

    problems = [{"id": row["problem_id"], "text": row["problem"]} for row in seeds]
    items = [{"benchmark": row["benchmark"], "id": row["item_id"], "text": row["problem"]} for row in benchmarks]
    hits = contaminated(problems, items, ngram).to_pylist() if items else []
    hit_by = {hit["problem_id"]: f"contaminated by {hit['benchmark']}" for hit in reversed(hits)}
    return [row for row in seeds if row["problem_id"] not in hit_by], Counter(hit_by.values())


def play_pool(known: Sequence[Row], settings: SelfPlay, measured: Mapping[str, Measured] | None = None) -> list[Row]:
    """The problems that are played on: the pool's share of the synthetic ones, and as many real ones as are asked for.

    Which ones follows from their ids alone, so that a new batch moves none; those of `gate_pool` are never among them.
    Of these, a problem that former rounds measured stays out if it can be of none of `settings.bands`, and where
    `settings.band_mix` names its domain, if it is one too many of its band.
    measured: problem_id -> its bands; None in a first round.
    """
    synthetic = [
        row for row in known if row["source"] == "synthetic" and played_on(row["problem_id"], settings.pool_share)
    ]
    rows = _at_most([row for row in synthetic if not _held_out(row, settings)], settings.synthetic_problems)
    for domain, count in settings.real_problems.items():
        real = [row for row in known if row["source"] == "real" and row["domain"] == domain]
        real.sort(key=lambda row: (row.get("split") != "play", content_id("real", row["problem_id"])))
        rows += real[:count]
    if not measured:
        return rows
    bands = set(settings.bands)
    new = [row for row in rows if row["problem_id"] not in measured]
    old = [row for row in rows if row["problem_id"] in measured and bands & measured[row["problem_id"]].possible]
    for domain, shares in settings.band_mix.items():
        own = [row["problem_id"] for row in old if row["domain"] == domain]
        drawn = _in_shares({problem: measured[problem].band for problem in own}, shares)
        old = [row for row in old if row["domain"] != domain or row["problem_id"] in drawn]
    kept = {row["problem_id"] for row in (*new, *old)}
    return [row for row in rows if row["problem_id"] in kept]


def _in_shares(bands: Mapping[str, Band], shares: Mapping[Band, float]) -> set[str]:
    """As many of the problems as keep to the shares of their bands, drawn by their ids.

    A band without a problem is left out of the shares, since otherwise nothing at all would be played on.
    """
    of_band = {band: [problem for problem, own in bands.items() if own == band] for band in shares}
    asked = {band: share for band, share in shares.items() if share and of_band[band]}
    if not asked:
        return set()
    unit = min(len(of_band[band]) / share for band, share in asked.items())  # problems of a share of 1
    return {
        problem
        for band, share in asked.items()
        for problem in sorted(of_band[band], key=lambda one: content_id("mix", one))[: round(share * unit)]
    }


def _at_most(rows: Sequence[Row], counts: Mapping[str, int]) -> list[Row]:
    """Of each domain that `counts` names so many rows, drawn by their ids, in their order."""
    drawn = set[str]()
    for domain in {row["domain"] for row in rows}:
        own = [row["problem_id"] for row in rows if row["domain"] == domain]
        drawn |= set(sorted(own, key=lambda problem: content_id("synthetic", problem))[: counts.get(domain)])
    return [row for row in rows if row["problem_id"] in drawn]


def gate_pool(known: Sequence[Row], settings: SelfPlay) -> list[Row]:
    """Synthetic problems neither taught nor played on: what the regression gate asks."""
    return [
        row
        for row in known
        if row["source"] == "synthetic"
        and played_on(row["problem_id"], settings.pool_share)
        and _held_out(row, settings)
    ]


def _held_out(row: Row, settings: SelfPlay) -> bool:
    return in_share(settings.held_out_share, "self-play gate", row["problem_id"])


def mix(pool: Sequence[Row]) -> dict[str, float]:
    """Share of the pool by domain and source, e.g. {"maths, synthetic": 0.7}."""
    counts = Counter(f"{row['domain']}, {row['source']}" for row in pool)
    return {name: count / len(pool) for name, count in sorted(counts.items())}


def bands_of(pool: Sequence[Row], measured: Mapping[str, Measured]) -> dict[str, int]:
    """Problems of the pool by domain and the band that rounds before measured, e.g. {"maths, hard": 70}."""
    names = (measured[row["problem_id"]].band if row["problem_id"] in measured else "new" for row in pool)
    counts = Counter(f"{row['domain']}, {name}" for row, name in zip(pool, names, strict=True))
    return dict(sorted(counts.items()))


def plateaued(gain: Interval | None) -> bool:
    """Whether a round gained nothing that its noise would not: its 95 % interval is not above 0."""
    return gain is not None and gain.low <= 0


def rollouts(problems: Sequence[Row], student: InferenceEngine, settings: SelfPlay, model: str, seed: int) -> list[Row]:
    """`settings.rollouts` attempts a problem. Rows of `rollouts`."""
    asked = ask(
        problems,
        student,
        settings.sampling,
        settings.rollouts,
        lambda row: seed_from(seed, "rollout", row["problem_id"]),
    )
    return [
        {
            "rollout_id": content_id(row["problem_id"], model, attempt, completion.seed),
            "problem_id": row["problem_id"],
            "domain": row["domain"],
            "prompt": solve_prompt(row),
        }
        | completion_columns(completion, attempt, model)
        for row, completions in asked
        for attempt, completion in enumerate(completions)
    ]


def unusable(domain: str, completion: str, think_block: bool = True) -> str | None:
    """First rule a completion breaks, or None: one non-empty think block, a remainder, an answer, no CJK after it.

    think_block: False lets it be without one, as a student that is told not to think writes.
    """
    begun, ended = completion.count(BEGIN_THINK), completion.count(END_THINK)
    without = not think_block and not begun and not ended
    if not without and (begun, ended) != (1, 1):
        return "not exactly one think block"
    thoughts, _, remainder = completion.partition(BEGIN_THINK)[2].partition(END_THINK)
    if without:
        remainder = completion
    elif not thoughts.strip():
        return "empty think block"
    if not remainder.strip():
        return "nothing after the think block"
    if CJK.search(remainder):
        return "CJK text after the think block"
    return "no answer" if extract(domain, completion) is None else None


def verdicts(drawn: Sequence[Row], labels: dict[str, Row], verifier: Verifier, think_block: bool = True) -> list[Row]:
    """Rows of `verdicts`: every rollout judged by its problem's label, and whether a pair may use it."""
    rows = []
    for row, verdict in zip(drawn, judge(drawn, labels, "problem_id", verifier), strict=True):
        refused = row.get("finish_reason") in REASONS
        reason = row["finish_reason"] if refused else unusable(row["domain"], row["completion"], think_block)
        identity = {name: row[name] for name in ("rollout_id", "problem_id", "domain")}
        rows.append(identity | {"usable": reason is None, "unusable_because": reason} | verdict)
    return rows


def online_rows(sampled: Iterable[Row], model: str) -> Iterator[Row]:
    """Rows of `rollouts_online` of what an online trainer left (training/rollouts.py).

    model: the student that the training started from.
    """
    for row in sampled:
        said = {name: value for name, value in row["judged"].items() if name not in ("reward", "opened")}
        place = {name: row[name] for name in ("step", "part", "place")}
        own = ("attempt", "prompt", "finish_reason", "tokens", "reward", "learned")
        yield {
            "rollout_id": content_id(said["problem_id"], model, *place.values()),
            **place,
            **{name: row[name] for name in own},
            **said,
            "completion": row["judged"]["opened"] + row["completion"],  # as it was judged, and as engines write it
            "model": model,
            "weights": f"{model} + {row['step']} steps",
        }


def pass_rates(judged: Iterable[Row]) -> dict[str, float]:
    """problem_id -> share of its judged rollouts that pass; infrastructure failures are not counted."""
    groups = defaultdict(list)
    for row in judged:
        if row["passed"] is not None:
            groups[row["problem_id"]].append(row["passed"])
    return {problem: sum(passed) / len(passed) for problem, passed in groups.items()}


def preference_pairs(drawn: Rows, judged: Rows, settings: SelfPlay, seed: int) -> Iterator[Row]:
    """Pairs of a usable pass and a usable fail of the same problem; each completion in one pair at most.

    Problems never solved, or solved at least `max_pass_rate` of the time, give none; neither does a text that both
    passed and failed (a program at the edge of its time limit). Which completions are taken, and how they are matched,
    follows from their text and the seed alone. Of the texts those of one problem are in memory at a time.
    """
    rates = pass_rates(judged)
    taken: dict[str, list[str]] = {}  # problem -> rollouts: a pass, its fail, the next pass, ...
    for problem, (passes, fails) in _usable_texts(drawn, judged, seed).items():
        if not 0 < rates[problem] < settings.max_pass_rate:
            continue
        for undecided in passes.keys() & fails.keys():
            del passes[undecided], fails[undecided]
        count = min(len(passes), len(fails), settings.max_pairs_per_problem)
        matched = zip(_first(passes, count), _first(fails, count), strict=True)
        taken[problem] = [rollout for pair in matched for rollout in pair]
    for problem, rows in _rows_of(taken, drawn):
        for chosen, rejected in zip(rows[::2], rows[1::2], strict=True):
            yield {
                "pair_id": content_id(chosen["rollout_id"], rejected["rollout_id"]),
                "problem_id": problem,
                "domain": chosen["domain"],
                "prompt": chosen["prompt"],
                "chosen": chosen["completion"],
                "rejected": rejected["completion"],
                "chosen_rollout_id": chosen["rollout_id"],
                "rejected_rollout_id": rejected["rollout_id"],
                "pass_rate": rates[problem],
            }


def rejection_sampled(drawn: Rows, judged: Rows, settings: SelfPlay, seed: int) -> Iterator[Row]:
    """Rows of `self_play_examples`: the student's own usable passes, for iterative SFT (rejection sampling).

    The difficulty filter is that of the pairs, but a fail is not needed; distinct texts, at most
    `max_pairs_per_problem` a problem, drawn by their text and the seed.
    """
    rates = pass_rates(judged)
    taken = {
        problem: _first(passes, settings.max_pairs_per_problem)
        for problem, (passes, _) in _usable_texts(drawn, judged, seed).items()
        if rates[problem] < settings.max_pass_rate
    }
    for problem, rows in _rows_of(taken, drawn):
        for row in rows:
            yield {
                "example_id": content_id(row["rollout_id"]),
                "problem_id": problem,
                "domain": row["domain"],
                "rollout_id": row["rollout_id"],
                "prompt": row["prompt"],
                "completion": row["completion"],
                "pass_rate": rates[problem],
            }


Texts = dict[str, tuple[int, str]]
"""Distinct texts by their hash: a random rank, and the first rollout that wrote the text."""


def _usable_texts(drawn: Rows, judged: Rows, seed: int) -> dict[str, tuple[Texts, Texts]]:
    """problem -> its usable passes and fails, the texts themselves left where they are."""
    passed = {row["rollout_id"]: row["passed"] for row in judged if row["usable"] and row["passed"] is not None}
    groups: dict[str, tuple[Texts, Texts]] = defaultdict(lambda: ({}, {}))
    for row in drawn:
        outcome = passed.get(row["rollout_id"])
        if outcome is not None:
            rank = seed_from(seed, "pair", row["completion"])
            side = groups[row["problem_id"]][0 if outcome else 1]
            side.setdefault(content_id(row["completion"]), (rank, row["rollout_id"]))
    return groups


def _first(texts: Texts, count: int) -> list[str]:
    """The rollouts of the `count` texts of lowest rank."""
    return [rollout for _, rollout in sorted(texts.values())[:count]]


def _rows_of(taken: Mapping[str, Sequence[str]], drawn: Rows) -> Iterator[tuple[str, list[Row]]]:
    """Each problem with the rows of the rollouts taken for it, in their order, as soon as all have been read."""
    problem_of = {rollout: problem for problem, rollouts in taken.items() for rollout in rollouts}
    waiting: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in drawn:
        problem = problem_of.get(row["rollout_id"])
        if problem is not None:
            waiting[problem][row["rollout_id"]] = row
            if len(waiting[problem]) == len(taken[problem]):
                own = waiting.pop(problem)
                yield problem, [own[rollout] for rollout in taken[problem]]


def gate_rows(before: Iterable[Row], after: Rows, model: str) -> list[Row]:
    """Rows of `self_play_gate`: the held-out problems that both models were judged on, with both pass rates.

    before, after: rows of `verdicts` of the student before and after the round; model: the one after it.
    """
    rates = pass_rates(before), pass_rates(after)
    domains = {row["problem_id"]: row["domain"] for row in after}
    return [
        {"problem_id": problem, "domain": domains[problem], "before": rates[0][problem],
         "pass_rate": rates[1][problem], "model": model}
        for problem in domains if problem in rates[0] and problem in rates[1]
    ]  # fmt: skip


def gate_difference(rows: Sequence[Row]) -> Interval | None:
    """The round's gain on the held-out problems, paired by problem; None without a problem."""
    if not rows:
        return None
    return paired_difference([[row["pass_rate"]] for row in rows], [[row["before"]] for row in rows])


def regressed(gain: Interval | None) -> bool:
    """Whether the student is worse than before beyond its noise: the whole 95 % interval is below 0."""
    return gain is not None and gain.high < 0
