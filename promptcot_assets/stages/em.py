"""The EM loop of PromptCoT 2.0 (paper section 3.2, method section 3): E-step, M-step, held-out bounds.

    q(z | c, x)     rationale model: proposes rationales for a problem
    p(z, x | c)     problem generator: writes the rationale, then the problem

One round: K candidates a seed from q[r-1]; reward R = log p(z|c) + log p(x|z,c) under p[r-1], both terms from one
teacher-forced pass; the best candidate trains q[r]; a greedy rationale of q[r] trains p[r]. The bound is the standard
ELBO, E_q[log p(z,x|c)] + H(q); the paper's printed form counts log p(z|c) twice and is not used.
Seeds never change between rounds and synthetic problems never enter.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import (
    END_RATIONALE,
    generator_completion,
    has_marker,
    parse_completion,
    rationale_block,
)
from promptcot_assets.inference import InferenceEngine, SamplingParams
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Sampling
from promptcot_assets.stages import Row
from promptcot_assets.stages.corpus import concept_set_id
from promptcot_assets.stages.statistics import mean_and_error

CUT_OFF, EMPTY, MARKED = "cut off at the token limit", "empty", "contains a marker"


# ---- training examples: loss on the completion only, so on z and x (method section 2)
def rationale_examples(rows: Iterable[Row]) -> list[Row]:
    """q learns z from c and x."""
    return [{"prompt": _rationale_prompt(row), "completion": row["rationale"] + END_RATIONALE} for row in rows]


def generator_examples(rows: Iterable[Row]) -> list[Row]:
    """p learns z and x from c."""
    return [
        {"prompt": _generator_prompt(row), "completion": generator_completion(row["rationale"], row["problem"])}
        for row in rows
    ]


# ---- E-step
def propose(seeds: Sequence[Row], q: InferenceEngine, sampling: Sampling, candidates: int, seed: int) -> list[Row]:
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
    drawn = q.generate([_rationale_prompt(row) for row in seeds], params, row_seeds)
    rows = []
    for row, completions in zip(seeds, drawn, strict=True):
        for candidate, completion in enumerate(completions):
            rationale = completion.text
            rows.append(_seed_columns(row) | {
                "candidate": candidate,
                "rationale": rationale,
                "finish_reason": completion.finish_reason,
                "tokens": completion.tokens,
                "seed": completion.seed,
                "log_q": completion.logprob,
                "copy_ratio": copy_ratio(rationale, row["problem"]),
                "style": domain_named(row["domain"]).style(rationale),
                "lost_because": _unusable(rationale, completion.finish_reason == "stop"),
            })  # fmt: skip
    return rows


def judge(candidates: Sequence[Row], p: InferenceEngine) -> list[Row]:
    """Both reward terms of every usable candidate from one teacher-forced pass of p over c, z, x.

    log p(z|c) covers the rationale block with its markers, log p(x|z,c) the problem block and the end token.
    """
    usable = [row for row in candidates if row["lost_because"] is None]
    scores = p.score(
        [_generator_prompt(row) for row in usable],
        [generator_completion(row["rationale"], row["problem"]) for row in usable],
    )
    terms = {}
    for row, score in zip(usable, scores, strict=True):
        problem_starts = len(rationale_block(row["rationale"]))
        log_z = math.fsum(v for v, at in zip(score.logprobs, score.offsets, strict=True) if at < problem_starts)
        terms[id(row)] = (log_z, math.fsum(score.logprobs) - log_z)
    return [row | _reward(*terms.get(id(row), (None, None))) for row in candidates]


def select(candidates: Sequence[Row]) -> list[Row]:
    """Rank every seed's candidates by reward; the best is selected, each other row says why it lost.

    Of equal texts the first counts; ties go to the lower candidate number. A seed without a usable candidate has none.
    """
    groups = defaultdict(list)
    for row in candidates:
        groups[row["problem_id"]].append(row)
    return [ranked for group in groups.values() for ranked in _rank(group)]


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


def _rank(group: list[Row]) -> list[Row]:
    first: dict[str, int] = {}
    losses = {}
    for row in group:
        if row["lost_because"] is None and row["rationale"] in first:
            losses[row["candidate"]] = f"same text as candidate {first[row['rationale']]}"
        elif row["lost_because"] is None:
            first[row["rationale"]] = row["candidate"]
    contenders = [row for row in group if row["candidate"] in first.values()]
    order = sorted(contenders, key=lambda row: (-row["reward"], row["candidate"]))
    ranks = {row["candidate"]: rank for rank, row in enumerate(order, 1)}
    ranked = []
    for row in group:
        rank = ranks.get(row["candidate"])
        lost = row["lost_because"] or losses.get(row["candidate"]) or (None if rank == 1 else "lower reward")
        ranked.append(row | {"rank": rank, "selected": rank == 1, "lost_because": lost})
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
        "seeds_without_a_winner": float(len({row["problem_id"] for row in ranked}) - len(winners)),
    }
    styles = Counter(row["style"] for row in winners if row["style"])
    return {name: value for name, value in summary.items() if value is not None} | {
        f"winners_{style}": float(count) for style, count in sorted(styles.items())
    }


# ---- M-step
def greedy(seeds: Sequence[Row], q: InferenceEngine, sampling: Sampling) -> list[Row]:
    """The rationale of temperature 0 for every seed; `usable` is None or the reason why it cannot be trained on."""
    params = SamplingParams(temperature=0.0, max_new_tokens=sampling.max_new_tokens, stop=(END_RATIONALE,))
    drawn = q.generate([_rationale_prompt(row) for row in seeds], params)
    rows = []
    for row, (completion,) in zip(seeds, drawn, strict=True):
        rationale = completion.text
        rows.append(_seed_columns(row) | {
            "rationale": rationale,
            "origin": "greedy",
            "selected_rationale_id": None,
            "style": domain_named(row["domain"]).style(rationale),
            "unusable": _unusable(rationale, completion.finish_reason == "stop"),
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


def with_winners(greedy_rows: Sequence[Row], winners: Sequence[Row]) -> tuple[list[Row], Counter[str]]:
    """Rows p is trained on: the greedy rationale, or the seed's E-step winner where greedy gave none."""
    by_problem = {row["problem_id"]: row for row in winners}
    rows, dropped = [], Counter[str]()
    for row in greedy_rows:
        winner = by_problem.get(row["problem_id"])
        if row["unusable"] is None:
            rows.append(row)
        elif winner is not None:
            dropped[f"greedy rationale {row['unusable']}: the E-step's winner instead"] += 1
            rows.append(winner_row(winner))
        else:
            dropped[f"greedy rationale {row['unusable']}, no winner: seed left out"] += 1
    return rows, dropped


def winner_row(winner: Row) -> Row:
    """An E-step winner as a row that p is trained on."""
    return _seed_columns(winner) | {
        "rationale": winner["rationale"],
        "origin": "selected",
        "selected_rationale_id": winner["rationale_id"],
        "style": winner["style"],
    }


# ---- held-out measures
def bounds(judged: Sequence[Row], proposals: int) -> list[Row]:
    """Per held-out problem: importance-weighted bound with K and K/2 proposals, ELBO, both terms (method section 1).

    An unusable proposal has weight 0 and stays in K, so the bounds stay lower bounds: the ELBO is that of q restricted
    to usable rationales, whose share of q is estimated by used / K.
    """
    groups = defaultdict(list)
    for row in judged:
        groups[row["problem_id"]].append(row)
    rows = []
    for problem_id, group in groups.items():
        group = sorted(group, key=lambda row: row["candidate"])
        used = [row for row in group if row["reward"] is not None]
        rows.append({
            "problem_id": problem_id,
            "concept_set_id": group[0]["concept_set_id"],
            "domain": group[0]["domain"],
            "proposals": proposals,
            "proposals_used": len(used),
            "iw_bound": importance_weighted_bound(used, proposals),
            "iw_bound_half": importance_weighted_bound(
                [row for row in used if row["candidate"] < proposals // 2], max(1, proposals // 2)
            ),
            "elbo": evidence_lower_bound(used, proposals),
            "log_p_rationale": _mean(row["log_p_rationale"] for row in used),
            "log_p_problem": _mean(row["log_p_problem"] for row in used),
            "rationale_tokens": _mean(float(row["tokens"]) for row in used),
        })  # fmt: skip
    return rows


def bound_rows(
    measured: Sequence[Row], fresh: Sequence[Row], samples: int, series: str, round_: int, q: str, p: str
) -> list[Row]:
    """Rows of `em_bounds` from `bounds` and `fresh_samples`."""
    well_posed = {row["problem_id"]: row["samples_well_posed"] for row in fresh}
    return [
        row
        | {
            "bound_id": content_id(series, round_, row["problem_id"]),
            "series": series,
            "round": round_,
            "samples": samples,
            "samples_well_posed": well_posed.get(row["problem_id"]),
            "rationale_model": q,
            "problem_generator": p,
        }
        for row in measured
    ]


def bound_change(after: Sequence[Row], before: Sequence[Row]) -> tuple[float, float, int]:
    """Mean change of the importance-weighted bound over problems measured in both, its standard error, their number."""
    earlier = {row["problem_id"]: row["iw_bound"] for row in before}
    changes = [
        row["iw_bound"] - earlier[row["problem_id"]]
        for row in after
        if row["iw_bound"] is not None and earlier.get(row["problem_id"]) is not None
    ]
    if not changes:
        return 0.0, 0.0, 0
    return *mean_and_error(changes), len(changes)


def importance_weighted_bound(used: Sequence[Row], proposals: int) -> float | None:
    """log 1/K sum_k exp(R_k - log q_k), nats; None when no proposal is usable."""
    if not used:
        return None
    weights = [row["reward"] - row["log_q"] for row in used]
    top = max(weights)
    return top + math.log(math.fsum(math.exp(w - top) for w in weights)) - math.log(proposals)


def evidence_lower_bound(used: Sequence[Row], proposals: int) -> float | None:
    """log(used/K) + mean of R_k - log q_k over the used, nats: never above the importance-weighted bound."""
    mean = _mean(row["reward"] - row["log_q"] for row in used)
    return None if mean is None else mean + math.log(len(used) / proposals)


def fresh_samples(
    held_out: Sequence[Row], p: InferenceEngine, sampling: Sampling, samples: int, seed: int
) -> list[Row]:
    """Per held-out concept set, how many of `samples` fresh problems are well posed (None: cannot be told)."""
    if samples == 0:
        return []
    params = SamplingParams(sampling.temperature, sampling.top_p, sampling.max_new_tokens, n=samples)
    seeds = [seed_from(seed, "fresh", row["problem_id"]) for row in held_out]
    drawn = p.generate([_generator_prompt(row) for row in held_out], params, seeds)
    rows = []
    for row, completions in zip(held_out, drawn, strict=True):
        domain = domain_named(row["domain"])
        blocks = [parse_completion(c.text, c.finish_reason == "stop") for c in completions]
        verdicts = [domain.well_posed(block.problem) if block.problem else False for block in blocks]
        told = domain.well_posed(row["problem"]) is not None
        rows.append({"problem_id": row["problem_id"], "samples_well_posed": sum(map(bool, verdicts)) if told else None})
    return rows


def copy_ratio(rationale: str, problem: str) -> float:
    """Length of the longest common substring over the problem's length: near 1 means z quotes x."""
    longest = 0
    for start in range(len(problem)):
        while start + longest < len(problem) and problem[start : start + longest + 1] in rationale:
            longest += 1
    return longest / len(problem) if problem else 0.0


def _generator_prompt(row: Row) -> str:
    return domain_named(row["domain"]).generator_prompt(row["concepts"], row["level"])


def _rationale_prompt(row: Row) -> str:
    return domain_named(row["domain"]).rationale_prompt(row["concepts"], row["level"], row["problem"])


def _seed_columns(row: Row) -> Row:
    names = ("problem_id", "domain", "concepts", "level", "problem")
    return {name: row[name] for name in names} | {"concept_set_id": concept_set_id(row)}


def _unusable(rationale: str, finished: bool) -> str | None:
    if not finished:
        return CUT_OFF
    if not rationale.strip():
        return EMPTY
    return MARKED if has_marker(rationale) else None


def _reward(log_z: float | None, log_x: float | None) -> Row:
    reward = None if log_z is None or log_x is None else log_z + log_x
    return {"log_p_rationale": log_z, "log_p_problem": log_x, "reward": reward}


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
