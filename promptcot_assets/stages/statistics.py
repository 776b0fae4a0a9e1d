"""Scores of a benchmark with their uncertainty: avg@k, pass@k, majority@k, intervals, paired differences, a planner.

`results` is everywhere one list a question, one 0 or 1 a generation (a share between them is taken too). The questions
are the sample: generations of one question resemble each other, so every standard error is that of the mean over
*questions* (clustered by question), never that of questions times generations. A score is the mean of the questions'
own means, so a question with more generations weighs no more.

When several models or benchmarks are compared at once, some difference will look real by chance: with m comparisons
pass `level=corrected_level(m)` (Bonferroni), or read every interval as the only one.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil, comb, fsum, inf, sqrt

Results = Sequence[Sequence[float]]


SMALLEST_EFFECT = 1e-6  # a ten thousandth of a point: beyond it nobody has so many questions


class StatisticsError(ValueError):
    """Results or settings that have no such statistic: names the question or setting and the mend."""


@dataclass(frozen=True)
class Interval:
    """An estimate in [0, 1] (a difference in [-1, 1]) with its two-sided confidence interval."""

    estimate: float
    low: float
    high: float
    standard_error: float  # clustered by question
    questions: int

    @property
    def spread(self) -> float:
        """Standard deviation between questions, what `plan_questions` asks for."""
        return self.standard_error * sqrt(self.questions)


@dataclass(frozen=True)
class SpreadParts:
    """Where the spread of two models' differences comes from, as standard deviations.

    between: of the differences that endless generations of each question would show; within: of the difference
    between one generation of each model on the same question. Only `within` shrinks with more generations.
    """

    between: float
    within: float

    def of(self, generations: int) -> float:
        """The spread with so many generations of each question by each model, what `plan_questions` asks for."""
        return sqrt(self.between**2 + self.within**2 / generations)


def avg_at_k(results: Results, k: int | None = None) -> float:
    """Mean share of right answers among the first `k` generations of each question (all of them by default)."""
    return _mean(_question_means(results, k))


def pass_at_k(results: Results, k: int) -> float:
    """Chance that at least one of `k` generations is right: the unbiased estimate 1 - C(n - c, k) / C(n, k) a question.

    `n >= k` generations of each question are used in full; `c` of them are right.
    """
    return _mean(_pass_chances(results, k))


def pass_at_k_interval(results: Results, k: int, level: float = 0.95) -> Interval:
    """pass@k with its interval, clustered by question like that of avg@k."""
    return clustered_interval([[chance] for chance in _pass_chances(results, k)], level=level)


def majority_at_k(
    results: Results, k: int | None = None, answers: Sequence[Sequence[Hashable | None]] | None = None
) -> float:
    """Share of questions whose most frequent answer among the first `k` generations is right.

    `answers` are the normal forms of the answers, alongside `results`; None is no answer and has no vote. Where several
    answers lead, the question counts by the share of them that are right. Without `answers` all wrong ones are taken
    for one and the same, so the result is a lower bound: right needs more than half, and half counts half.
    """
    return _mean(_votes(results, k, answers))


def majority_interval(
    results: Results,
    k: int | None = None,
    answers: Sequence[Sequence[Hashable | None]] | None = None,
    level: float = 0.95,
) -> Interval:
    """majority@k with its interval, clustered by question like that of avg@k."""
    return clustered_interval([[vote] for vote in _votes(results, k, answers)], level=level)


def clustered_interval(results: Results, k: int | None = None, level: float = 0.95) -> Interval:
    """avg@k with an interval for what it would be on *all questions of this kind*.

    Wilson's interval with the effective number of questions p (1 - p) / SE^2 and Student's t for the few questions
    (after Korn & Graubard, 1998): it stays inside [0, 1] and says something when every answer is right. One question
    tells nothing about others: its interval is [0, 1] and its standard error infinite.
    """
    means = _question_means(results, k)
    n, p = len(means), _mean(means)
    if n == 1:
        return Interval(p, 0.0, 1.0, inf, 1)
    error = _standard_error(means)
    if error > 0:
        effective = p * (1 - p) / error**2
    elif 0 < p < 1:  # all questions alike and none settled: as if every generation were a question
        effective = float(sum(len(marks[:k]) for marks in results))
    else:
        effective = float(n)
    t = student(level, n - 1)
    centre = (p + t**2 / (2 * effective)) / (1 + t**2 / effective)
    half = t / (1 + t**2 / effective) * sqrt(p * (1 - p) / effective + t**2 / (4 * effective**2))
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), error, n)


def paired_difference(first: Results, second: Results, k: int | None = None, level: float = 0.95) -> Interval:
    """avg@k of `first` minus that of `second` on the same questions in the same order, with its interval.

    The standard error is that of the questions' own differences, so what makes a question hard for both models cancels.
    Where all differences are equal, as between two models that agree throughout, the interval allows for the
    discordant questions that so small a sample may have missed (at most 1 - (1 - level)^(1 / n) of all). Where at
    most a quarter of the questions differ, Student's interval is too short on the side of what was not seen: either end
    is then that of Tango's score interval where that lies further out (`_score_interval`).
    Coverage at the sizes in use: docs/architecture/evaluation.md.
    """
    pair = _question_means(first, k), _question_means(second, k)
    if len(pair[0]) != len(pair[1]):
        raise StatisticsError(
            f"{len(pair[0])} against {len(pair[1])} questions: a paired difference needs the same ones"
        )
    differences = [left - right for left, right in zip(*pair, strict=True)]
    n, mean, error = len(differences), _mean(differences), _standard_error(differences)
    plain = difference_interval(mean, error, n, level)
    if n == 1 or error == 0:
        return plain
    low, high = plain.low, plain.high
    if fsum(map(abs, differences)) ** 2 <= n / 4 * fsum(d * d for d in differences):  # few questions differ at all
        score = _score_interval(differences, student(level, n - 1))
        low, high = min(low, score[0]), max(high, score[1])
    return Interval(mean, max(-1.0, low), min(1.0, high), error, n)


def difference_interval(mean: float, error: float, questions: int, level: float = 0.95) -> Interval:
    """Student's interval of a paired difference from its mean and standard error alone, at any level.

    Where the differences themselves are at hand `paired_difference` is the better one: it widens where few differ.
    """
    if questions == 1:
        return Interval(mean, -1.0, 1.0, inf, 1)
    half = student(level, questions - 1) * error if error > 0 else 1 - (1 - level) ** (1 / questions)
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), error, questions)


def _score_interval(differences: Sequence[float], t: float) -> tuple[float, float]:
    """The mean differences that a score test does not reject: Tango (1998) for paired shares, for any differences.

    Between two right-or-wrong answers a difference is -1, 0 or 1. Others are taken for so many of the size
    s = sum d^2 / sum |d|, which keeps mean and variance of the sample. For a mean of s times delta the variance is
    (2 lost + delta - delta^2) / n, where the share of lost questions `lost` is the likeliest under that delta.
    """
    n, size = len(differences), fsum(d * d for d in differences) / fsum(map(abs, differences))
    won, lost = (fsum(max(0.0, sign * d) for d in differences) / size for sign in (1, -1))

    def upper(won: float, lost: float) -> float:
        def errors(delta: float) -> float:
            """Standard errors by which the sample lies below delta."""
            b = (2 * n - won + lost) * delta - won - lost  # the likeliest share solves 2n q^2 + b q + c = 0
            c = -lost * delta * (1 - delta)
            share = (sqrt(b * b - 8 * n * c) - b) / (4 * n)
            variance = n * (2 * share + delta * (1 - delta))
            return (n * delta - won + lost) / sqrt(variance) if variance > 0 else inf

        low, high = (won - lost) / n, 1.0
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if errors(middle) < t else (low, middle)
        return high

    return -upper(lost, won) * size, upper(won, lost) * size


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error (0 for a single value)."""
    n = len(values)
    mean = fsum(values) / n
    variance = fsum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else 0.0
    return mean, sqrt(variance / n)


def plan_questions(effect: float, spread: float = 0.5, power: float = 0.8, level: float = 0.95) -> int:
    """How many questions it takes to see a difference of `effect` (0.02 is two points) between two models.

    `spread` is the standard deviation of the questions' differences, `paired_difference(...).spread` of a pilot run;
    0.5 is that of two models that disagree on a quarter of the questions, one generation each. `power` is the chance
    to see the difference when it is there.
    """
    _check_effect(effect)
    return max(2, ceil((_errors_to_see(spread, power, level) * spread / effect) ** 2))


def smallest_effect(questions: int, spread: float = 0.5, power: float = 0.8, level: float = 0.95) -> float:
    """The difference that so many questions show with `power`: `plan_questions` the other way round."""
    if questions < 2:
        raise StatisticsError(f"questions={questions}: it takes two to know how much they differ")
    return _errors_to_see(spread, power, level) * spread / sqrt(questions)


def spread_parts(first: Results, second: Results) -> SpreadParts | None:
    """How much of the differences between questions is of the questions, and how much of too few generations.

    The parts of a one-way analysis of variance: what the generations of a question vary by is known without bias, and
    what is left of the variance between questions is theirs (0 where nothing is). None where no question has two
    generations of both models: then nothing tells the parts apart.
    """
    sides = list(zip(first, second, strict=True))
    several = [(left, right) for left, right in sides if len(left) > 1 and len(right) > 1]
    if not several or len(sides) < 2:
        return None
    within = _mean([_variance(left) + _variance(right) for left, right in several])
    noise = _mean([
        _variance(left) / len(left) + _variance(right) / len(right) if len(left) > 1 and len(right) > 1
        else within / 2 / len(left) + within / 2 / len(right)
        for left, right in sides
    ])  # fmt: skip
    differences = [_mean(left) - _mean(right) for left, right in sides]
    return SpreadParts(sqrt(max(0.0, _variance(differences) - noise)), sqrt(within))


def plan_generations(
    effect: float, questions: int, parts: SpreadParts, power: float = 0.8, level: float = 0.95
) -> int | None:
    """How many generations of each of so many questions it takes to see a difference of `effect`.

    None where no number of generations is enough: more questions are needed.
    """
    _check_effect(effect)
    variance = questions * (effect / _errors_to_see(0.5, power, level)) ** 2  # that a difference may have
    left = variance - parts.between**2
    return None if left <= 0 else max(1, ceil(parts.within**2 / left))


def _check_effect(effect: float) -> None:
    if not SMALLEST_EFFECT <= abs(effect) <= 1:
        raise StatisticsError(
            f"effect={effect}: a difference between shares, as 0.02 for two points, lies between "
            f"{SMALLEST_EFFECT} and 1"
        )


def corrected_level(comparisons: int, level: float = 0.95) -> float:
    """The level of each of several intervals, so that all of them hold at once with `level` (Bonferroni)."""
    if comparisons < 1:
        raise StatisticsError(f"comparisons={comparisons}: at least one is made")
    return 1 - (1 - _checked_level(level)) / comparisons


def _errors_to_see(spread: float, power: float, level: float) -> float:
    """Standard errors that a difference must measure to be seen with `power`."""
    if not 0 < spread <= 1 or not 0 < power < 1:
        raise StatisticsError(f"spread={spread}, power={power}: need 0 < spread <= 1 and 0 < power < 1")
    from scipy.special import ndtri

    return float(ndtri((1 + _checked_level(level)) / 2) + ndtri(power))


def _pass_chances(results: Results, k: int) -> list[float]:
    _check(results, k)
    chances = []
    for number, marks in enumerate(results):
        if any(mark not in (0, 1) for mark in marks):
            raise StatisticsError(f"question {number} (from 0): pass@k counts right answers, so results must be 0 or 1")
        n, right = len(marks), int(sum(marks))
        chances.append(1 - comb(n - right, k) / comb(n, k))
    return chances


def _votes(results: Results, k: int | None, answers: Sequence[Sequence[Hashable | None]] | None) -> list[float]:
    _check(results, k)
    if answers is None:
        answers = [[bool(mark) for mark in marks] for marks in results]
    shapes = [len(marks) for marks in results], [len(given) for given in answers]
    if shapes[0] != shapes[1]:
        raise StatisticsError("answers and results differ in shape: one answer (or None) for each result, please")
    return [_vote(marks[:k], given[:k]) for marks, given in zip(results, answers, strict=True)]


def _check(results: Results, k: int | None) -> None:
    if not len(results):
        raise StatisticsError("no questions: run the benchmark before scoring it")
    if k is not None and k < 1:
        raise StatisticsError(f"k={k}: at least one generation is scored")
    for number, marks in enumerate(results):
        if len(marks) < (k or 1):
            raise StatisticsError(
                f"question {number} (from 0) has {len(marks)} generations, k={k or 1} needs as many: "
                "generate more or lower k"
            )
        if not all(0 <= mark <= 1 for mark in marks):
            raise StatisticsError(f"question {number} (from 0) has results outside [0, 1]: {list(marks)!r:.80}")


def _question_means(results: Results, k: int | None) -> list[float]:
    _check(results, k)
    return [_mean(marks[:k]) for marks in results]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    """Of a sample of two or more values, without bias."""
    mean = fsum(values) / len(values)
    return fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values. Equal values have exactly 0, whatever rounding makes of their mean."""
    if min(values) == max(values):
        return 0.0
    mean, n = _mean(values), len(values)
    return sqrt(sum((value - mean) ** 2 for value in values) / (n * (n - 1)))


def student(level: float, freedom: float) -> float:
    """How many standard errors a two-sided interval reaches to either side (Student's t)."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + _checked_level(level)) / 2))


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise StatisticsError(f"level={level}: a confidence level lies in (0, 1), as 0.95")
    return level


def _vote(marks: Sequence[float], answers: Sequence[Hashable | None]) -> float:
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    right = {answer for answer, mark in zip(answers, marks, strict=True) if mark == 1}
    leaders = [answer for answer, count in votes.items() if count == most]
    return sum(answer in right for answer in leaders) / len(leaders)
