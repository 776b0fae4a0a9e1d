import pytest

from promptcot_assets.domains import DOMAINS, ProceduralDomain, domain_named, procedural_domain
from promptcot_assets.domains.layout import BEGIN_RATIONALE

PROCEDURAL = {"mini_maths", "mini_code"}
DEFECTS = [
    ("maths", "Find $x$ if $x^2 = 4$.", None),
    ("maths", "Compute \\[1 + 1\\]", None),
    ("maths", "Apples cost \\$5. How many for $x$ dollars?", None),
    ("maths", "What is $x", "truncated"),
    ("maths", "Find the value of", "truncated"),
    ("maths", "Find $x$ in the figure below.", "refers to a figure it does not have"),
    ("maths", "[asy] draw((0,0)--(1,1)); [/asy] Find it.", "refers to a figure it does not have"),
    ("maths", "It costs $5. How much are $x$ of them?", None),  # the first dollar is money
    ("maths", "The root of $x = 4", "truncated"),
    ("maths", "Show that $n^2$ is even.", "asks for a proof"),
    ("maths", "Let $n$ be even. Prove that $n^2$ is even.", "asks for a proof"),
    ("maths", "Show that $n$ is unique and find it.", None),
    ("maths", "Let $n$ be an even number.", "asks nothing"),
    ("code", "The input is n. The output is n + 1.", None),
    ("code", "Input: n. Output: n.\nExample 1\nInput: 3\nOutput: 3\nExample 2\nInput: 4\nOutput: 4", None),
    (
        "code",
        "Input: n. Output: n.\nExample 1\nInput: 3\nOutput: 3\nExample 2\nInput: 3\nOutput: 4",
        "contradictory examples",
    ),
    ("code", "Print n + 1.", "says nothing of its input or output"),
    ("code", "The input is n. Print it.", "says nothing of its output"),
    ("mini_maths", "Find A + B.", None),
    ("mini_maths", "Find A + ", "truncated"),
    ("mini_code", "Print a. Example: for 1 2 print 1.", None),
    ("mini_code", "Print a. Example: for 1 2 print 1", "truncated"),
    ("mini_code", "Print a.", "no worked example"),
]


@pytest.mark.parametrize(("domain", "problem", "reason"), DEFECTS)
def test_what_cannot_be_asked_says_why(domain: str, problem: str, reason: str | None) -> None:
    assert domain_named(domain).defect(problem) == reason


SECTIONS = "Input\n\nAn integer n.\n\nOutput\n\nIts double.\n\n"
EXAMPLES = [  # (statement, its first example, why)
    (SECTIONS, None, "sections are no examples"),
    (SECTIONS + "Example\n\nInput\n\n3\n4\n\nOutput\n\n6\n\nNote\n\nSo it is.", ("3\n4", "6"), "Codeforces"),
    (
        SECTIONS + "### Example 1\n\n**Input:**\n```\n3\n```\n**Output:**\n```\n6\n```\nExplanation: so.",
        ("3", "6"),
        "fences",
    ),
    ("Sample Input 1:\n4\nSample Output 1:\n8\nSample Input 2:\n5\nSample Output 2:\n10", ("4", "8"), "numbered"),
    ("Examples:\nInput: -3 4\nOutput: 1", ("-3 4", "1"), "on the labels' lines"),
    ("Example\nInput:\n\nOutput:\n6", None, "no input given"),
    ("Example of an input: 3. Its output: 6.", None, "prose"),
    ("Example\nOutput: 6\nInput: 3", None, "no output after the input"),
]


@pytest.mark.parametrize(("problem", "example", "why"), EXAMPLES)
def test_a_statements_own_example_is_read(problem: str, example: tuple[str, str] | None, why: str) -> None:
    expected = {"stdin": example[0], "expected": example[1]} if example else None
    assert domain_named("code").worked_example(problem) == expected
    assert domain_named("maths").worked_example(problem) is None


NO_ROOM_FOR_ANOTHER = ("numbered",)  # it has two examples, of which one would stay as it was


@pytest.mark.parametrize(("problem", "example", "why"), EXAMPLES)
@pytest.mark.parametrize("output", ["7", "-12", " 7 "])
def test_a_statements_own_example_is_rewritten_alone(
    problem: str, example: tuple[str, str] | None, why: str, output: str
) -> None:
    code = domain_named("code")
    new = code.with_worked_example(problem, output)
    if example is None or why in NO_ROOM_FOR_ANOTHER:
        assert new is None
        return
    assert new and code.worked_example(new) == {"stdin": example[0], "expected": output.strip()}
    assert new.startswith(problem[: problem.index("utput", problem.index("xample"))])
    assert domain_named("maths").with_worked_example(problem, output) is None


@pytest.mark.parametrize(
    "problem",
    [
        "Example\nInput:\n3\nOutput:\n6\n7\n\nNote\nSo.",
        "Example\nInput: 3\nOutput: 6\n7",
        "Example\nInput: 3\n**Output:**\n```\n6\n7\n```\nIt prints 6 and 7.",
        "Example\nInput: 3\nOutput:\n\n    6\n    7\n",
    ],
)
def test_an_output_of_several_lines_is_rewritten_line_by_line(problem: str) -> None:
    code = domain_named("code")
    assert code.with_worked_example(problem, "8\n9") == problem.replace("6", "8", 1).replace("7", "9", 1)
    assert code.with_worked_example(problem, "8") is None and code.with_worked_example(problem, "8\n9\n10") is None


FENCED = (
    "Example 1\n**Input:**\n```\n2 3\n```\n**Output:**\n```\n6\n```\n\n### Limits\n1 <= a <= 10^9; modulo 1000000007."
)


def test_what_follows_a_fence_is_no_output() -> None:
    code = domain_named("code")
    assert code.worked_example(FENCED) == {"stdin": "2 3", "expected": "6"}
    assert code.with_worked_example(FENCED, "7") == FENCED.replace("6", "7", 1)


@pytest.mark.parametrize(
    "problem",
    [
        "Example\nInput: 3\nOutput: 6\n\nIt is guaranteed that n is positive.",
        "Example\nInput: 3\nOutput: 6\nSo the output above is 6.",
        "Example\nInput: 3\nOutput:\n6\n\n### Limits\n\nn <= 9",
    ],
)
def test_an_output_that_prose_may_be_part_of_is_not_rewritten(problem: str) -> None:
    assert domain_named("code").with_worked_example(problem, "6") is None
    assert domain_named("code").with_worked_example(problem, "7") is None


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\nNote\n\nSo it is.\n"])
def test_what_stands_around_a_rewritten_output_stays_to_the_letter(ending: str, last: str) -> None:
    before = f"Double it.\n\n{SECTIONS}Example\n\nInput:  3 \n**Output:**  "
    text = (before + "6" + last).replace("\n", ending)
    new = domain_named("code").with_worked_example(text, "7")
    assert new == (before + "7" + last).replace("\n", ending)


@pytest.mark.parametrize("output", ["Note", "Input: 4", "```", "", "Example 2\nInput\n1\nOutput\n2"])
def test_an_output_that_would_be_read_as_something_else_is_not_written(output: str) -> None:
    assert domain_named("code").with_worked_example("Example\nInput:\n3\nOutput:\n6", output) is None


@pytest.mark.parametrize("name", DOMAINS)
def test_prompts_hold_what_they_condition_on(name: str) -> None:
    domain = DOMAINS[name]
    p = domain.generator_prompt(["sums", "loops"], "hard")
    q = domain.rationale_prompt(["sums", "loops"], "hard", "What is it?")
    assert p.index("sums") < p.index("loops") < p.index("hard")
    assert "What is it?" not in p and BEGIN_RATIONALE not in p
    assert q.startswith(p) and "What is it?" in q and q.endswith(BEGIN_RATIONALE)
    assert "What is it?" in domain.solve_prompt("What is it?")
    assert domain.answers == ("program" if "code" in name else "maths")


def test_the_published_prompt_of_the_generator_is_word_for_word() -> None:
    assert domain_named("maths").generator_prompt(["sums", "loops"], "AIME") == (
        "Given foundational concepts and difficulty level, identify connections and develop a question that integrates "
        "these concepts with appropriate complexity.\n\nFoundational Concepts:\n1. sums\n2. loops\n\n"
        "Difficulty Level: AIME\n\n"
    )


@pytest.mark.parametrize("name", DOMAINS)
def test_only_a_procedural_domain_can_tell_whether_a_text_is_well_posed(name: str) -> None:
    assert isinstance(DOMAINS[name], ProceduralDomain) == (name in PROCEDURAL)
    assert DOMAINS[name].well_posed("What is 1 + 1?") is (False if name in PROCEDURAL else None)


def test_unknown_domains_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no domain 'math'; known: maths, code, mini_maths, mini_code"):
        domain_named("math")
    with pytest.raises(ValueError, match="'maths' writes no problems by program; give it files under corpus"):
        procedural_domain("maths")
