"""Labels of a batch: answers by majority vote, code tests by cross execution, and all that they are decided from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from promptcot_assets.assets.fingerprint import Used, votes_grouped_by
from promptcot_assets.assets.resources import EngineResource, SandboxResource
from promptcot_assets.assets.step import Step
from promptcot_assets.assets.table_asset import Names, Result, table_asset
from promptcot_assets.assets.teaching import role_inputs, teacher
from promptcot_assets.lake import Row, Rows
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import Asked
from promptcot_assets.stages.asking import refusals
from promptcot_assets.stages.labels import agreement, cross_execution, labelling, votes
from promptcot_assets.stages.labels import tested_judges as testing
from promptcot_assets.stages.labels import written_judges as judges
from promptcot_assets.stages.labels.teacher import Teacher
from promptcot_assets.stages.synthesis import writing

STATEMENT = ("problem_id", "domain", "problem")  # of a problem, to repair its statement
MATCHED = ("problem_id", "origin", "stdin", "proposed", "drop_reason")  # of a proposal, to run programs on it


def _voter(settings: Settings) -> Asked | None:
    return settings.labels.voter


def _writer(settings: Settings) -> Asked | None:
    return settings.labels.test_writer


def _asked(settings: Settings, role: Asked | None) -> Used:
    """Who answers where the profile asks: a teacher, a procedure, or the base model."""
    if role:
        return role.sampling
    if settings.labels.teacher == "procedural":
        return {"procedural_teacher": settings.corpus.teacher_errors()}
    return settings.labels.sampling


def _inputs(role: Callable[[Settings], Asked | None], *more: str) -> Names:
    return lambda settings: ["problems", *role_inputs(settings, role(settings)), *more]


def _vote_uses(settings: Settings, _: str) -> list[Used]:
    """Not who grades: a new grader counts the same votes anew, and nobody is asked again."""
    labels = settings.labels
    own = [labels.part("share", "shard_rows", "votes", "keep"), _asked(settings, labels.voter)]
    return [*own, labels.part("min_votes", "ties"), votes_grouped_by()] if labels.keep == "deciding" else own


def _writer_uses(settings: Settings, *own: str) -> list[Used]:
    return [settings.labels.part("share", "shard_rows", *own), _asked(settings, settings.labels.test_writer)]


def _program_uses(settings: Settings, _: str) -> list[Used]:
    own = _writer_uses(settings, "test_programs", "keep")
    if settings.labels.keep == "deciding" and settings.labels.judges:  # all are kept until a checker decides
        return [*own, {"kept_for_judges": True}]
    decide = ["min_test_agreement", *(["repair_examples"] if settings.labels.repair_examples else [])]
    return [*own, settings.labels.part(*decide)] if settings.labels.keep == "deciding" else own


def _asked_about(
    step: Step,
    engine: EngineResource,
    role: Asked | None,
    answers: str,
    phase: str,
    ask: Callable[[list[Row], Teacher], list[Row]],
) -> Rows:
    """What a teacher gives for the labelled problems with such answers; without any, it is not even loaded."""
    values = step.settings.labels
    problems = step.stream("problems").through(lambda all_: labelling.to_label(all_, answers, values.share))
    if not problems:
        return []
    with teacher(step, engine, role) as asked:
        return step.map(phase, problems, lambda some: ask(some, asked), values.shard_rows)


# ---- answers
@table_asset(inputs=_inputs(_voter), uses=_vote_uses, asks=("solve",), pool="gpu")
def math_votes(step: Step, engine: EngineResource) -> Result:
    """Every answer of the voter to every maths problem, `labels.votes` each."""
    values = step.settings.labels
    rows = _asked_about(
        step,
        engine,
        values.voter,
        "maths",
        "vote",
        lambda some, voter: votes.math_votes(some, voter, values, step.seed),
    )
    step.dropped = refusals(rows)
    return step.commit(rows, **labelling.kept_figures(rows))


def _answer_uses(settings: Settings, _: str) -> list[Used]:
    stated = ("stated",) if settings.labels.stated == "drop" else ()
    return [settings.labels.part("votes", "min_votes", "ties", "shard_rows", *stated), votes_grouped_by()]


def _stated(step: Step) -> dict[str, str]:
    return agreement.stated_answers(step.stream("problems", ("problem_id", "rationale")))


@table_asset(
    "2",
    inputs=lambda settings: ["math_votes", *(["problems"] if settings.labels.stated == "drop" else [])],
    uses=_answer_uses,
    asks=(),
)
def math_answers(step: Step) -> Result:
    """The answer most generations agree on, for every maths problem; no label where too few do."""
    values = step.settings.labels
    rows = step.map(
        "count votes", step.stream("math_votes", votes.COUNTED), lambda cast: votes.math_answers(cast, values),
        values.shard_rows * values.votes,
    )  # fmt: skip
    if values.stated == "drop":
        kept = agreement.without_contradicted(rows, _stated(step))
        step.dropped = writing.drop_counts(kept)
        return step.commit(kept)
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows)


@table_asset(
    inputs=lambda _: ["problems", "math_votes", "math_answers"],
    uses=lambda *_: [votes_grouped_by()],
    asks=(),
)
def label_agreement(step: Step) -> Result:
    """What speaks for and against every voted answer: rivals, other graders, the answer that the rationale states."""
    cast = step.stream("math_votes", ("problem_id", "answer", "normal_form"))
    rows = agreement.label_agreement(step.rows("math_answers"), cast, _stated(step))
    said = [row["stated_agrees"] for row in rows if row["stated_agrees"] is not None]
    of_graders = [row["graders_agree"] for row in rows if row["graders_agree"] is not None]
    return step.commit(
        rows, labels_with_a_stated_answer=len(said), stated_answers_that_differ=said.count(False),
        labels_that_other_graders_change=of_graders.count(False),
    )  # fmt: skip


# ---- tests
@table_asset(
    inputs=_inputs(_writer),
    uses=lambda settings, _: _writer_uses(settings, "tests_per_problem"),
    asks=("tests",),
    pool="gpu",
)
def proposed_tests(step: Step, engine: EngineResource) -> Result:
    """What may become the tests of every program problem: its worked example, drawn inputs, or tests of a model."""
    values = step.settings.labels
    rows = _asked_about(
        step, engine, values.test_writer, "program", "propose tests",
        lambda some, writer: cross_execution.proposed_tests(some, writer, values, step.seed),
    )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows)


@table_asset(inputs=_inputs(_writer, "proposed_tests"), uses=_program_uses, asks=("solve",), pool="gpu")
def candidate_programs(step: Step, engine: EngineResource, sandbox: SandboxResource) -> Result:
    """Programs for every program problem, each run in the sandbox on every input that is proposed for it."""
    values = step.settings.labels

    def posed(all_: Iterable[Row]) -> Iterator[Row]:
        own = labelling.to_label(all_, "program", values.share)
        proposals = step.stream("proposed_tests", MATCHED)
        return labelling.beside(((row["problem_id"], row) for row in own), proposed_tests=proposals)

    problems = step.stream("problems").through(posed)
    if not problems:
        return step.commit([])
    with teacher(step, engine, values.test_writer) as writer, sandbox.open() as (verifier, _):
        rows = step.map(
            "run candidate programs", problems,
            lambda some: cross_execution.candidate_programs(some, writer, verifier, values, step.seed),
            values.shard_rows,
        )  # fmt: skip
    step.dropped = refusals(rows)
    return step.commit(rows, **labelling.kept_figures(rows))


def _judges(settings: Settings) -> list[str]:
    return ["tested_judges"] if settings.labels.judges else []


@table_asset(
    inputs=_inputs(_writer),
    uses=lambda settings, _: _writer_uses(settings, "validators", "checkers"),
    asks=("judges",),
    pool="gpu",
    when=lambda settings: settings.labels.judges,
)
def written_judges(step: Step, engine: EngineResource) -> Result:
    """Validators of inputs and checkers of outputs that the test writer writes for every program problem."""
    values = step.settings.labels
    rows = _asked_about(
        step, engine, values.test_writer, "program", "write judges",
        lambda some, writer: judges.written_judges(some, writer, values, step.seed),
    )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows)


@table_asset(
    inputs=lambda _: ["proposed_tests", "candidate_programs", "written_judges"],
    uses=lambda settings, _: [settings.labels.part("mutants", "shard_rows")],
    asks=(),
    when=lambda settings: settings.labels.judges,
)
def tested_judges(step: Step, sandbox: SandboxResource) -> Result:
    """Which of the written validators and checkers are believed: those that know right from broken when really run."""
    values = step.settings.labels

    def executed(proposals: Iterable[Row]) -> Iterator[Row]:
        programs = step.stream("candidate_programs", cross_execution.RUN)
        return testing.executed(proposals, programs, step.stream("written_judges", testing.JUDGED))

    problems = step.stream("proposed_tests", MATCHED).through(executed)
    if not problems:
        return step.commit([])
    with sandbox.open() as (verifier, _):
        rows = step.map(
            "test judges", problems,
            lambda some: testing.tested_judges(some, verifier, values, step.seed), values.shard_rows,
        )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows, **testing.figures(rows))


def _test_uses(settings: Settings, _: str) -> list[Used]:
    repaired = ("repair_examples", "share") if settings.labels.repair_examples else ()
    return [settings.labels.part("min_test_agreement", "mutants", "min_mutation_score", "shard_rows", *repaired)]


@table_asset(
    "6",
    inputs=lambda settings: [
        "proposed_tests", "candidate_programs", *(["problems"] if settings.labels.repair_examples else []),
        *_judges(settings),
    ],
    uses=_test_uses,
    asks=(),
)  # fmt: skip
def code_tests(step: Step, sandbox: SandboxResource) -> Result:
    """Tests of every program problem, their outputs agreed on by candidate programs that were really run.

    What the tests are worth: trust (how many programs agree) and mutation score (what they catch).
    """
    values = step.settings.labels

    def executed(proposals: Iterable[Row]) -> Iterator[Row]:
        programs = step.stream("candidate_programs", cross_execution.RUN)
        asked = tested = None
        if values.repair_examples:
            asked = labelling.to_label(step.stream("problems", STATEMENT), "program", values.share)
        if values.judges:
            tested = step.stream("tested_judges")
        return cross_execution.executed(proposals, programs, asked, tested)

    problems = step.stream("proposed_tests").through(executed)
    if not problems:
        return step.commit([])
    with sandbox.open() as (verifier, _):
        rows = step.map(
            "decide tests", problems,
            lambda some: cross_execution.code_tests(some, verifier, values, step.seed), values.shard_rows,
        )  # fmt: skip
    step.dropped = writing.drop_counts(rows)
    return step.commit(rows, **cross_execution.quality(rows))
