import json

import pytest

from promptcot_assets.inference import Completion
from promptcot_assets.stages.labels.written_tests import FOCUS, read_test, writing_prompt


def completion(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, 7, finish_reason, -1.0, 42)


def fenced(**test: object) -> str:
    return f"```json\n{json.dumps(test)}\n```"


READ = [  # (completion, input and output, why)
    (fenced(input="1 2\n", output="3\n"), ("1 2\n", "3"), "as asked"),
    ('Sure: {"input": "1", "output": "2"} is one.', ("1", "2"), "no fence"),
    (
        f"<think>{fenced(input='0', output='0')}</think>{fenced(input='1', output='2')}",
        ("1", "2"),
        "not in the thoughts",
    ),
    (fenced(input="0", output="0") + "\nBetter:\n" + fenced(input="1", output="2"), ("1", "2"), "the last one"),
    ('{"input": "1\n2", "output": "3"}'.replace("\\n", "\n"), ("1\n2", "3"), "a raw line break"),
    (fenced(input="\U0001f600", output="é"), ("\U0001f600", "é"), "a pair of surrogates is one character"),
    (fenced(input=5, output=2.5), ("5", "2.5"), "numbers are their digits"),
    (fenced(input="", output="7"), ("", "7"), "a program may read nothing"),
    ('Set {1, 2}. {"input": "{", "output": "}"}', ("{", "}"), "other braces"),
]


@pytest.mark.parametrize(("text", "test", "why"), READ)
def test_a_written_test_is_read(text: str, test: tuple[str, str], why: str) -> None:
    read = read_test(completion(text))
    assert (read.stdin, read.proposed, read.defect) == (*test, None)
    assert (read.completion, read.seed) == (text, 42)


DEFECTS = [
    ("I cannot.", "stop", "no JSON object in what was written"),
    ("[1, 2]", "stop", "no JSON object in what was written"),
    ('{"input": "1", "output": ', "stop", "no JSON object in what was written"),
    ("{" * 5000, "stop", "no JSON object in what was written"),
    (fenced(input="1", output="2"), "length", "the test was cut off at the token limit"),
    (f"<think>{fenced(input='1', output='2')}", "stop", "the test was cut off at the token limit"),
    (fenced(input="1"), "stop", "not exactly an input and an output"),
    (fenced(input="1", output="2", note="x"), "stop", "not exactly an input and an output"),
    (fenced(input=[1, 2], output="3"), "stop", "input or output is not text"),
    (fenced(input="1", output=True), "stop", "input or output is not text"),
    (fenced(input="1", output=None), "stop", "input or output is not text"),
    (fenced(input="1\n\ud83d\n", output="1"), "stop", "not valid Unicode"),
    (fenced(input="1", output="\ude00"), "stop", "not valid Unicode"),
    (fenced(input="1", output=" \n"), "stop", "the output is empty"),
]


@pytest.mark.parametrize(("text", "finish_reason", "defect"), DEFECTS)
def test_what_is_no_test_says_why(text: str, finish_reason: str, defect: str) -> None:
    read = read_test(completion(text, finish_reason))
    assert (read.stdin, read.proposed, read.defect) == (None, None, defect)
    assert (read.completion, read.seed) == (text, 42)


def test_the_calls_of_a_problem_ask_for_different_tests() -> None:
    prompts = [writing_prompt("Print {n}.", call) for call in range(6)]
    assert len(set(prompts)) == len(FOCUS) and prompts[4] == prompts[0]
    assert all(prompt.startswith("Print {n}.\n") and "{" not in prompt.removeprefix("Print {n}.") for prompt in prompts)
