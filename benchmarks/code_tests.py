"""What cross execution makes of tests that a model wrote, against taking them as written (the released approach).

    python -m benchmarks.code_tests [PROBLEMS]

Problems of the procedural world whose true outputs are known. A writer gives four tests a problem, a share of them with
a wrong output; five candidate programs, a share of them wrong too. Peer: every written test is a test, none is ever run
(method section 5: "never executed by the authors"). Printed: the share of problems whose tests all are right, of those
that have any, and what was lost. A problem with one wrong test fails every right program.

Last, problems with several right outputs (several_right.py), a fifth of whose written inputs the statement forbids:
what labels without and with written validators and checkers make of right and of wrong solutions, some of which were
never among the candidate programs.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.several_right import Posed, Writers, posed, rows_of
from promptcot_assets.domains import Attempt, procedural_domain
from promptcot_assets.domains.mini_code import parse
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import ProblemLabels, Question, Verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages.labels.cross_execution import (
    candidate_programs,
    code_tests,
    executed,
    proposed_tests,
    quality,
)
from promptcot_assets.stages.labels.labelling import beside
from promptcot_assets.stages.labels.teacher import Teacher
from promptcot_assets.stages.labels.tested_judges import executed as tested_judges_from
from promptcot_assets.stages.labels.tested_judges import tested_judges
from promptcot_assets.stages.labels.written_judges import WrittenJudge, written_judges
from promptcot_assets.stages.labels.written_tests import WrittenTest

WORLD = procedural_domain("mini_code")
CONTRADICTED = 0.7  # of the statements


def truth(problem: str, stdin: str) -> str:
    parsed = parse(problem)
    assert parsed, f"not a problem of this world: {problem}"
    return str(parsed.output(*map(int, stdin.split())))


@dataclass(frozen=True)
class FallibleTeacher:
    """Programs and tests, each wrong with its own probability."""

    program_error: float
    test_error: float
    name: str = "fallible"

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        return [
            [
                replace(WORLD.teach(row["problem"], self.program_error, random.Random(own)), seed=own)
                for own in (seed_from(seed, row["problem_id"], k) for k in range(n))
            ]
            for row in problems
        ]

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        return [
            [self._test(row["problem"], random.Random(seed_from(seed, row["problem_id"], k))) for k in range(calls)]
            for row in problems
        ]

    def _test(self, problem: str, rng: random.Random) -> WrittenTest:
        stdin = WORLD.write_stdin(rng)
        wrong = rng.choice([-2, -1, 1, 2]) if rng.random() < self.test_error else 0
        return WrittenTest(stdin, str(int(truth(problem, stdin)) + wrong))

    def judges(self, problems: Sequence[Row], kind: str, calls: int, seed: int) -> list[list[WrittenJudge]]:
        raise AssertionError("no judges are asked for here")


def right_share(problems: Sequence[Row], tests: Sequence[Row], output: str) -> tuple[float, float]:
    """Share of problems with only right tests among those with tests, and share of problems with tests."""
    texts = {row["problem_id"]: row["problem"] for row in problems}
    sound: dict[str, bool] = {}
    for row in tests:
        if row[output] is not None:
            right = truth(texts[row["problem_id"]], row["stdin"]) == row[output]
            sound[row["problem_id"]] = sound.get(row["problem_id"], True) and right
    return sum(sound.values()) / len(sound), len(sound) / len(problems)


def main(count: int = 100) -> None:
    seeds = WORLD.write_seeds(count, 0, {"planner": 1}, seed=0).train
    # as problems of the domain whose tests a model writes
    problems = [
        {"problem_id": content_id(one.problem), "domain": "code", "problem": one.problem} for one in seeds
    ]  # fmt: skip
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        for program_error, test_error in ((0.15, 0.1), (0.15, 0.3), (0.4, 0.3)):
            teacher = FallibleTeacher(program_error, test_error)
            proposals = proposed_tests(problems, teacher, Labels(), seed=0)
            posed = list(beside(((row["problem_id"], row) for row in problems), proposed_tests=proposals))
            programs = candidate_programs(posed, teacher, verifier, Labels(), seed=0)
            rows = code_tests(list(executed(proposals, programs)), verifier, Labels(), seed=0)
            (theirs, _), (ours, kept) = (right_share(problems, rows, name) for name in ("proposed", "expected"))
            figures = quality(rows)
            print(
                f"{program_error:.0%} of programs and {test_error:.0%} of tests wrong: problems with only right tests "
                f"{ours:.1%} against {theirs:.1%} as written; kept {kept:.0%} of the problems, "
                f"repaired {figures['repaired']} of {figures['kept']} tests, mean trust {figures['mean_trust']:.2f}, "
                f"mean mutation score {figures['mean_mutation_score']:.2f}"
            )
        for program_error, judge_error in ((0.15, 0.3), (0.15, 0.6), (0.4, 0.3)):
            for line in several_right(max(1, count // 2), program_error, judge_error, verifier):
                print(line)
        for program_error in (0.15, 0.4):
            print(repaired([one.problem for one in seeds], FallibleTeacher(program_error, 0.0), verifier))


def repaired(texts: Sequence[str], teacher: FallibleTeacher, verifier: Verifier) -> str:
    """CONTRADICTED of the statements get another example; what becomes of all of them."""
    rng, right = random.Random(0), dict[str, str]()
    for text in texts:
        example = WORLD.worked_example(text)
        assert example
        wrong = WORLD.with_worked_example(text, str(int(example["expected"]) + rng.choice([1, 2, 5])))
        right[(wrong or text) if rng.random() < CONTRADICTED else text] = text
    problems = [{"problem_id": content_id(text), "domain": "mini_code", "problem": text} for text in right]
    told = []
    for settings in (Labels(), Labels(repair_examples=True)):
        proposals = proposed_tests(problems, teacher, settings, seed=0)
        posed = list(beside(((row["problem_id"], row) for row in problems), proposed_tests=proposals))
        programs = candidate_programs(posed, teacher, verifier, settings, seed=0)
        rows = code_tests(list(executed(proposals, programs, problems)), verifier, settings, seed=0)
        known = ProblemLabels([], rows)
        kept = [(row["problem"], labelled["problem"]) for row in problems if (labelled := known.on(row))]
        sound = sum(right[before] == after for before, after in kept)
        told.append(f"{len(kept) / len(problems):.0%} of the problems kept, {sound / len(kept):.1%} of these right")
    return (
        f"{CONTRADICTED:.0%} of statements contradict their example, {teacher.program_error:.0%} of programs wrong: "
        f"{told[0]}; repaired: {told[1]}"
    )


def several_right(count: int, program_error: float, judge_error: float, verifier: Verifier) -> list[str]:
    """What the same writers' labels make of solutions, without their judges and with three of each kind."""
    problems = posed(count, seed=0)
    writers, told = Writers(problems, program_error, judge_error), []
    for settings in (Labels(), Labels(validators=3, checkers=3)):
        rows = _labels_of(rows_of(problems), writers, verifier, settings)
        told.append(_judged(problems, rows, verifier))
    return [
        f"several right outputs, {program_error:.0%} of programs and {judge_error:.0%} of judges wrong, {how}: {what}"
        for how, what in zip(("without validators and checkers", "with three of each"), told, strict=True)
    ]


def _labels_of(problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Labels) -> list[Row]:
    """Rows of `code_tests`."""
    proposals = proposed_tests(problems, teacher, settings, seed=0)
    asked = list(beside(((row["problem_id"], row) for row in problems), proposed_tests=proposals))
    programs = candidate_programs(asked, teacher, verifier, settings, seed=0)
    if not settings.judges:
        return code_tests(list(executed(proposals, programs)), verifier, settings, seed=0)
    written = written_judges(problems, teacher, settings, seed=0)
    tested = tested_judges(list(tested_judges_from(proposals, programs, written)), verifier, settings, seed=0)
    return code_tests(list(executed(proposals, programs, judges=tested)), verifier, settings, seed=0)


def _judged(problems: Sequence[Posed], tests: Sequence[Row], verifier: Verifier) -> str:
    """Shares of the problems that keep tests, and of right and wrong solutions of these that are judged as they are."""
    known = ProblemLabels([], tests)
    kept = [(one, row) for one, row in zip(problems, map(known.on, rows_of(problems)), strict=True) if row]
    asked = [
        (is_right, Question.on(row, f"```python\n{one.own(program)}\n```"))
        for one, row in kept
        for is_right, programs in ((True, one.family.right), (False, one.family.wrong))
        for program in programs
    ]
    passed = [one.passed for one in verifier.judge([question for _, question in asked])]
    as_it_is = {
        wanted: [got == wanted for (is_right, _), got in zip(asked, passed, strict=True) if is_right == wanted]
        for wanted in (True, False)
    }
    checked = sum("checker" in row for _, row in kept)
    return (
        f"{len(kept) / len(problems):.0%} of the problems keep tests, {checked} of {len(kept)} with a checker; of "
        f"these {sum(as_it_is[True]) / max(1, len(as_it_is[True])):.1%} of right solutions accepted, "
        f"{sum(as_it_is[False]) / max(1, len(as_it_is[False])):.1%} of wrong ones refused"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
