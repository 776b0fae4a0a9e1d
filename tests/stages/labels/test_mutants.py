import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.domains import procedural_domain
from promptcot_assets.stages.labels.mutants import mutants

EVERY = [  # (program, all its mutants)
    ("a + b", ["a - b"]),
    ("a < b", ["a <= b"]),
    ("a and b", ["a or b"]),
    ("a // 2", ["a * 2", "a // 3"]),
    ("max(a, b)", ["min(a, b)"]),
    ("x[0] % 10", ["x[0] + 10", "x[1] % 10", "x[0] % 11"]),
    ("f(*a, **b)", []),
    ("-a", []),
    ("'%d + 1' % a", []),
    ("max = len", []),
    ("# 1 + 1", []),
    ("", []),
    ("print(", []),
    ("(((", []),
    ("'open", []),
    ("if a:\n\tb = 1", ["if a:\n\tb = 2"]),
    ("a = '\u2028'  # \x0c\nb = 1", ["a = '\u2028'  # \x0c\nb = 2"]),  # one line, to the tokenizer
    ("a = 1\r\nb = a + 1\r\n", ["a = 2\r\nb = a + 1\r\n", "a = 1\r\nb = a - 1\r\n", "a = 1\r\nb = a + 2\r\n"]),
]


@pytest.mark.parametrize(("program", "expected"), EVERY)
def test_one_operator_or_constant_is_changed(program: str, expected: list[str]) -> None:
    assert sorted(mutants(program, 99, seed=0)) == sorted(expected)


def test_mutants_are_programs_that_differ() -> None:
    world = procedural_domain("mini_code")
    for number, seed in enumerate(world.write_seeds(60, 0, {"planner": 1}, seed=1).train):
        program = (seed.solution or "").partition("```python\n")[2].partition("\n```")[0]
        found = mutants(program, 6, seed=number)
        assert 1 <= len(found) <= 6 and len({*found, program}) == len(found) + 1
        for mutant in found:
            assert ast.dump(ast.parse(mutant)) != ast.dump(ast.parse(program))
        assert found == mutants(program, 6, seed=number)


def test_the_seed_draws_which() -> None:
    program = " + ".join(map(str, range(40)))
    assert mutants(program, 3, seed=1) != mutants(program, 3, seed=2)
    assert set(mutants(program, 3, seed=1)) <= set(mutants(program, 999, seed=5))


@given(st.text(alphabet=" \n\t()[]{}'\"\\#:=+-*/<>1a\x00\x0c\r", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    assert all(mutant != text for mutant in mutants(text, 5, seed=0))
