"""Published benchmarks in their own file formats, as one kind of row.

What `seeds.read_seeds` reads (problem or prompt, answer, reference_solution, input_output) is read here too: AIME,
HMMT, MATH-500 and the released Codeforces file are of that form. Three formats are their own:

GSM8K on the hub       `question`, `answer` that ends in `#### 18`
LiveCodeBench          JSONL files of code_generation_lite: tests in JSON and in a packed column, dates, starter code
Codeforces on the hub  open-r1/codeforces: statement in parts, official tests, contest ids

Items keep what an Elo needs: `contest`, `points`, and `sample_tests` (True: they have only the statement's samples).
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from promptcot_assets.settings.profile import PublishedBenchmark
from promptcot_assets.stages import Row
from promptcot_assets.stages.seeds import SeedError, UnusableRow, normal_form, open_source

EXTRA = ("contest", "points", "sample_tests")


class _Unfit(Exception):
    """This one item cannot be judged; the message is the reason counted with it."""


def read_items(benchmark: PublishedBenchmark) -> tuple[list[Row], Counter[str]]:
    """Items of one benchmark, as rows of `read_seeds` with the columns of EXTRA, and the dropped ones by reason.

    Raises: SeedError naming file and line when the source is absent or malformed.
    """
    rows, dropped = [], Counter[str]()
    for name, number, raw in _raw_rows(benchmark):
        try:
            if not _in_window(raw, benchmark):
                dropped["outside the window of dates"] += 1
                continue
            read = next((form for is_of, form in FORMS if is_of(raw)), dict)(raw)
            row = normal_form(read, name, number)
        except (_Unfit, UnusableRow) as reason:
            dropped[str(reason)] += 1
            continue
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SeedError):
                raise
            raise SeedError(f"{name}, line {number}: not a row of its format ({error!r}); mend the line") from error
        rows.append(row | {extra: read.get(extra) for extra in EXTRA})
    if not rows:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"
        raise SeedError(f"{', '.join(benchmark.sources)}: no item is left ({why}); mend benchmarks.files")
    return rows, dropped


def _raw_rows(benchmark: PublishedBenchmark) -> Iterator[tuple[str, int, Row]]:
    """(source, line, row) of all sources."""
    for source in benchmark.sources:
        name, raw_rows = open_source(source)
        for number, raw in raw_rows:
            yield name, number, raw


def _in_window(raw: Row, benchmark: PublishedBenchmark) -> bool:
    """Whether a problem's contest took place on or after `since` and before `until` (ISO dates)."""
    if benchmark.since is None and benchmark.until is None:
        return True
    date = raw.get("contest_date")
    if date is None:
        raise SeedError(f"{', '.join(benchmark.sources)}: rows have no `contest_date`; leave out since and until")
    day = str(date)[:10]
    return (benchmark.since or "") <= day < (benchmark.until or "9999")


# ---- GSM8K
def _is_gsm8k(raw: Row) -> bool:
    return "question" in raw and "answer" in raw


def _gsm8k(raw: Row) -> Row:
    return {"problem": raw["question"], "solution": raw["answer"]}


# ---- LiveCodeBench
def _is_livecodebench(raw: Row) -> bool:
    return "question_content" in raw and "public_test_cases" in raw


def _livecodebench(raw: Row) -> Row:
    tests = [*json.loads(raw["public_test_cases"]), *_packed_tests(raw["private_test_cases"])]
    kinds = {test["testtype"] for test in tests}
    if len(kinds) != 1 or not kinds <= {"stdin", "functional"}:
        raise _Unfit(f"tests of kinds {', '.join(sorted(kinds)) or 'none'}")
    function = json.loads(raw.get("metadata") or "{}").get("func_name") if kinds == {"functional"} else None
    if kinds == {"functional"} and not function:
        raise _Unfit("function tests without the function's name")
    problem = raw["question_content"]
    if raw.get("starter_code"):
        problem = f"{problem}\n\nStarter code:\n```python\n{raw['starter_code'].rstrip()}\n```"
    cases = [{"stdin": test["input"], "expected": test["output"]} for test in tests]
    return {"problem": problem, "tests": cases, "fn_name": function, "sample_tests": False}


def _packed_tests(value: str) -> list[Row]:
    """Private tests: JSON, or base64 of zlib of a pickled JSON text. The pickle is a file from outside: only a text
    may come out of it, so nothing that it names is ever imported."""
    if value.lstrip().startswith("["):
        return list(json.loads(value))
    unpacked = _TextOnly(io.BytesIO(zlib.decompress(base64.b64decode(value)))).load()
    return list(json.loads(unpacked))


class _TextOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the packed tests ask for {module}.{name}; only text is read from them")


# ---- Codeforces
def _is_codeforces(raw: Row) -> bool:
    return "official_tests" in raw and "input_format" in raw


def _codeforces(raw: Row) -> Row:
    if raw.get("generated_checker"):
        raise _Unfit("has several right answers and needs a checker")
    if raw.get("interaction_format"):
        raise _Unfit("interactive")
    if raw.get("input_mode") not in (None, "stdio"):
        raise _Unfit("reads and writes files")
    complete = bool(raw.get("official_tests_complete"))
    tests = raw["official_tests"] or raw.get("examples") or []
    parts = [raw["description"], "Input", raw["input_format"], "Output", raw["output_format"]]
    for example in raw.get("examples") or []:
        parts += ["Example input", example["input"], "Example output", example["output"]]
    return {
        "problem": "\n\n".join(part.strip() for part in [*parts, raw.get("note")] if part),
        "tests": [{"stdin": test["input"], "expected": test["output"]} for test in tests],
        "contest": None if raw.get("contest_id") is None else str(raw["contest_id"]),
        "points": raw.get("points"),
        "sample_tests": not complete,
    }


FORMS: list[tuple[Callable[[Row], bool], Callable[[Row], Row]]] = [
    (_is_gsm8k, _gsm8k),
    (_is_livecodebench, _livecodebench),
    (_is_codeforces, _codeforces),
]


# ---- standings
STYLES = ("codeforces", "icpc")


def read_standings(source: str) -> list[Row]:
    """Frozen standings: a row a rated participant of a contest, with `contest` (or contest_id), `style`, `rating`,
    `points` and, ICPC style, `penalty` in minutes.

    Raises: SeedError naming file, line and column when one is missing or of the wrong kind.
    """
    name, raw_rows = open_source(source)
    rows = [_standing(raw, f"{name}, line {number}") for number, raw in raw_rows]
    if not rows:
        raise SeedError(f"{source}: holds no standings; give one rated participant a line")
    return rows


def _standing(raw: Row, where: str) -> Row:
    contest = raw.get("contest", raw.get("contest_id"))
    if contest is None:
        raise SeedError(f"{where}: no column `contest`; name the contest whose participant this is")
    style = raw.get("style", "codeforces")
    if style not in STYLES:
        raise SeedError(f"{where}: style {style!r}; write one of {', '.join(STYLES)}")
    numbers = {"rating": raw.get("rating"), "points": raw.get("points"), "penalty": raw.get("penalty", 0)}
    for column, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SeedError(f"{where}: `{column}` is {value!r}; write a number")
    return {"contest": str(contest), "style": style} | {column: float(value) for column, value in numbers.items()}


# ---- prompts
def published_prompt(problem: str) -> str:
    """How the released evaluation files ask for a program that reads standard input (without the chat template)."""
    return (
        "You will be given a question (problem specification) and will generate a correct Python program that matches "
        f"the specification and passes all tests.\n\nQuestion: {problem}\n\nRead the inputs from stdin solve the "
        "problem and write the answer to stdout (do not directly test on the sample inputs). Enclose your code within "
        "delimiters as follows. Ensure that when the python program runs, it reads the inputs, runs the algorithm and "
        "writes output to STDOUT.\n```python\n# YOUR CODE HERE\n```\n\n"
    )


def function_prompt(problem: str) -> str:
    """How LiveCodeBench asks for a function: the starter code is part of the statement."""
    return (
        "You will be given a question (problem specification) and will generate a correct Python program that matches "
        f"the specification and passes all tests.\n\nQuestion: {problem}\n\nYou will use the starter code above to "
        "write the solution to the problem and enclose your code within delimiters.\n```python\n# YOUR CODE HERE\n"
        "```\n\n"
    )
