"""The EM loop of PromptCoT 2.0 (paper section 3.2, method section 3): E-step and M-step.

    q(z | c, x)     rationale model: proposes rationales for a problem
    p(z, x | c)     problem generator: writes the rationale, then the problem

One round: K candidates a seed from q[r-1]; reward R = log p(z|c) + log p(x|z,c) under p[r-1], both terms from one
teacher-forced pass; the best candidate trains q[r]; a greedy rationale of q[r] trains p[r]. Other rules are settings of
`em` (`select`, `drawn_anew`, `sampled`). How good a pair (q, p) is stands in `bounds.py`, when a round must stop in
`gates.py`.
Seeds never change between rounds and synthetic problems never enter.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import (
    BEGIN_PROBLEM,
    BEGIN_RATIONALE,
    END_RATIONALE,
    generator_completion,
    has_marker,
    rationale_block,
)
from promptcot_assets.inference import Completion, InferenceEngine, SamplingParams, TokenScores
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Filters, Mixture, Reward, Sampling
from promptcot_assets.stages.corpus.seed_tables import concept_set_id

CUT_OFF, EMPTY, MARKED = "cut off at the token limit", "empty", "contains a marker"
TOO_LONG, QUOTES = "longer than em.filters.max_tokens", "quotes more of the problem than em.filters.max_copy_ratio"
NOT_DRAWN = "not drawn"  # em.selection: random, posterior, weighted


# ---- training examples: loss on the completion only, so on z and x (method section 2)
def rationale_examples(rows: Iterable[Row]) -> list[Row]:
    """q learns z from c and x."""
    return [{"prompt": rationale_prompt(row), "completion": row["rationale"] + END_RATIONALE} for row in rows]


def generator_examples(rows: Iterable[Row]) -> list[Row]:
    """p learns z and x from c."""
    return [
        {"prompt": generator_prompt(row), "completion": generator_completion(row["rationale"], row["problem"])}
        for row in rows
    ]


def one_a_problem(triples: Sequence[Row]) -> list[Row]:
    """The seeds (c, x) of EM. Of a problem that several annotators gave a triple, the first one counts."""
    return list({row["problem_id"]: row for row in reversed(triples)}.values())[::-1]


def sample_of(triples: Sequence[Row], share: float, seed: int) -> list[Row]:
    """`share` of the annotated triples (em.cold_start_share), the same whatever their order."""
    return _drawn(triples, round(share * len(triples)), seed)


def training_rows(rows: Sequence[Row], triples: Sequence[Row], replay: float, mixture: Mixture, seed: int) -> list[Row]:
    """What a model is trained on: `rows`, with `replay` of the whole drawn from the triples, each row by its weight.

    Rows with `copies` stand there so often; `replay` is a share of the examples, copies counted.
    """
    examples = sum(row.get("copies", 1) for row in rows)
    replayed = _drawn(triples, round(examples * replay / (1 - replay)), seed)
    return [row for row in (*rows, *replayed) for _ in range(row.get("copies", 1) * _copies(row, mixture, seed))]


def control_rows(
    triples: Sequence[Row], share: float, replay: float, mixture: Mixture, seed: int, round_: int = 1
) -> list[Row]:
    """The annotated triples that the control of a round is trained on: as many examples as EM's own phase has.

    EM has one rationale a seed, with its replayed triples; the control has the triples of the cold start (`share` of
    them): others in every round where there are more of them than that, several times over where there are fewer. A
    seed that loses its rationale to EM's filters is counted here all the same.
    """
    nobodys = [row | {"annotator": ""} for row in one_a_problem(triples)]
    phase = len(training_rows(nobodys, triples, replay, mixture, seed))
    own = training_rows(sample_of(triples, share, seed), [], 0.0, mixture, seed)
    return _drawn(own, phase, seed_from(seed, "control", round_))


def _drawn(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """`count` rows by the hash of their id, in their own order; all of them again when there are fewer."""
    if not rows:
        return []
    whole, rest = divmod(count, len(rows))
    places = sorted(range(len(rows)), key=lambda place: seed_from(seed, rows[place]["rationale_id"]))
    return [*list(rows) * whole, *(rows[place] for place in sorted(places[:rest]))]


def _copies(row: Row, mixture: Mixture, seed: int) -> int:
    weight = (
        mixture.domains.get(row["domain"], 1.0)
        * mixture.sources.get(row["source"], 1.0)
        * mixture.annotators.get(row.get("annotator", ""), 1.0)
    )
    return int(weight) + (seed_from(seed, "copies", row["rationale_id"]) / 2**63 < weight % 1)


# ---- E-step
def propose(
    seeds: Sequence[Row], q: InferenceEngine, sampling: Sampling, candidates: int, filters: Filters, seed: int
) -> list[Row]:
    """`candidates` rationales a seed, with log q of each as sampled. Unusable ones are kept and say why.

    Texts stay as sampled, spaces at their ends too: several samples made one z would be counted with the weight of one.
    """
    params = SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_new_tokens=sampling.max_new_tokens,
        n=candidates,
        stop=(END_RATIONALE,),
    )
    row_seeds = [seed_from(seed, row["problem_id"]) for row in seeds]
    drawn = q.generate([rationale_prompt(row) for row in seeds], params, row_seeds)
    rows = []
    for row, completions in zip(seeds, drawn, strict=True):
        for candidate, completion in enumerate(completions):
            start, end = quoted_run(completion.text, row["problem"])
            copied = (end - start) / len(row["problem"])
            rows.append(_seed_columns(row) | {
                "candidate": candidate,
                "rationale": completion.text,
                "finish_reason": completion.finish_reason,
                "tokens": completion.tokens,
                "seed": completion.seed,
                "log_q": None if completion.refusal else completion.logprob,
                "copy_ratio": copied,
                "quoted_from": start,
                "quoted_to": end,
                "style": domain_named(row["domain"]).style(completion.text),
                "lost_because": _unusable(completion, filters, copied),
            })  # fmt: skip
    return rows


def judge(candidates: Sequence[Row], p: InferenceEngine, reward: Reward) -> list[Row]:
    """Both reward terms of every usable candidate from one teacher-forced pass of p over c, z, x.

    log p(z|c) covers the rationale block with its markers, log p(x|z,c) the problem block and the end token; of the
    latter also the part outside the run that z quotes, where it is no copy score. `reward` is what `em.reward` makes
    of them. Candidates of one seed should stand together: they share the pass over c. One that cannot be scored loses.
    """
    usable = [row for row in candidates if row["lost_because"] is None]
    scores = p.score(
        [generator_prompt(row) for row in usable],
        [generator_completion(row["rationale"], row["problem"]) for row in usable],
    )
    terms = {
        id(row): _NO_TERMS | {"lost_because": score.refusal.reason} if score.refusal else _terms(row, score, reward)
        for row, score in zip(usable, scores, strict=True)
    }
    return [row | terms.get(id(row), _NO_TERMS) for row in candidates]


_NO_TERMS: Row = dict.fromkeys(("log_p_rationale", "log_p_problem", "log_p_problem_unquoted", "reward"))


def _terms(row: Row, score: TokenScores, reward: Reward) -> Row:
    problem_block = len(rationale_block(row["rationale"]))
    x = problem_block + len(BEGIN_PROBLEM)
    z = len(BEGIN_RATIONALE)
    spans = {
        "log_p_rationale": (0, problem_block, ()),
        "log_p_problem": (problem_block, math.inf, ()),
        "log_p_problem_unquoted": (problem_block, math.inf, range(x + row["quoted_from"], x + row["quoted_to"])),
    }
    terms = {
        name: math.fsum(one for one, at in _tokens(score, begin, end) if at not in without)
        for name, (begin, end, without) in spans.items()
    }
    ranked = list[float]()
    if reward.rationale:
        span = (0, problem_block) if reward.markers else (z, z + len(row["rationale"]))
        ranked.append(reward.rationale_weight * _ranked_by(score, span, reward.per_token))
    if reward.problem:
        rest = (problem_block, math.inf) if reward.markers else (x, x + len(row["problem"]))
        ranked.append(_ranked_by(score, rest, reward.per_token))
    return terms | {"reward": math.fsum(ranked)}


def _tokens(score: TokenScores, begin: float, end: float) -> list[tuple[float, int]]:
    """(log-probability, offset) of the tokens that start in [begin, end)."""
    return [(one, at) for one, at in zip(score.logprobs, score.offsets, strict=True) if begin <= at < end]


def _ranked_by(score: TokenScores, span: tuple[float, float], per_token: bool) -> float:
    values = [one for one, _ in _tokens(score, *span)]
    return math.fsum(values) / (len(values) or 1) if per_token else math.fsum(values)


def select(candidates: Sequence[Row], selection: str = "best", seed: int = 0, epochs: int = 1) -> list[Row]:
    """Say of every candidate whether the models are trained on it, how often, and otherwise why not.

    best: by reward, ties to the lower candidate number. random, frozen: one of the usable draws, so that a text counts
    as often as q wrote it. For both, of equal texts the first row counts. posterior, weighted: see `_weighed`; every
    draw counts for itself, and several of a seed may be selected. A seed without a usable candidate has none.

    Adds `rank` (1: best, first drawn, or of most weight), `selected`, `lost_because`, `weight` (w_k; null unless drawn
    by it) and `copies`: how many examples of the next training it is. For posterior and weighted these are one a seed
    and epoch, so that such a training takes one pass (`Training.once`).
    """
    groups = defaultdict(list)
    for row in candidates:
        groups[row["problem_id"]].append(row)
    if selection in ("posterior", "weighted"):
        return [row for group in groups.values() for row in _weighed(group, selection, seed, epochs)]
    if selection == "best":
        return [ranked for group in groups.values() for ranked in _rank(group, _by_reward, "lower reward")]

    def by_chance(row: Row) -> tuple[float, int]:
        return seed_from(seed, row["problem_id"], row["candidate"]), row["candidate"]

    return [ranked for group in groups.values() for ranked in _rank(group, by_chance, NOT_DRAWN)]


def posterior_weights(usable: Sequence[Row]) -> list[float]:
    """w_k = softmax_k(R_k - log q_k) over one seed's usable draws from q: they sample p's posterior given c and x.

    Self-normalised importance weights (reweighted wake-sleep, Bornschein & Bengio 2015): exact as K grows, for R the
    joint log p(z,x|c) and q sampled at temperature 1 without truncation.
    """
    logs = [row["reward"] - row["log_q"] for row in usable]
    whole = math.fsum(math.exp(one - max(logs)) for one in logs)
    return [math.exp(one - max(logs)) / whole for one in logs]


def _weighed(group: list[Row], selection: str, seed: int, epochs: int) -> list[Row]:
    usable = [row for row in group if row["lost_because"] is None]
    weights = posterior_weights(usable) if usable else []
    copies = _draws(weights, selection, epochs, random.Random(seed_from(seed, group[0]["problem_id"])))
    order = sorted(range(len(usable)), key=lambda at: (-weights[at], usable[at]["candidate"]))
    of = {
        usable[at]["candidate"]: {
            "rank": rank, "selected": copies[at] > 0, "lost_because": None if copies[at] else NOT_DRAWN,
            "weight": weights[at], "copies": copies[at],
        }
        for rank, at in enumerate(order, 1)
    }  # fmt: skip
    lost = {"rank": None, "selected": False, "weight": None, "copies": 0}
    return [row | of.get(row["candidate"], lost) for row in group]


def _draws(weights: Sequence[float], selection: str, epochs: int, rng: random.Random) -> list[int]:
    """How often each of them is taken in `epochs` draws, epochs * weight on average.

    posterior: independent draws. weighted: systematic resampling, which is never off by one or more.
    """
    if not weights:
        return []
    ends = list(itertools.accumulate(weights))
    ends[-1] = 1.0  # but for rounding
    aside = rng.random()
    points = [rng.random() if selection == "posterior" else (aside + epoch) / epochs for epoch in range(epochs)]
    taken = Counter(bisect.bisect_right(ends, point) for point in points)
    return [taken[at] for at in range(len(weights))]


def drawn_anew(ranked: Sequence[Row], selection: str, seed: int, epochs: int) -> list[Row]:
    """The candidates that p is trained on (em.m_step: selected), by the weights of an E-step but draws of its own.

    One row a seed and text, with its `copies`.
    """
    groups = defaultdict(list)
    for row in ranked:
        if row["weight"] is not None:
            groups[row["problem_id"]].append(row)
    rows = []
    for problem_id, group in groups.items():
        draws = _draws([row["weight"] for row in group], selection, epochs, random.Random(seed_from(seed, problem_id)))
        taken = Counter[str]()
        for row, count in zip(group, draws, strict=True):
            taken[row["rationale"]] += count
        first = {row["rationale"]: row for row in reversed(group)}
        rows += [first[text] | {"copies": count} for text, count in taken.items() if count]
    return rows


def carried(ranked: Sequence[Row], round_: int) -> list[Row]:
    """The winners of an earlier round as those of `round_` (em.selection: frozen)."""
    return [
        row
        | {
            "round": round_,
            "rationale_id": content_id(row["problem_id"], round_, row["candidate"], row["rationale"]),
        }
        for row in ranked
        if row["selected"]
    ]


def candidate_rows(ranked: Sequence[Row], round_: int, q: str, p: str) -> list[Row]:
    """Rows of `em_rationales`; q, p: the model ids that wrote and scored them."""
    return [
        row
        | {
            "rationale_id": content_id(row["problem_id"], round_, row["candidate"], row["rationale"]),
            "round": round_,
            "rationale_model": q,
            "problem_generator": p,
        }
        for row in ranked
    ]


def _by_reward(row: Row) -> tuple[float, int]:
    return -row["reward"], row["candidate"]


def _rank(group: list[Row], order: Callable[[Row], tuple[float, int]], lost: str) -> list[Row]:
    first: dict[str, int] = {}
    losses = {}
    places: dict[str, tuple[float, int]] = {}  # of a text: that of its draw that comes first
    for row in group:
        if row["lost_because"] is not None:
            continue
        text = row["rationale"]
        if text in first:
            losses[row["candidate"]] = f"same text as candidate {first[text]}"
        first.setdefault(text, row["candidate"])
        places[text] = min(places.get(text, order(row)), order(row))
    ranks = {first[text]: rank for rank, text in enumerate(sorted(places, key=places.__getitem__), 1)}
    ranked = []
    for row in group:
        rank = ranks.get(row["candidate"])
        because = row["lost_because"] or losses.get(row["candidate"]) or (None if rank == 1 else lost)
        won = {"rank": rank, "selected": rank == 1, "lost_because": because, "weight": None, "copies": int(rank == 1)}
        ranked.append(row | won)
    return ranked


def losses(ranked: Sequence[Row]) -> Counter[str]:
    """Candidates that are not selected, by reason."""
    reasons = (row["lost_because"] for row in ranked if row["lost_because"])
    return Counter("same text as another candidate" if r.startswith("same text") else r for r in reasons)


def e_step_summary(ranked: Sequence[Row]) -> dict[str, float]:
    """Means for the asset's page: reward of all candidates and of the winners, and the winners' shape."""
    usable = [row for row in ranked if row["reward"] is not None]
    winners = [row for row in ranked if row["selected"]]
    summary = {
        "mean_reward": _mean(row["reward"] for row in usable),
        "mean_reward_of_winners": _mean(row["reward"] for row in winners),
        "mean_tokens_of_winners": _mean(float(row["tokens"]) for row in winners),
        "mean_copy_ratio_of_winners": _mean(row["copy_ratio"] for row in winners),
        "acceptance_entropy": _mean(acceptance_entropies(usable)),
        "seeds_without_a_winner": float(len({r["problem_id"] for r in ranked} - {r["problem_id"] for r in winners})),
    }
    styles = Counter(row["style"] for row in winners if row["style"])
    return {name: value for name, value in summary.items() if value is not None} | {
        f"winners_{style}": float(count) for style, count in sorted(styles.items())
    }


def acceptance_entropies(usable: Sequence[Row]) -> list[float]:
    """Per seed, the entropy (nats) of softmax(R) over its usable candidates: 0 is certain, log K a coin toss."""
    groups = defaultdict(list)
    for row in usable:
        groups[row["problem_id"]].append(row["reward"])
    return [entropy(rewards) for rewards in groups.values()]


def entropy(logits: Sequence[float]) -> float:
    """Entropy of softmax(logits), nats."""
    top = max(logits)
    weights = [math.exp(one - top) for one in logits]
    total = math.fsum(weights)
    return math.log(total) - math.fsum(w / total * (one - top) for w, one in zip(weights, logits, strict=True))


# ---- M-step
def greedy(seeds: Sequence[Row], q: InferenceEngine, sampling: Sampling, filters: Filters) -> list[Row]:
    """The rationale of temperature 0 for every seed; `unusable` is None or the reason why it cannot be trained on."""
    params = SamplingParams(temperature=0.0, max_new_tokens=sampling.max_new_tokens, stop=(END_RATIONALE,))
    return _one_each(seeds, q, params, None, filters, "greedy")


def sampled(seeds: Sequence[Row], q: InferenceEngine, sampling: Sampling, filters: Filters, seed: int) -> list[Row]:
    """One rationale z ~ q(z|c,x) for every seed (em.m_step: sampled), with `unusable` as `greedy` has it."""
    params = SamplingParams(max_new_tokens=sampling.max_new_tokens, stop=(END_RATIONALE,))
    return _one_each(seeds, q, params, [seed_from(seed, row["problem_id"]) for row in seeds], filters, "sampled")


def _one_each(
    seeds: Sequence[Row],
    q: InferenceEngine,
    params: SamplingParams,
    row_seeds: Sequence[int] | None,
    filters: Filters,
    origin: str,
) -> list[Row]:
    drawn = q.generate([rationale_prompt(row) for row in seeds], params, row_seeds)
    rows = []
    for row, (completion,) in zip(seeds, drawn, strict=True):
        start, end = quoted_run(completion.text, row["problem"])
        rows.append(_seed_columns(row) | {
            "rationale": completion.text,
            "origin": origin,
            "copies": 1,
            "selected_rationale_id": None,
            "style": domain_named(row["domain"]).style(completion.text),
            "unusable": _unusable(completion, filters, (end - start) / len(row["problem"])),
        })  # fmt: skip
    return rows


def m_step_rows(chosen: Sequence[Row], round_: int, q: str) -> list[Row]:
    """Rows of `em_m_step`; q: the model id of the new rationale model."""
    return [
        {name: value for name, value in row.items() if name != "unusable"}
        | {
            "rationale_id": content_id(row["problem_id"], round_, "m-step", row["rationale"]),
            "round": round_,
            "rationale_model": q,
        }
        for row in chosen
    ]


def with_winners(written: Sequence[Row], winners: Sequence[Row]) -> tuple[list[Row], Counter[str]]:
    """Rows p is trained on: what the new q wrote (`greedy`, `sampled`), or the seed's E-step winner where that fails.

    Of several winners of a seed that of most weight counts, once.
    """
    by_problem = {row["problem_id"]: row for row in sorted(winners, key=lambda row: -(row.get("rank") or 0))}
    rows, dropped = [], Counter[str]()
    for row in written:
        winner, named = by_problem.get(row["problem_id"]), f"{row['origin']} rationale {row['unusable']}"
        if row["unusable"] is None:
            rows.append(row)
        elif winner is not None:
            dropped[f"{named}: the E-step's winner instead"] += 1
            rows.append(winner_row(winner) | {"copies": 1})
        else:
            dropped[f"{named}, no winner: seed left out"] += 1
    return rows, dropped


def winner_row(winner: Row) -> Row:
    """An E-step winner as a row that p is trained on."""
    return _seed_columns(winner) | {
        "rationale": winner["rationale"],
        "origin": "selected",
        "copies": winner.get("copies", 1),
        "selected_rationale_id": winner["rationale_id"],
        "style": winner["style"],
    }


def quoted_run(rationale: str, problem: str) -> tuple[int, int]:
    """[from, to) of the longest run of the problem that the rationale quotes; the first of equally long ones."""
    begin, end = 0, 0
    for start in range(len(problem)):
        while start + end - begin < len(problem) and problem[start : start + end - begin + 1] in rationale:
            begin, end = start, start + end - begin + 1
    return begin, end


def generator_prompt(row: Row) -> str:
    return domain_named(row["domain"]).generator_prompt(row["concepts"], row["level"])


def rationale_prompt(row: Row) -> str:
    return domain_named(row["domain"]).rationale_prompt(row["concepts"], row["level"], row["problem"])


def _seed_columns(row: Row) -> Row:
    names = ("problem_id", "domain", "source", "concepts", "level", "problem")
    return {name: row[name] for name in names} | {"concept_set_id": concept_set_id(row)}


def _unusable(completion: Completion, filters: Filters, copied: float) -> str | None:
    if completion.refusal:
        return completion.refusal.reason
    if completion.finish_reason != "stop":
        return CUT_OFF
    if not completion.text.strip():
        return EMPTY
    if has_marker(completion.text):
        return MARKED
    if filters.max_tokens is not None and completion.tokens > filters.max_tokens:
        return TOO_LONG
    return QUOTES if copied > filters.max_copy_ratio else None


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
