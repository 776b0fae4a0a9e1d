"""How good a pair (q, p) is on seeds it was not selected on (method sections 1 and 3).

The bound is the standard ELBO, E_q[log p(z,x|c)] + H(q), and its importance-weighted form, which tightens with K; the
paper's printed form counts log p(z|c) twice and is not used. A pair's own bound mixes two things: a better q tightens
it as a better p lifts it. So every p is also measured on one *common pool* of proposals, where only p differs.

A bound of few proposals is the looser, the more spread the posterior over rationales is, so that it flatters a p that
writes few of them. A difference therefore counts only if it holds on a large pool too (`curves.py`). A bound says how
likely p finds the problem, not whether the rationale tells anything about it: that is the information of z,
log p(x|z,c) - log p(x|z',c), where z' was proposed for another problem of the same concepts.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.domain import Domain
from promptcot_assets.domains.layout import END_RATIONALE, generator_completion, parse_completion, problem_block
from promptcot_assets.inference import InferenceEngine, SamplingParams
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Sampling
from promptcot_assets.stages.em.loop import entropy, generator_prompt, rationale_prompt
from promptcot_assets.stages.statistics import mean_and_error


def measured_seeds(seeds: Sequence[Row], training_seeds: int) -> list[Row]:
    """All held-out seeds with concepts, and `training_seeds` training ones, the same in every round."""
    annotated = [row for row in seeds if row["concepts"]]
    training = [row for row in annotated if row["split"] == "train"]
    chosen = sorted(training, key=lambda row: seed_from("measured", row["problem_id"]))[:training_seeds]
    return [row for row in annotated if row["split"] == "held_out"] + chosen


def without_rationale(seeds: Sequence[Row], p: InferenceEngine) -> list[Row]:
    """log p(x|c) when p is made to skip the rationale: the problem block directly after the concepts, nats.

    None where the two are too long to be scored.
    """
    scores = p.score([generator_prompt(row) for row in seeds], [problem_block(row["problem"]) for row in seeds])
    return [
        {
            "problem_id": row["problem_id"],
            "log_p_problem_alone": None if score.refusal else math.fsum(score.logprobs),
        }
        for row, score in zip(seeds, scores, strict=True)
    ]


def of_another_problem(seeds: Sequence[Row], every: Sequence[Row]) -> list[Row]:
    """The held-out seeds with the problem of another seed in place of their own: what z' is proposed for.

    The other one has the same concepts in the same order, and the same level; which one it is follows from the ids. A
    seed that shares them with none of `every` is left out: of it the information of z is not known.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[Row]] = defaultdict(list)
    for row in every:
        groups[row["domain"], row["level"], tuple(row["concepts"])].append(row)
    rows = []
    for seed in seeds:
        same = groups[seed["domain"], seed["level"], tuple(seed["concepts"])]
        others = [row for row in same if row["problem_id"] != seed["problem_id"]]
        if seed["split"] == "held_out" and others:
            other = min(others, key=lambda row: seed_from("other", seed["problem_id"], row["problem_id"]))
            rows.append(seed | {"problem": other["problem"], "other_problem_id": other["problem_id"]})
    return rows


def back_to_their_own(proposed: Sequence[Row], seeds: Sequence[Row]) -> list[Row]:
    """The proposals for `of_another_problem` with the seed's own problem, as `loop.judge` scores them."""
    own = {row["problem_id"]: row["problem"] for row in seeds}
    return [row | {"problem": own[row["problem_id"]], "quoted_from": 0, "quoted_to": 0} for row in proposed]


def under_other_rationales(judged: Sequence[Row], swapped: Sequence[Row]) -> list[Row]:
    """Mean log p(x|z',c) over the usable rationales of another problem, nats; a problem without one is left out.

    swapped: the rows of `of_another_problem`.
    """
    used = _by_problem(row for row in judged if row["log_p_problem"] is not None)
    return [
        {
            "problem_id": row["problem_id"],
            "other_problem_id": row["other_problem_id"],
            "log_p_problem_other": _mean(one["log_p_problem"] for one in used[row["problem_id"]]),
        }
        for row in swapped
        if row["problem_id"] in used
    ]


def fresh_samples(seeds: Sequence[Row], p: InferenceEngine, sampling: Sampling, samples: int, seed: int) -> list[Row]:
    """Per seed's concept set, how many of `samples` fresh problems parse, are well posed, and are so on what was asked.

    The last two are None where the domain cannot tell, and all are of a prompt that p cannot be asked.
    """
    if samples == 0:
        return []
    params = SamplingParams(sampling.temperature, sampling.top_p, sampling.max_new_tokens, n=samples)
    seeds_of_rows = [seed_from(seed, "fresh", row["problem_id"]) for row in seeds]
    drawn = p.generate([generator_prompt(row) for row in seeds], params, seeds_of_rows)
    rows = []
    for row, completions in zip(seeds, drawn, strict=True):
        domain = domain_named(row["domain"])
        problems = [parse_completion(one.text, one.finish_reason == "stop").problem for one in completions]
        asked = not any(one.refusal for one in completions)
        told = asked and domain.well_posed(row["problem"]) is not None
        sound = [x for x in problems if x and domain.well_posed(x)]
        rows.append({
            "problem_id": row["problem_id"],
            "samples_parsed": sum(problem is not None for problem in problems) if asked else None,
            "samples_well_posed": len(sound) if told else None,
            "samples_on_concepts": sum(asked_for(domain, x, row["concepts"]) for x in sound) if told else None,
        })  # fmt: skip
    return rows


def asked_for(domain: Domain, problem: str, concepts: Sequence[str]) -> bool:
    """Whether a text is about exactly these concepts, in any order and as often as they are named."""
    return sorted(domain.concepts_of(problem) or []) == sorted(concepts)


def bounds(judged: Sequence[Row], proposals: int) -> list[Row]:
    """Per problem: importance-weighted bound with K and K/2 proposals, ELBO, both terms, the proposals' shape.

    An unusable proposal has weight 0 and stays in K, so the bounds stay lower bounds: the ELBO is that of q restricted
    to usable rationales, whose share of q is estimated by used / K.
    """
    rows = []
    for problem_id, group in _by_problem(judged).items():
        group = sorted(group, key=lambda row: row["candidate"])
        used = [row for row in group if row["log_p_rationale"] is not None]
        half = [row for row in used if row["candidate"] < proposals // 2]
        rows.append({
            "problem_id": problem_id,
            "concept_set_id": group[0]["concept_set_id"],
            "domain": group[0]["domain"],
            "proposals": proposals,
            "proposals_used": len(used),
            "iw_bound": importance_weighted_bound(used, proposals),
            "iw_bound_half": importance_weighted_bound(half, max(1, proposals // 2)),
            "effective_own_proposals": effective([_log_joint(row) - row["log_q"] for row in used]),
            "elbo": evidence_lower_bound(used, proposals),
            "log_p_rationale": _mean(row["log_p_rationale"] for row in used),
            "log_p_problem": _mean(row["log_p_problem"] for row in used),
            "log_p_problem_unquoted": _mean(row["log_p_problem_unquoted"] for row in used),
            "log_q": _mean(row["log_q"] for row in used),
            "rationale_tokens": _mean(float(row["tokens"]) for row in used),
            "copy_ratio": _mean(row["copy_ratio"] for row in used),
            "distinct_2": distinct_n([row["rationale"] for row in used], 2),
            "acceptance_entropy": entropy([_log_joint(row) for row in used]) if used else None,
        })  # fmt: skip
    return rows


def bound_rows(
    measured: Sequence[Row],
    more: Iterable[Row],
    splits: Mapping[str, str],
    samples: int,
    of: Row,
) -> list[Row]:
    """Rows of `em_bounds`: those of `bounds`, joined with what the other measures say of the same problem.

    A problem without a usable proposal keeps its place: its bounds are then log p(x|c) without a rationale, the
    likelihood of one way to write x and so a lower bound as well (`proposals_used` is 0). Left out it would favour
    the model that lost it.
    splits: problem id -> split. of: series, round, rationale_model, problem_generator.
    """
    joined: dict[str, Row] = defaultdict(lambda: dict.fromkeys(TOLD_APART))
    for row in more:
        joined[row["problem_id"]] = joined[row["problem_id"]] | row
    return [
        _floored(row | _told(row, joined[row["problem_id"]]))
        | of
        | {
            "bound_id": content_id(of["series"], of["round"], row["problem_id"]),
            "split": splits[row["problem_id"]],
            "samples": samples,
        }
        for row in measured
    ]


TOLD_APART = (
    "samples_parsed", "samples_well_posed", "samples_on_concepts", "log_p_problem_other", "other_problem_id",
)  # fmt: skip


def _told(row: Row, more: Row) -> Row:
    own, other = row.get("log_p_problem"), more["log_p_problem_other"]
    return more | {"information": None if own is None or other is None else own - other}


def _floored(row: Row) -> Row:
    floor = row.get("log_p_problem_alone")
    return row | {name: floor for name in ("iw_bound", "iw_bound_half", "elbo") if row.get(name, 0) is None}


MEASURES = (
    "iw_bound", "iw_bound_half", "elbo", "log_p_rationale", "log_p_problem", "log_p_problem_unquoted",
    "log_p_problem_alone", "log_p_problem_other", "information", "log_q", "rationale_tokens", "copy_ratio",
    "distinct_2", "acceptance_entropy", "effective_own_proposals",
)  # fmt: skip


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Means for the asset's page, by split."""
    means = {
        f"{split} {name}": _mean(row[name] for row in rows if row["split"] == split and row[name] is not None)
        for split in ("held_out", "train")
        for name in MEASURES
    }
    return {name: mean for name, mean in means.items() if mean is not None}


def carried_over(rows: Sequence[Row], round_: int) -> list[Row]:
    """The measures of an earlier round as those of `round_`, whose models are the same."""
    return [row | {"round": round_, "bound_id": content_id(row["series"], round_, row["problem_id"])} for row in rows]


def bound_change(after: Sequence[Row], before: Sequence[Row]) -> tuple[float, float, int]:
    """Mean change of the held-out importance-weighted bound over problems measured in both, its standard error, n.

    The error of a single problem's change is infinite: it says nothing about others.
    """
    earlier = {row["problem_id"]: row["iw_bound"] for row in before}
    changes = [
        row["iw_bound"] - earlier[row["problem_id"]]
        for row in after
        if row["split"] == "held_out" and row["iw_bound"] is not None and earlier.get(row["problem_id"]) is not None
    ]
    if not changes:
        return 0.0, 0.0, 0
    mean, error = mean_and_error(changes)
    return mean, error if len(changes) > 1 else math.inf, len(changes)


def effective(log_weights: Sequence[float]) -> float | None:
    """How many equally heavy proposals the weighted ones amount to: exp of the entropy of the normalised weights."""
    return math.exp(entropy(log_weights)) if log_weights else None


def importance_weighted_bound(used: Sequence[Row], proposals: int) -> float | None:
    """log 1/K sum_k exp(log p(z_k,x|c) - log q_k), nats; None when no proposal is usable."""
    return _log_mean_exp([_log_joint(row) - row["log_q"] for row in used], proposals)


def evidence_lower_bound(used: Sequence[Row], proposals: int) -> float | None:
    """log(used/K) + mean of log p(z_k,x|c) - log q_k over the used: never above the importance-weighted bound."""
    mean = _mean(_log_joint(row) - row["log_q"] for row in used)
    return None if mean is None else mean + math.log(len(used) / proposals)


def distinct_n(texts: Sequence[str], n: int) -> float | None:
    """Distinct word n-grams over all of them; None without any."""
    grams = [tuple(words[at : at + n]) for words in map(str.split, texts) for at in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


# ---- one pool of proposals for every p
POOLED = (
    "problem_id", "concept_set_id", "domain", "concepts", "level", "problem", "rationale", "tokens", "seed",
    "lost_because", "rationale_model",
)  # fmt: skip


def pooled(proposed: Mapping[str, Sequence[Row]], first: int | None = None) -> list[Row]:
    """Rows of `proposal_pool`, yet without their density: every q's proposals, numbered through by problem.

    first: of each q so many come first; after them the q take turns, so that every pool that begins with these and ends
    after whole turns is a sample of the same mixture.
    """
    rows = [row | {"rationale_model": q} for q, own in proposed.items() for row in own]
    pool = []
    for problem_id, group in _by_problem(rows).items():
        small = group if first is None else [row for row in group if row["candidate"] < first]
        turns = [] if first is None else [row for row in group if row["candidate"] >= first]
        pool += [
            {name: row[name] for name in POOLED}
            | {"candidate": number, "proposal_id": content_id("pool", problem_id, number, row["rationale"])}
            for number, row in enumerate([*small, *sorted(turns, key=lambda row: row["candidate"])])
        ]
    return pool


def first_and_rest(pool: Sequence[Row], size: int) -> tuple[list[Row], list[Row]]:
    """The small pool, and what a larger one has besides: asked apart, the small one is what it is alone."""
    return [row for row in pool if row["candidate"] < size], [row for row in pool if row["candidate"] >= size]


def pool_sizes(proposals: int, large: int) -> list[int]:
    """The sizes that a bound is told at: `proposals`, four times as many and so on, and `large` at the end."""
    sizes = [proposals]
    while sizes[-1] * 4 < large:
        sizes.append(sizes[-1] * 4)
    return [*sizes, large] if large > proposals else sizes


def large_pool_seeds(seeds: Sequence[Row], count: int) -> list[Row]:
    """`count` held-out seeds of every domain that the large pool is drawn for, the same in every run."""
    chosen = []
    for domain in sorted({row["domain"] for row in seeds}):
        own = [row for row in seeds if row["domain"] == domain]
        chosen += sorted(own, key=lambda row: seed_from("large pool", row["problem_id"]))[:count]
    return chosen


def proposal_densities(pool: Sequence[Row], q: InferenceEngine) -> list[Row]:
    """log q(z|c,x) of every usable proposal under this q, by teacher forcing; or why it cannot be scored."""
    usable = [row for row in pool if row["lost_because"] is None]
    scores = q.score(
        [rationale_prompt(row) for row in usable], [row["rationale"] + END_RATIONALE for row in usable], end=False
    )
    return [
        {
            "proposal_id": row["proposal_id"],
            "log_q": None if score.refusal else math.fsum(score.logprobs),
            "refused": score.refusal and score.refusal.reason,
        }
        for row, score in zip(usable, scores, strict=True)
    ]


def with_mixture_density(pool: Sequence[Row], densities: Sequence[Sequence[Row]]) -> list[Row]:
    """log of the mean of all q's densities in place of each proposal's own log q (the balance heuristic).

    The pool is then a sample of one mixture, whoever wrote what, and a weight p/q never explodes on a text that only
    its own writer finds likely. Densities are of the text as the tokenizer splits it. A proposal that one of the q
    cannot score is unusable.
    """
    by_proposal = defaultdict(list)
    refused: dict[str, str] = {}
    for row in itertools.chain.from_iterable(densities):
        by_proposal[row["proposal_id"]].append(row["log_q"])
        if row["refused"]:
            refused[row["proposal_id"]] = row["refused"]
    return [
        row | {"log_q": None, "lost_because": refused[row["proposal_id"]]}
        if row["proposal_id"] in refused
        else row | {"log_q": _log_mean_exp(by_proposal[row["proposal_id"]], len(densities))}
        for row in pool
    ]


def score_pool(pool: Sequence[Row], p: InferenceEngine) -> list[Row]:
    """log p(z,x|c) of every usable proposal of the pool, nats; None for one too long to be scored: of weight 0."""
    usable = [row for row in pool if row["lost_because"] is None]
    scores = p.score(
        [generator_prompt(row) for row in usable],
        [generator_completion(row["rationale"], row["problem"]) for row in usable],
    )
    return [
        {"proposal_id": row["proposal_id"], "log_p": None if score.refusal else math.fsum(score.logprobs)}
        for row, score in zip(usable, scores, strict=True)
    ]


def common_bounds(
    pool: Sequence[Row],
    scores: Sequence[Row],
    of: Row,
    sizes: Sequence[int] = (),
    floors: Sequence[Row] = (),
) -> list[Row]:
    """Rows of `common_bounds` for one p. of: series, round, problem_generator.

    sizes: one row a problem and size, on the first so many proposals, where the problem has them; by default one a
    problem on all of its own. floors: rows of `without_rationale`, for problems without a usable proposal.
    """
    log_p = {row["proposal_id"]: row["log_p"] for row in scores if row["log_p"] is not None}
    floor = {row["problem_id"]: row["log_p_problem_alone"] for row in floors}
    rows = []
    for problem_id, group in _by_problem(pool).items():
        group = sorted(group, key=lambda row: row["candidate"])
        every = [log_p[row["proposal_id"]] - row["log_q"] if row["proposal_id"] in log_p else None for row in group]
        for size in [one for one in sizes if one <= len(group)] or [len(group)]:
            weights = [one for one in every[:size] if one is not None]
            larger = (size,) if sizes and size > sizes[0] else ()
            rows.append(
                {
                    "bound_id": content_id("common", of["series"], of["round"], problem_id, *larger),
                    "problem_id": problem_id,
                    "domain": group[0]["domain"],
                    "proposals": size,
                    "proposals_used": len(weights),
                    "iw_bound": _log_mean_exp(weights, size) if weights else floor.get(problem_id),
                    "effective_proposals": effective(weights),
                    "log_weights": every[:size],
                }
                | of
            )
    return rows


def without_usable(pool: Sequence[Row], size: int) -> list[Row]:
    """One row of every problem that has no usable proposal among its first `size`."""
    groups = _by_problem(row for row in pool if row["candidate"] < size)
    return [group[0] for group in groups.values() if all(row["lost_because"] for row in group)]


def _by_problem(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["problem_id"]].append(row)
    return groups


def _log_joint(row: Row) -> float:
    return row["log_p_rationale"] + row["log_p_problem"]


def _log_mean_exp(values: Sequence[float], count: int) -> float | None:
    """log(1/count sum exp(values)); the values missing to `count` are weights of 0. None without a value."""
    if not values:
        return None
    top = max(values)
    return top + math.log(math.fsum(math.exp(one - top) for one in values)) - math.log(count)


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
