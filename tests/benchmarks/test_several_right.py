"""The problems with several right outputs are what their benchmark takes them for."""

import random
from collections.abc import Iterator

import pytest

from benchmarks.several_right import FAMILIES, Family, Posed, posed
from promptcot_assets.domains import domain_named
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import Verifier
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages.labels.sameness import as_printed


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        yield verifier


def test_problems_are_the_same_every_time_and_carry_their_example() -> None:
    problems = posed(12, seed=1)
    assert problems == posed(12, seed=1) and len({one.text for one in problems}) == 12
    for one in problems:
        example = domain_named("code").worked_example(one.text)
        assert example and one.family.answer(example["stdin"]) == example["expected"]
        assert domain_named("code").defect(one.text) is None and "LIMIT" not in one.text


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_right_programs_are_right_and_the_first_judges_know_it(family: Family, verifier: Verifier) -> None:
    one, rng = Posed(family, family.limits[0], ""), random.Random(0)
    stdins = [family.stdin(rng, one.limit) for _ in range(8)]
    (said,) = verifier.outputs([one.own(family.validators[0])], [*stdins, *family.bad])
    assert said == ["valid"] * len(stdins) + ["invalid"] * len(family.bad)
    right, wrong = (
        [
            as_printed(stdin, family.answer(stdin), str(output))
            for printed in verifier.outputs([one.own(program) for program in programs], stdins)
            for stdin, output in zip(stdins, printed, strict=True)
        ]
        for programs in (family.right, family.wrong)
    )
    checker = one.own(family.checkers[0])
    assert set(verifier.accepted(checker, right)) == {True}
    refused = [verdict is False for verdict in verifier.accepted(checker, wrong)]
    each = [any(refused[at : at + len(stdins)]) for at in range(0, len(refused), len(stdins))]
    assert all(each)  # every wrong program is wrong on some input
