"""Tests of programs by cross execution (method section 5): proposals, candidate programs that are run on them, tests.

Each of the three is a table. A test is decided from the rows of the other two, so that other settings of the decision
(`min_test_agreement`, `min_mutation_score`) ask no model again. Where validators and checkers are written
(written_judges.py) and believed (tested_judges.py), they say which inputs are tests and which outputs are the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from promptcot_assets.domains import Attempt, ProceduralDomain, domain_named
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages.labels.labelling import beside, by_problem, of_kind, unanswered, with_kept
from promptcot_assets.stages.labels.mutants import mutants
from promptcot_assets.stages.labels.sameness import Compared, Sameness, checked_by
from promptcot_assets.stages.labels.teacher import Teacher
from promptcot_assets.stages.labels.tested_judges import allowed_by, checker_of
from promptcot_assets.stages.labels.written_tests import DRAWN, WORKED_EXAMPLE, WRITTEN, WrittenTest, is_unicode

CONTRADICTED = "no candidate program reproduces the worked example"
LONGEST_OUTPUT = 1 << 18  # characters; a longer one, which the matrix of a whole shard would hold, is no output
COMPARED = Compared()
RUN = ("problem_id", "program", "outputs", "finish_reason")  # columns of candidate_programs that tests are made of


# ---- proposals
def writes_itself(row: Row) -> bool:
    """Whether the domain of a problem draws the inputs of its tests itself, so that no model is asked for them."""
    return isinstance(domain_named(row["domain"]), ProceduralDomain)


def proposed_tests(problems: Sequence[Row], teacher: Teacher, settings: Labels, seed: int) -> list[Row]:
    """What may become the tests of each program problem: its worked example, and drawn inputs or written tests.

    Inputs come from the domain where it can draw them; elsewhere the teacher writes whole tests, one a call.
    """
    own = of_kind(problems, "program")
    count, own_seed = settings.tests_per_problem, seed_from(seed, "written tests")
    to_write = [row for row in own if not writes_itself(row)]
    written = iter(teacher.tests(to_write, count, own_seed) if to_write else [])
    rows = []
    for row in own:
        domain = domain_named(row["domain"])
        example = domain.worked_example(row["problem"])
        tests = [WrittenTest(example["stdin"], example["expected"], worked_example=True)] if example else []
        if isinstance(domain, ProceduralDomain):
            known = {one.stdin for one in tests}
            tests += _drawn(domain, row["problem_id"], count, known, seed)
        else:
            tests += next(written)
        rows += [_proposal(row, at, test, teacher.name) for at, test in enumerate(tests)]
    return rows


def _proposal(problem: Row, at: int, test: WrittenTest, writer: str) -> Row:
    origin = WORKED_EXAMPLE if test.worked_example else DRAWN if writes_itself(problem) else WRITTEN
    return {
        "proposal_id": content_id("proposal", problem["problem_id"], at, test.stdin, writer, test.seed),
        "problem_id": problem["problem_id"],
        "domain": problem["domain"],
        "number": at,
        "origin": origin,
        "becomes": content_id(problem["problem_id"], at, test.stdin),
        "completion": test.completion,
        "stdin": test.stdin,
        "proposed": test.proposed,
        "drop_reason": test.defect,
        "tokens": test.tokens,
        "seed": test.seed,
        "writer": writer,
    }


def _drawn(
    domain: ProceduralDomain, problem_id: str, count: int, known: set[str | None], seed: int
) -> list[WrittenTest]:
    """`count` inputs, distinct and none of them `known`."""
    rng, inputs = random.Random(seed_from(seed, "stdin", problem_id)), list[str]()
    while len(inputs) < count:
        drawn = domain.write_stdin(rng)
        if drawn not in inputs and drawn not in known:
            inputs.append(drawn)
    return [WrittenTest(stdin) for stdin in inputs]


# ---- candidate programs
def candidate_programs(
    problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Labels, seed: int
) -> list[Row]:
    """`settings.test_programs` rows a problem: a program, and what it prints for each of the proposed inputs.

    problems: with their rows of `proposed_tests` beside them, in order. An output is null where the
    program does not end well or prints what no table can hold, and where the proposal is no input. The programs are
    always kept, their completions as `labels.keep` says: deciding are those that pass all tests together.
    """
    drawn = teacher.attempts(problems, settings.test_programs, seed_from(seed, "test programs"))
    rows = list[Row]()
    for row, attempts in zip(problems, drawn, strict=True):
        tests = _without_repeats(row["proposed_tests"])
        written = [at for at, attempt in enumerate(attempts) if attempt.answer is not None]
        outputs = _outputs([attempts[at].answer or "" for at in written], tests, verifier)
        by_attempt = dict(zip(written, outputs, strict=True))
        own = [_program_row(row, at, attempt, by_attempt.get(at), teacher.name) for at, attempt in enumerate(attempts)]
        # which programs decide is only known once validators and checkers are tested
        keep = "all" if settings.keep == "deciding" and settings.judges else settings.keep
        rows += with_kept(own, keep, _deciding(row, own, settings))
    return rows


def run_again(executed: Row, verifier: Verifier) -> Row:
    """A problem's `proposed_tests` and `candidate_programs`, the programs run once more."""
    tests, programs = _without_repeats(executed["proposed_tests"]), executed["candidate_programs"]
    outputs = iter(_outputs([row["program"] for row in programs if row["program"] is not None], tests, verifier))
    again = [row if row["program"] is None else row | {"outputs": next(outputs)} for row in programs]
    return executed | {"candidate_programs": again}


def _outputs(programs: Sequence[str], tests: Sequence[_Test], verifier: Verifier) -> list[list[str | None]]:
    """[programs][tests]; what is repeated or no input is not run."""
    sound = [at for at, test in enumerate(tests) if test.reason is None]
    said = verifier.outputs(programs, [tests[at].written.stdin or "" for at in sound])
    matrix: list[list[str | None]] = [[None] * len(tests) for _ in programs]
    for outputs, own in zip(matrix, said, strict=True):
        for at, output in zip(sound, own, strict=True):
            outputs[at] = output if output is not None and _can_be_kept(output) else None
    return matrix


def _can_be_kept(output: str) -> bool:
    return len(output) <= LONGEST_OUTPUT and is_unicode(output)


def _program_row(problem: Row, at: int, attempt: Attempt, outputs: list[str | None] | None, writer: str) -> Row:
    return {
        "program_id": content_id("program", problem["problem_id"], writer, at, attempt.seed),
        "problem_id": problem["problem_id"],
        "domain": problem["domain"],
        "attempt": at,
        "completion": attempt.completion,
        "program": attempt.answer,
        "outputs": outputs,
        "finish_reason": attempt.refused or attempt.finish_reason,
        "tokens": attempt.tokens,
        "seed": attempt.seed,
        "model": writer,
    }


def _deciding(problem: Row, programs: Sequence[Row], settings: Labels) -> list[bool]:
    """Which programs pass all the tests that they are in agreement on. problem: its proposals beside it."""
    if settings.keep != "deciding" or settings.judges:
        return [False] * len(programs)
    tests, passing, _ = decided(problem, problem["proposed_tests"], programs, settings)
    return [is_passing and any(test.reason is None for test in tests) for is_passing in passing]


# ---- tests
def executed(
    proposals: Iterable[Row],
    programs: Iterable[Row],
    problems: Iterable[Row] | None = None,
    judges: Iterable[Row] | None = None,
) -> Iterator[Row]:
    """What `code_tests` decides from, problem by problem: rows of `proposed_tests`, of `candidate_programs`, where
    statements are repaired the labelled problems, and where judges are written the rows of `tested_judges`, all in one
    order. Raises: LakeError where they are not."""
    groups = ((of, {"problem_id": of, "proposed_tests": own}) for of, own in by_problem(proposals))
    more = {"problems": problems, "tested_judges": judges}
    given = {name: rows for name, rows in more.items() if rows is not None}
    return beside(groups, candidate_programs=programs, **given)


@dataclass(frozen=True)
class _Test:
    """A test in the making. `agree`: candidate programs that print `expected`; `reason`: why it is not used."""

    written: WrittenTest
    expected: str | None = None
    agree: int = 0
    reason: str | None = None

    @property
    def case(self) -> dict[str, str]:
        assert self.written.stdin is not None and self.expected is not None, f"no usable test: {self.reason}"
        return {"stdin": self.written.stdin, "expected": self.expected}


def code_tests(executed: Sequence[Row], verifier: Verifier, settings: Labels, seed: int) -> list[Row]:
    """Tests of every program problem: inputs, and the output that enough candidate programs agree on when really run.

    executed: a row a problem, with its rows of `proposed_tests` and `candidate_programs`, in order. Of a written
    test only the input is believed: where the candidate programs agree on another output, that one is used
    (`repaired`), and where they do not agree, the test falls.

    Where the statement carries a worked example, only programs that reproduce it vote, and it is a test itself; when
    none does, the statement contradicts its example and every test is dropped, or with `settings.repair_examples`
    (problem beside them as `problems`) the example is a written test like any other and the statement is repaired.
    Trust is the share of all candidate programs: one that reproduces a contradictory example by its own mistake is no
    agreement. At least one candidate must pass all tests together, or they mix different readings of the statement.
    What the tests are worth is the share of mutants of such a program that they catch.

    With `tested_judges` beside them, inputs that the validators call invalid fall first, and where a checker decides,
    programs agree where it accepts what they print against the expected output; it judges the mutants too.
    """
    rows = []
    for one in executed:
        programs, judges = one["candidate_programs"], one.get("tested_judges", ())
        proposals, checker = allowed_by(one["proposed_tests"], judges), checker_of(judges)
        agreed = COMPARED if checker is None else checked_by(checker, proposals, programs, verifier)
        (problem,) = one.get("problems") or [None]
        tests, passing, statement = decided(problem, proposals, programs, settings, agreed)
        if reason := unanswered(programs):
            tests = [replace(test, reason=test.written.defect or reason) for test in tests]
        passed = [row["program"] for row, is_passing in zip(programs, passing, strict=True) if is_passing]
        tests, tried, score = _worth(one["problem_id"], tests, passed, verifier, settings, seed, checker)
        count = sum(row["program"] is not None for row in programs)
        rows += [
            _row(proposal, test, count, not agreed.same(at, test.written.proposed, test.expected))
            | {"mutants": tried, "mutation_score": score, "statement": None if at or test.reason else statement}
            | {"checker": None if test.reason else checker}
            for at, (proposal, test) in enumerate(zip(proposals, tests, strict=True))
        ]
    return rows


def decided(
    problem: Row | None,
    proposals: Sequence[Row],
    programs: Sequence[Row],
    settings: Labels,
    agreed: Sameness = COMPARED,
) -> tuple[list[_Test], list[bool], str | None]:
    """Every test with what the programs make of it, which programs pass those that are kept, and the statement of the
    problem where its worked example had to be repaired.

    problem: needed only to repair. All is as it was where the programs agree on nothing, or the text cannot say it.
    """
    tests, passing = cross_executed(proposals, programs, settings, agreed)
    if not settings.repair_examples or problem is None or all(test.reason != CONTRADICTED for test in tests):
        return tests, passing, None
    disbelieved = [row | {"origin": WRITTEN} if row["origin"] == WORKED_EXAMPLE else row for row in proposals]
    anew, passing_anew = cross_executed(disbelieved, programs, settings, agreed)
    example, domain = anew[0], domain_named(problem["domain"])
    statement = domain.with_worked_example(problem["problem"], example.expected) if example.expected else None
    if example.reason is not None or statement is None or domain.defect(statement) is not None:
        return tests, passing, None
    return anew, passing_anew, statement


def cross_executed(
    proposals: Sequence[Row], programs: Sequence[Row], settings: Labels, agreed: Sameness = COMPARED
) -> tuple[list[_Test], list[bool]]:
    """Every test with what the programs make of it, and which programs pass all those that are kept."""
    same = agreed.same
    tests = _without_repeats(proposals)
    voters = [at for at, row in enumerate(programs) if row["program"] is not None]
    count = len(voters)
    nobody = [False] * len(programs)
    if tests and tests[0].written.worked_example:
        voters = [at for at in voters if same(0, programs[at]["outputs"][0], tests[0].written.proposed)]
        if not voters:
            return _all_dropped(tests, CONTRADICTED), nobody
    for place, test in enumerate(tests):
        if test.reason is None:
            said = [programs[at]["outputs"][place] for at in voters]
            tests[place] = _decided(test, place, [one for one in said if one], count, settings, agreed)
    kept = [(place, test.expected) for place, test in enumerate(tests) if test.reason is None]
    passing = {
        at for at in voters if all(same(place, programs[at]["outputs"][place], expected) for place, expected in kept)
    }
    if kept and not passing:
        return _all_dropped(tests, "no candidate program passes all tests together"), nobody
    return tests, [at in passing for at in range(len(programs))]


def _without_repeats(proposals: Sequence[Row]) -> list[_Test]:
    tests, known = [], set[str]()
    for row in proposals:
        one = WrittenTest(
            row["stdin"], row["proposed"], row["drop_reason"], row.get("completion"), row.get("seed"),
            worked_example=row["origin"] == WORKED_EXAMPLE,
        )  # fmt: skip
        stdin = (one.stdin or "").strip()
        tests.append(_Test(one, reason=one.defect or ("the input of an earlier test" if stdin in known else None)))
        if one.defect is None:
            known.add(stdin)
    return tests


def _decided(test: _Test, place: int, said: Sequence[str], programs: int, settings: Labels, agreed: Sameness) -> _Test:
    """The output most programs say, if enough do. Of equal numbers the one that its writer expects, else the first.

    said: what programs that end well print. Silence is no vote: programs that only define functions all agree on it.
    Nor are bytes that are no UTF-8: no table holds them as the text that a test expects.
    """
    groups = agreed.groups(place, said)
    if not groups:
        return replace(test, reason="no candidate program gives an output")
    best = max(groups, key=lambda group: (len(group), agreed.same(place, test.written.proposed, group[0])))
    enough = len(best) / programs >= settings.min_test_agreement
    return replace(
        test, expected=best[0], agree=len(best), reason=None if enough else "too few candidate programs agree"
    )


def _worth(
    problem_id: str,
    tests: list[_Test],
    passing: Sequence[str],
    verifier: Verifier,
    settings: Labels,
    seed: int,
    checker: str | None,
) -> tuple[list[_Test], int, float | None]:
    """The tests, how many mutants of the first passing program were run on them, and the share that they catch."""
    kept = [test.case for test in tests if test.reason is None]
    if not kept:
        return tests, 0, None
    copies = mutants(passing[0], settings.mutants, seed_from(seed, "mutants", problem_id))
    if not copies:
        return tests, 0, None
    score = sum(verifier.caught(copies, kept, checker)) / len(copies)
    if score < settings.min_mutation_score:
        tests = _all_dropped(tests, "the tests catch too few mutants")
    return tests, len(copies), score


def _all_dropped(tests: Sequence[_Test], reason: str) -> list[_Test]:
    return [replace(test, reason=test.reason or reason) for test in tests]


def _row(proposal: Row, test: _Test, programs: int, differs: bool) -> Row:
    """differs: the proposal's output, where it has one, is not right where the expected one is."""
    written, kept = test.written, test.reason is None
    return {
        "test_id": proposal["becomes"],
        "problem_id": proposal["problem_id"],
        "domain": proposal["domain"],
        "completion": written.completion,
        "stdin": written.stdin,
        "proposed": written.proposed,
        "expected": test.expected if kept else None,
        "repaired": kept and written.proposed is not None and differs,
        "agree": test.agree,
        "programs": programs,
        "trust": test.agree / programs if programs else 0.0,
        "drop_reason": test.reason,
        "writer": proposal["writer"],
        "seed": written.seed,
    }


def quality(tests: Iterable[Row]) -> dict[str, float]:
    """What an asset's page says of the tests: how many stand, how far they can be trusted, what they catch."""
    kept = [row for row in tests if row["expected"] is not None]
    scores = {row["problem_id"]: row["mutation_score"] for row in kept if row["mutation_score"] is not None}
    problems = {row["problem_id"] for row in kept}
    figures: dict[str, float] = {
        "kept": len(kept), "repaired": sum(row["repaired"] for row in kept), "problems_with_tests": len(problems),
        "statements_repaired": sum(row["statement"] is not None for row in kept),
    }  # fmt: skip
    if checked := {row["problem_id"] for row in kept if row["checker"] is not None}:
        figures["problems_with_a_checker"] = len(checked)
    if kept:
        figures["mean_trust"] = sum(row["trust"] for row in kept) / len(kept)
    if scores:
        figures["mean_mutation_score"] = sum(scores.values()) / len(scores)
    return figures
