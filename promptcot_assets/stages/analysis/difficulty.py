"""How hard problems are: pass rates with intervals, bands, and one scale for the problems of several solvers.

The scale is the Rasch model: solver s passes problem i with probability 1 / (1 + exp(difficulty_i - ability_s)).
Solvers are few and problems many, and most problems are tried a few times, so problems are integrated out (difficulties
are normal around 0, their spread is estimated) and abilities are estimated by marginal maximum likelihood. What is
given of a problem is its posterior: problems that everybody or nobody solves get a finite place and a wide error.
A second parameter a problem (how sharply it separates solvers) is not fitted: that takes dozens of solvers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promptcot_assets.inference.refusals import REASONS
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Band

NORMAL_95 = 1.959964
HARD, MEDIUM = 1 / 4, 1 / 2  # pass rates where these bands end

Floats = NDArray[np.float64]
NODES = np.linspace(-5, 5, 101)  # of the difficulties, in units of their spread
LOG_WEIGHTS = -(NODES**2) / 2 - np.log(np.exp(-(NODES**2) / 2).sum())
# weak priors keep what the data leave open finite: a solver that passes everything, problems all alike
ABILITY_SD, LOG_SPREAD_SD = 5.0, 1.0


# ---- one solver
def difficulty(drawn: Sequence[Row], judged: Sequence[Row]) -> list[Row]:
    """Pass rate of the student on every problem it played on, with its Wilson interval. Rows of `difficulty`.

    Rollouts without a verdict (our failure) do not count.
    """
    passed = {row["rollout_id"]: row["passed"] for row in judged}
    groups = defaultdict(list)
    for row in drawn:
        groups[row["problem_id"], row["domain"], row["model"]].append(row)
    rows = []
    for (problem, domain, model), group in groups.items():
        outcomes = [passed[row["rollout_id"]] for row in group if passed[row["rollout_id"]] is not None]
        if not outcomes:
            continue
        rate = sum(outcomes) / len(outcomes)
        low, high = wilson_interval(sum(outcomes), len(outcomes))
        rows.append({
            "problem_id": problem,
            "domain": domain,
            "pass_rate": rate,
            "low": low,
            "high": high,
            "band": band(rate),
            "passes": sum(outcomes),
            "rollouts": len(outcomes),
            "tokens": math.fsum(row["tokens"] for row in group) / len(group),
            "model": model,
        })  # fmt: skip
    return rows


def band(pass_rate: float) -> Band:
    """unsolved, hard (up to a quarter), medium (below a half), easy, solved. The paper plays on hard and medium."""
    if pass_rate in (0, 1):
        return "solved" if pass_rate else "unsolved"
    return "hard" if pass_rate <= HARD else "medium" if pass_rate < MEDIUM else "easy"


def possible_bands(low: float, high: float) -> frozenset[Band]:
    """The bands that an interval of pass rates reaches into: after a few attempts a problem may be of several."""
    reaches: dict[Band, bool] = {
        "unsolved": low == 0,
        "hard": low <= HARD and high > 0,
        "medium": low < MEDIUM and high > HARD,
        "easy": low < 1 and high >= MEDIUM,
        "solved": high == 1,
    }
    return frozenset(name for name, reached in reaches.items() if reached)


@dataclass(frozen=True)
class Measured:
    """What the attempts at a problem say of its band: the likeliest one, and all that it may be of."""

    band: Band
    possible: frozenset[Band]


def measured_bands(rounds: Iterable[Sequence[Row]]) -> dict[str, Measured]:
    """problem_id -> its bands, by the last of the rounds (rows of `difficulty`) that played on it."""
    return {
        row["problem_id"]: Measured(row["band"], possible_bands(row["low"], row["high"]))
        for rows in rounds
        for row in rows
    }


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share from n trials."""
    share, z2 = successes / n, NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


# ---- several solvers
@dataclass(frozen=True)
class Ability:
    """How good a solver is, in logits: at 0 it passes the average problem half of the time."""

    domain: str
    solver: str
    ability: float
    standard_error: float
    attempts: int


def item_difficulty(played: Iterable[Row], traces: Iterable[Row]) -> tuple[list[Row], list[Ability]]:
    """Rows of `item_difficulty`, and the abilities of the solvers on the same scale; each domain has its own.

    played: rows of `difficulty`, of all students. traces: rows of `teacher_traces`; the teacher is a solver too, though
    a flattered one: it is judged by a label it voted for itself.
    """
    tried: dict[str, list[tuple[str, str, int, int]]] = defaultdict(list)
    for row in played:
        tried[row["domain"]].append((row["problem_id"], row["model"], row["passes"], row["rollouts"]))
    for row in traces:
        if row["drop_reason"] not in ("system_error", *REASONS):  # our failure, or nothing was written: no verdict
            tried[row["domain"]].append((row["problem_id"], row["teacher"], row["valid"], 1))
    rows: list[Row] = []
    abilities: list[Ability] = []
    for domain, own in sorted(tried.items()):
        problems, solvers = sorted({one[0] for one in own}), sorted({one[1] for one in own})
        column = {name: at for at, name in enumerate(problems)}
        line = {name: at for at, name in enumerate(solvers)}
        passes, attempts = (np.zeros((len(solvers), len(problems))) for _ in range(2))
        for problem, solver, passed, asked in own:
            passes[line[solver], column[problem]] += passed
            attempts[line[solver], column[problem]] += asked
        fit = rasch(passes, attempts)
        rows += [_item_row(domain, problem, at, passes, attempts, fit) for at, problem in enumerate(problems)]
        abilities += [
            Ability(domain, solver, float(fit.abilities[at]), float(fit.ability_errors[at]), int(attempts[at].sum()))
            for at, solver in enumerate(solvers)
        ]
    return rows, abilities


def _item_row(domain: str, problem: str, at: int, passes: Floats, attempts: Floats, fit: RaschFit) -> Row:
    return {
        "problem_id": problem,
        "domain": domain,
        "difficulty": float(fit.difficulties[at]),
        "standard_error": float(fit.difficulty_errors[at]),
        "solvers": int((attempts[:, at] > 0).sum()),
        "attempts": int(attempts[:, at].sum()),
        "pass_rate": float(passes[:, at].sum() / attempts[:, at].sum()),
    }


@dataclass(frozen=True)
class RaschFit:
    """Logits. abilities, ability_errors: [solvers], maximum likelihood with standard errors. difficulties,
    difficulty_errors: [problems], posterior mean and standard deviation. spread: standard deviation of difficulties."""

    abilities: Floats
    ability_errors: Floats
    difficulties: Floats
    difficulty_errors: Floats
    spread: float


def rasch(passes: Floats, attempts: Floats) -> RaschFit:
    """The Rasch model of `passes` of `attempts` [solvers, problems]; 0 attempts where a solver was not asked.

    Raises: ValueError when there are more passes than attempts.
    """
    from scipy.optimize import minimize

    passes, attempts = np.asarray(passes, float), np.asarray(attempts, float)
    if (passes > attempts).any() or (passes < 0).any():
        solver, problem = np.argwhere((passes > attempts) | (passes < 0))[0]
        raise ValueError(f"solver {solver} has {passes[solver, problem]:g} passes of {attempts[solver, problem]:g}")
    outcomes, place, count = np.unique(np.vstack([passes, attempts]), axis=1, return_inverse=True, return_counts=True)
    passes, attempts = np.split(outcomes, 2)  # problems with the same outcomes share their place
    precision = np.array([1 / ABILITY_SD**2] * len(passes) + [1 / LOG_SPREAD_SD**2])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        _, total, scores = _posterior(parameters, passes, attempts)
        penalty = (precision * parameters**2).sum() / 2
        return penalty - count @ total, precision * parameters - count @ scores

    found = minimize(loss, np.zeros(len(passes) + 1), jac=True, method="BFGS").x
    weights, _, scores = _posterior(found, passes, attempts)
    spread = float(np.exp(found[-1]))
    means = weights @ NODES
    variances = (weights @ NODES**2 - means**2).clip(min=0)
    information = scores.T @ (scores * count[:, None]) + np.diag(precision)  # outer products of the problems' scores
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    difficulties, difficulty_errors = spread * means, spread * np.sqrt(variances)
    return RaschFit(found[:-1], errors[:-1], difficulties[place.ravel()], difficulty_errors[place.ravel()], spread)


def _posterior(parameters: Floats, passes: Floats, attempts: Floats) -> tuple[Floats, Floats, Floats]:
    """At abilities and log spread: every problem's posterior over NODES [problems, nodes], its log-likelihood
    [problems], and the gradient of that by the parameters [problems, parameters]."""
    from scipy.special import expit, log_expit, logsumexp

    spread = np.exp(parameters[-1])
    logits = parameters[:-1, None] - spread * NODES  # [solvers, nodes]
    joint = passes.T @ log_expit(logits) + (attempts - passes).T @ log_expit(-logits) + LOG_WEIGHTS
    total = logsumexp(joint, axis=1)
    weights = np.exp(joint - total[:, None])
    chances = expit(logits).T
    by_ability = passes.T - attempts.T * (weights @ chances)
    at_node = weights * NODES
    by_spread = -spread * (passes.T * at_node.sum(axis=1, keepdims=True) - attempts.T * (at_node @ chances)).sum(axis=1)
    return weights, total, np.column_stack([by_ability, by_spread])
