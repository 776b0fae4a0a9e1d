"""Labels as the assets make them, in one call: votes or programs first, then what is decided from them."""

from __future__ import annotations

from collections.abc import Sequence

from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages.labels import cross_execution, labelling, tested_judges, votes, written_judges
from promptcot_assets.stages.labels.teacher import Teacher


def answered(problems: Sequence[Row], teacher: Teacher, settings: Labels, seed: int) -> list[Row]:
    """Rows of `math_answers`."""
    return votes.math_answers(votes.math_votes(problems, teacher, settings, seed), settings)


def run(
    problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Labels, seed: int
) -> tuple[list[Row], list[Row]]:
    """Rows of `proposed_tests` and of `candidate_programs`."""
    proposals = cross_execution.proposed_tests(problems, teacher, settings, seed)
    own = ((row["problem_id"], row) for row in labelling.of_kind(problems, "program"))
    posed = list(labelling.beside(own, proposed_tests=proposals))
    return proposals, cross_execution.candidate_programs(posed, teacher, verifier, settings, seed)


def judged(
    problems: Sequence[Row],
    proposals: Sequence[Row],
    programs: Sequence[Row],
    teacher: Teacher,
    verifier: Verifier,
    settings: Labels,
    seed: int,
) -> tuple[list[Row], list[Row]]:
    """Rows of `written_judges` and of `tested_judges`."""
    written = written_judges.written_judges(problems, teacher, settings, seed)
    executed = list(tested_judges.executed(proposals, programs, written))
    return written, tested_judges.tested_judges(executed, verifier, settings, seed)


def decided(
    proposals: Sequence[Row],
    programs: Sequence[Row],
    verifier: Verifier,
    settings: Labels,
    seed: int,
    problems: Sequence[Row] | None = None,
    judges: Sequence[Row] | None = None,
) -> list[Row]:
    """Rows of `code_tests`. problems: where statements are repaired; judges: where they are written."""
    executed = list(cross_execution.executed(proposals, programs, problems, judges))
    return cross_execution.code_tests(executed, verifier, settings, seed)


def cross_checked(
    problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Labels, seed: int
) -> list[Row]:
    """Rows of `code_tests`."""
    own = problems if settings.repair_examples else None
    proposals, programs = run(problems, teacher, verifier, settings, seed)
    judges = None
    if settings.judges:
        _, judges = judged(problems, proposals, programs, teacher, verifier, settings, seed)
    return decided(proposals, programs, verifier, settings, seed, own, judges)
