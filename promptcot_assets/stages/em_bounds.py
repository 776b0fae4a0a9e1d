"""How good a pair (q, p) is on seeds it was not selected on (method sections 1 and 3).

The bound is the standard ELBO, E_q[log p(z,x|c)] + H(q), and its importance-weighted form, which tightens with K; the
paper's printed form counts log p(z|c) twice and is not used. A pair's own bound mixes two things: a better q tightens
it as a better p lifts it. So every p is also measured on one *common pool* of proposals, where only p differs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import END_RATIONALE, generator_completion, parse_completion, problem_block
from promptcot_assets.inference import InferenceEngine, SamplingParams
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Sampling
from promptcot_assets.stages import Row
from promptcot_assets.stages.em import entropy, generator_prompt, rationale_prompt
from promptcot_assets.stages.statistics import mean_and_error


def measured_seeds(seeds: Sequence[Row], training_seeds: int) -> list[Row]:
    """All held-out seeds with concepts, and `training_seeds` training ones, the same in every round."""
    annotated = [row for row in seeds if row["concepts"]]
    training = [row for row in annotated if row["split"] == "train"]
    chosen = sorted(training, key=lambda row: seed_from("measured", row["problem_id"]))[:training_seeds]
    return [row for row in annotated if row["split"] == "held_out"] + chosen


def without_rationale(seeds: Sequence[Row], p: InferenceEngine) -> list[Row]:
    """log p(x|c) when p is made to skip the rationale: the problem block directly after the concepts, nats."""
    scores = p.score([generator_prompt(row) for row in seeds], [problem_block(row["problem"]) for row in seeds])
    return [
        {"problem_id": row["problem_id"], "log_p_problem_alone": math.fsum(score.logprobs)}
        for row, score in zip(seeds, scores, strict=True)
    ]


def fresh_samples(seeds: Sequence[Row], p: InferenceEngine, sampling: Sampling, samples: int, seed: int) -> list[Row]:
    """Per seed's concept set, how many of `samples` fresh problems parse and are well posed (None: cannot be told)."""
    if samples == 0:
        return []
    params = SamplingParams(sampling.temperature, sampling.top_p, sampling.max_new_tokens, n=samples)
    seeds_of_rows = [seed_from(seed, "fresh", row["problem_id"]) for row in seeds]
    drawn = p.generate([generator_prompt(row) for row in seeds], params, seeds_of_rows)
    rows = []
    for row, completions in zip(seeds, drawn, strict=True):
        domain = domain_named(row["domain"])
        problems = [parse_completion(one.text, one.finish_reason == "stop").problem for one in completions]
        told = domain.well_posed(row["problem"]) is not None
        rows.append({
            "problem_id": row["problem_id"],
            "samples_parsed": sum(problem is not None for problem in problems),
            "samples_well_posed": sum(bool(x and domain.well_posed(x)) for x in problems) if told else None,
        })  # fmt: skip
    return rows


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
    """Rows of `em_bounds`: those of `bounds`, joined with what `without_rationale` and `fresh_samples` say.

    splits: problem id -> split. of: series, round, rationale_model, problem_generator.
    """
    joined: dict[str, Row] = defaultdict(lambda: {"samples_parsed": None, "samples_well_posed": None})
    for row in more:
        joined[row["problem_id"]] = joined[row["problem_id"]] | row
    return [
        row
        | joined[row["problem_id"]]
        | of
        | {
            "bound_id": content_id(of["series"], of["round"], row["problem_id"]),
            "split": splits[row["problem_id"]],
            "samples": samples,
        }
        for row in measured
    ]


MEASURES = (
    "iw_bound", "iw_bound_half", "elbo", "log_p_rationale", "log_p_problem", "log_p_problem_unquoted",
    "log_p_problem_alone", "log_q", "rationale_tokens", "copy_ratio", "distinct_2", "acceptance_entropy",
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
    """Mean change of the held-out importance-weighted bound over problems measured in both, its standard error, n."""
    earlier = {row["problem_id"]: row["iw_bound"] for row in before}
    changes = [
        row["iw_bound"] - earlier[row["problem_id"]]
        for row in after
        if row["split"] == "held_out" and row["iw_bound"] is not None and earlier.get(row["problem_id"]) is not None
    ]
    return (*mean_and_error(changes), len(changes)) if changes else (0.0, 0.0, 0)


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


def pooled(proposed: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Rows of `proposal_pool`, yet without their density: every q's proposals, numbered through by problem."""
    rows = [row | {"rationale_model": q} for q, own in proposed.items() for row in own]
    return [
        {name: row[name] for name in POOLED}
        | {"candidate": number, "proposal_id": content_id("pool", problem_id, number, row["rationale"])}
        for problem_id, group in _by_problem(rows).items()
        for number, row in enumerate(group)
    ]


def proposal_densities(pool: Sequence[Row], q: InferenceEngine) -> list[Row]:
    """log q(z|c,x) of every usable proposal under this q, by teacher forcing."""
    usable = [row for row in pool if row["lost_because"] is None]
    scores = q.score(
        [rationale_prompt(row) for row in usable], [row["rationale"] + END_RATIONALE for row in usable], end=False
    )
    return [
        {"proposal_id": row["proposal_id"], "log_q": math.fsum(score.logprobs)}
        for row, score in zip(usable, scores, strict=True)
    ]


def with_mixture_density(pool: Sequence[Row], densities: Sequence[Sequence[Row]]) -> list[Row]:
    """log of the mean of all q's densities in place of each proposal's own log q (the balance heuristic).

    The pool is then a sample of one mixture, whoever wrote what, and a weight p/q never explodes on a text that only
    its own writer finds likely. Densities are of the text as the tokenizer splits it.
    """
    by_proposal = defaultdict(list)
    for one in densities:
        for row in one:
            by_proposal[row["proposal_id"]].append(row["log_q"])
    return [row | {"log_q": _log_mean_exp(by_proposal[row["proposal_id"]], len(densities))} for row in pool]


def score_pool(pool: Sequence[Row], p: InferenceEngine) -> list[Row]:
    """log p(z,x|c) of every usable proposal of the pool, nats."""
    usable = [row for row in pool if row["lost_because"] is None]
    scores = p.score(
        [generator_prompt(row) for row in usable],
        [generator_completion(row["rationale"], row["problem"]) for row in usable],
    )
    return [
        {"proposal_id": row["proposal_id"], "log_p": math.fsum(score.logprobs)}
        for row, score in zip(usable, scores, strict=True)
    ]


def common_bounds(pool: Sequence[Row], scores: Sequence[Row], of: Row) -> list[Row]:
    """Rows of `common_bounds` for one p. of: series, round, problem_generator."""
    log_p = {row["proposal_id"]: row["log_p"] for row in scores}
    rows = []
    for problem_id, group in _by_problem(pool).items():
        weights = [log_p[row["proposal_id"]] - row["log_q"] for row in group if row["proposal_id"] in log_p]
        rows.append(
            {
                "bound_id": content_id("common", of["series"], of["round"], problem_id),
                "problem_id": problem_id,
                "domain": group[0]["domain"],
                "proposals": len(group),
                "proposals_used": len(weights),
                "iw_bound": _log_mean_exp(weights, len(group)),
                "effective_proposals": math.exp(entropy(weights)) if weights else None,
            }
            | of
        )
    return rows


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
