import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.domains.layout import (
    BEGIN_PROBLEM,
    BEGIN_RATIONALE,
    END_PROBLEM,
    END_RATIONALE,
    MARKERS,
    TOKENIZER_MARKERS,
    Block,
    generator_completion,
    has_marker,
    numbered,
    parse_completion,
    problem_block,
    rationale_block,
    solution_text,
)

Z, X = rationale_block("why"), problem_block("what?")
MALFORMED = [
    ("", "rationale block missing"),
    ("why what?", "rationale block missing"),
    (X, "rationale block missing"),
    (f"{BEGIN_RATIONALE}why{X}", "rationale block missing"),
    (f"why{END_RATIONALE}{X}", "rationale block missing"),
    (f"{Z}{Z}{X}", "rationale block more than once"),
    (f"{BEGIN_RATIONALE}{Z}{X}", "rationale block more than once"),
    (f"{Z}{END_RATIONALE}{X}", "rationale block more than once"),
    (rationale_block(" \n\t") + X, "rationale block empty"),
    (f"{BEGIN_RATIONALE}why{BEGIN_PROBLEM}{END_RATIONALE}what?{END_PROBLEM}", "rationale block contains a marker"),
    (f"{END_RATIONALE}why{BEGIN_RATIONALE}{X}", "rationale block ends before it begins"),
    (Z, "problem block missing"),
    (f"{Z}what?", "problem block missing"),
    (f"{Z}{BEGIN_PROBLEM}what?", "problem block missing"),
    (f"{Z}what?{END_PROBLEM}", "problem block missing"),
    (f"{Z}{X}{X}", "problem block more than once"),
    (Z + problem_block(" \n"), "problem block empty"),
    (f"{BEGIN_PROBLEM}a{Z}b{END_PROBLEM}", "problem block contains a marker"),
    (f"{Z}{END_PROBLEM}{BEGIN_PROBLEM}what?", "problem block ends before it begins"),
    (f"{X}{Z}", "problem block before the rationale"),
]


@pytest.mark.parametrize(("completion", "reason"), MALFORMED)
def test_a_malformed_completion_is_no_problem_and_says_why(completion: str, reason: str) -> None:
    block = parse_completion(completion, finished=True)
    assert (block.problem, block.drop_reason) == (None, reason)
    if reason.startswith("rationale"):
        assert block.rationale is None


@pytest.mark.parametrize("completion", [Z + X, Z, "", f"{Z}{BEGIN_PROBLEM}what"])
def test_an_unfinished_completion_is_no_problem_whatever_it_holds(completion: str) -> None:
    assert parse_completion(completion, finished=False) == Block(None, None, "cut off at the token limit")


@given(*[st.text(min_size=1).filter(lambda text: text.strip() and not has_marker(text))] * 2)
def test_blocks_survive_the_round_trip(rationale: str, problem: str) -> None:
    written = generator_completion(rationale, problem)
    assert parse_completion(written, finished=True) == Block(rationale.strip(), problem.strip(), None)
    assert written.startswith(rationale_block(rationale)) and written.endswith(problem_block(problem))


def test_text_around_the_blocks_is_no_part_of_them() -> None:
    assert parse_completion(f"\n {Z} and so \n{X}\nend", finished=True) == Block("why", "what?", None)


@given(st.lists(st.sampled_from([*MARKERS, "a", " ", "\n", "<think>"]), max_size=10))
def test_a_parsed_problem_never_carries_a_marker(pieces: list[str]) -> None:
    block = parse_completion("".join(pieces), finished=True)
    assert (block.problem is None) == (block.drop_reason is not None)
    for part in (block.rationale, block.problem):
        assert part is None or (part.strip() == part != "" and not has_marker(part))


def test_markers_are_the_published_ones() -> None:
    assert MARKERS == (
        "<!-- BEGIN RATIONALE -->",
        "<!-- END RATIONALE -->",
        "<!-- BEGIN PROBLEM -->",
        "<!-- END PROBLEM -->",
    )
    assert set(MARKERS) < set(TOKENIZER_MARKERS)
    assert not any(has_marker(text) for text in ("", "<!-- BEGIN -->", "BEGIN PROBLEM", "<think>"))
    assert all(has_marker(f"a{marker}b") for marker in MARKERS)


def test_concepts_are_numbered_from_one_and_thoughts_are_wrapped() -> None:
    assert numbered(["sums", "loops"]) == "1. sums\n2. loops"
    assert solution_text("thus", "4") == "<think>thus</think>4"
