"""Labels for synthetic problems: answers by majority vote, code tests by cross execution (method section 5)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from promptcot_assets.domains import ProceduralDomain, domain_named
from promptcot_assets.lake.ids import content_id, in_share, seed_from
from promptcot_assets.settings.profile import Labels
from promptcot_assets.stages import Row
from promptcot_assets.stages.mutants import mutants
from promptcot_assets.stages.teacher import Teacher
from promptcot_assets.stages.verification import Verifier
from promptcot_assets.stages.written_tests import WrittenTest, is_unicode


def of_kind(problems: Sequence[Row], answers: str) -> list[Row]:
    """The problems whose answers are `maths`, or `program`s."""
    return [row for row in problems if domain_named(row["domain"]).answers == answers]


def to_label(problems: Iterable[Row], answers: str, share: float) -> Iterator[Row]:
    """Those of this kind that are labelled (labels.share): by their hash, so that batches never move one."""
    for row in problems:
        if domain_named(row["domain"]).answers == answers and in_share(share, "labelled", row["problem_id"]):
            yield row


# ---- answers
def math_answers(problems: Sequence[Row], teacher: Teacher, settings: Labels, seed: int) -> list[Row]:
    """One row a maths problem: the answer most generations agree on, if enough do and it is strictly ahead.

    With `ties: first`, of several answers with the most votes the one that was given first.
    """
    own = of_kind(problems, "maths")
    rows = []
    for row, attempts in zip(own, teacher.attempts(own, settings.votes, seed_from(seed, "votes")), strict=True):
        answers = [attempt.answer or "" for attempt in attempts]
        answer, votes, reason = _vote(answers, settings)
        rows.append({
            "label_id": content_id(row["problem_id"], answers),
            "problem_id": row["problem_id"],
            "domain": row["domain"],
            "answer": answer,
            "votes": votes,
            "asked": settings.votes,
            "share": votes / settings.votes,
            "answers": answers,
            "seeds": [attempt.seed for attempt in attempts],
            "drop_reason": None if answer is not None else reason,
            "voter": teacher.name,
        })  # fmt: skip
    return rows


def _vote(answers: Sequence[str], settings: Labels) -> tuple[str | None, int, str]:
    """The label or None, the votes for it or for the front runner, and why it came out so."""
    from sandbox.maths import majority_vote

    ballots = [answer or None for answer in answers]
    vote = majority_vote(ballots, min_votes=settings.min_votes)
    if vote.reason == "tie" and settings.ties == "first" and vote.votes >= settings.min_votes:
        for answer in filter(None, ballots):  # one ballot more puts a leader, and no other answer, ahead
            won = majority_vote([*ballots, answer], min_votes=vote.votes + 1)
            if won.answer is not None:
                return won.answer, vote.votes, "first of a tie"
    return vote.answer, vote.votes, vote.reason


# ---- tests of programs
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


def code_tests(problems: Sequence[Row], teacher: Teacher, verifier: Verifier, settings: Labels, seed: int) -> list[Row]:
    """Tests of every program problem: inputs, and the output that enough candidate programs agree on when really run.

    Inputs come from the domain where it can draw them; elsewhere the teacher writes whole tests, one a call. Of a
    written test only the input is believed: where the candidate programs agree on another output, that one is used
    (`repaired`), and where they do not agree, the test falls.

    Where the statement carries a worked example, only programs that reproduce it vote, and it is a test itself; when
    none does, the statement contradicts its example and every test is dropped. Trust is the share of all candidate
    programs: one that reproduces a contradictory example by its own mistake is no agreement. At least one candidate
    must pass all tests together, or they mix different readings of the statement. What the tests are worth is the
    share of mutants of such a program that they catch.
    """
    own = of_kind(problems, "program")
    drawn = teacher.attempts(own, settings.test_programs, seed_from(seed, "test programs"))
    rows = []
    for row, attempts, written in zip(own, drawn, _proposals(own, teacher, settings, seed), strict=True):
        programs = [attempt.answer for attempt in attempts if attempt.answer is not None]
        tests, passing = _cross_executed(programs, written, verifier, settings)
        tests, tried, score = _worth(row, tests, passing, verifier, settings, seed)
        rows += [
            _row(row, at, test, len(programs), teacher.name) | {"mutants": tried, "mutation_score": score}
            for at, test in enumerate(tests)
        ]
    return rows


def _proposals(
    problems: Sequence[Row], teacher: Teacher, settings: Labels, seed: int
) -> Iterator[Sequence[WrittenTest]]:
    """What may become the tests of each problem: its worked example, and drawn inputs or written tests."""
    count, own_seed = settings.tests_per_problem, seed_from(seed, "written tests")
    to_write = [row for row in problems if not isinstance(domain_named(row["domain"]), ProceduralDomain)]
    written = iter(teacher.tests(to_write, count, own_seed) if to_write else [])
    for row in problems:
        domain = domain_named(row["domain"])
        example = domain.worked_example(row["problem"])
        first = [WrittenTest(example["stdin"], example["expected"], worked_example=True)] if example else []
        if isinstance(domain, ProceduralDomain):
            yield [*first, *_drawn(domain, row["problem_id"], count, {one.stdin for one in first}, seed)]
        else:
            yield [*first, *next(written)]


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


def _cross_executed(
    programs: Sequence[str], written: Sequence[WrittenTest], verifier: Verifier, settings: Labels
) -> tuple[list[_Test], list[str]]:
    """Every test with what the programs make of it, and the programs that pass all those that are kept."""
    tests = _without_repeats(written)
    sound = [at for at, test in enumerate(tests) if test.reason is None]
    outputs = verifier.outputs(programs, [tests[at].written.stdin or "" for at in sound])
    voters = list(zip(programs, outputs, strict=True))
    if written and written[0].worked_example:
        voters = [(program, said) for program, said in voters if _same(said[0], written[0].proposed)]
        if not voters:
            return _all_dropped(tests, "no candidate program reproduces the worked example"), []
    for place, at in enumerate(sound):
        said = [output[place] for _, output in voters]
        tests[at] = _decided(tests[at], [one for one in said if one and is_unicode(one)], len(programs), settings)
    kept = [(place, tests[at].expected) for place, at in enumerate(sound) if tests[at].reason is None]
    passing = [program for program, said in voters if all(_same(said[place], expected) for place, expected in kept)]
    if kept and not passing:
        return _all_dropped(tests, "no candidate program passes all tests together"), []
    return tests, passing


def _without_repeats(written: Sequence[WrittenTest]) -> list[_Test]:
    tests, known = [], set[str]()
    for one in written:
        stdin = (one.stdin or "").strip()
        tests.append(_Test(one, reason=one.defect or ("the input of an earlier test" if stdin in known else None)))
        if one.defect is None:
            known.add(stdin)
    return tests


def _decided(test: _Test, said: Sequence[str], programs: int, settings: Labels) -> _Test:
    """The output most programs say, if enough do. Of equal numbers the one that its writer expects, else the first.

    said: what programs that end well print. Silence is no vote: programs that only define functions all agree on it.
    Nor are bytes that are no UTF-8: no table holds them as the text that a test expects.
    """
    groups: list[list[str]] = []  # outputs that the judge takes for the same
    for output in said:
        group = next((one for one in groups if _same(one[0], output)), None)
        if group is None:
            groups.append(group := [])
        group.append(output)
    if not groups:
        return replace(test, reason="no candidate program gives an output")
    best = max(groups, key=lambda group: (len(group), _same(group[0], test.written.proposed)))
    enough = len(best) / programs >= settings.min_test_agreement
    return replace(
        test, expected=best[0], agree=len(best), reason=None if enough else "too few candidate programs agree"
    )


def _worth(
    problem: Row, tests: list[_Test], passing: Sequence[str], verifier: Verifier, settings: Labels, seed: int
) -> tuple[list[_Test], int, float | None]:
    """The tests, how many mutants of the first passing program were run on them, and the share that they catch."""
    kept = [test.case for test in tests if test.reason is None]
    if not kept:
        return tests, 0, None
    copies = mutants(passing[0], settings.mutants, seed_from(seed, "mutants", problem["problem_id"]))
    if not copies:
        return tests, 0, None
    score = sum(verifier.caught(copies, kept)) / len(copies)
    if score < settings.min_mutation_score:
        tests = _all_dropped(tests, "the tests catch too few mutants")
    return tests, len(copies), score


def _all_dropped(tests: Sequence[_Test], reason: str) -> list[_Test]:
    return [replace(test, reason=test.reason or reason) for test in tests]


def _same(got: str | None, want: str | None) -> bool:
    """As the sandbox compares what a program prints with what is expected. None: nothing, and equal to nothing."""
    from sandbox.compare import same_stdout

    return got is not None and want is not None and same_stdout(got, want)


def _row(problem: Row, at: int, test: _Test, programs: int, writer: str) -> Row:
    written, kept = test.written, test.reason is None
    return {
        "test_id": content_id(problem["problem_id"], at, written.stdin),
        "problem_id": problem["problem_id"],
        "domain": problem["domain"],
        "completion": written.completion,
        "stdin": written.stdin,
        "proposed": written.proposed,
        "expected": test.expected if kept else None,
        "repaired": kept and written.proposed is not None and not _same(test.expected, written.proposed),
        "agree": test.agree,
        "programs": programs,
        "trust": test.agree / programs if programs else 0.0,
        "drop_reason": test.reason,
        "writer": writer,
        "seed": written.seed,
    }


def quality(tests: Iterable[Row]) -> dict[str, float]:
    """What an asset's page says of the tests: how many stand, how far they can be trusted, what they catch."""
    kept = [row for row in tests if row["expected"] is not None]
    scores = {row["problem_id"]: row["mutation_score"] for row in kept if row["mutation_score"] is not None}
    figures: dict[str, float] = {"kept": len(kept), "repaired": sum(row["repaired"] for row in kept)}
    if kept:
        figures["mean_trust"] = sum(row["trust"] for row in kept) / len(kept)
    if scores:
        figures["mean_mutation_score"] = sum(scores.values()) / len(scores)
    return figures
