"""One value of a problem file as what it means: an answer, tests, a solution, a chat, a time limit.

Belongs here: how public data sets spell such a value. Nothing here knows a data set by its name: a value is read by
what it looks like (a box, `#### 18`, JSON of tests, a list of turns), so that every form (forms.py) shares one
spelling of each. Does not belong here: which column holds the value (forms.py), files (sources.py), grading.
"""

from __future__ import annotations

import ast
import base64
import functools
import io
import json
import math
import pickle
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

MAX_UNPACKED = 1 << 29  # bytes that a packed column may grow to; the largest published tests are a fifth of it
LONGEST_ANSWER = 400  # characters; a longer text in a column of answers is a solution
PROVED, UNKNOWN = {"proof"}, {"notfound", "not found", "not_found"}
NOT_A_NUMBER = {"nan", "null", "none", "n/a", "inf", "-inf", "infinity", "-infinity"}

WRAPPED = {"target", "value", "answer", "ground_truth"}  # keys of an object that holds nothing but an answer
HASHES = re.compile(r"(?:\A|\n)#### *([^\n]+)\s*\Z")
THE_ANSWER_IS = re.compile(r"(?:\A|\n)The (?:final )?answer is: *([^\n]+?)\.?\s*\Z")
SENTENCES = re.compile(r"[a-z0-9)$][.!?]\s+[A-Z$]")
FINAL = re.compile(r"[-+]?[\d.,]*\d(?:/\d+)?\s*%?|\$[^$\n]+\$")


class UnusableRow(Exception):
    """This one row must fall; the message is the reason counted with it, and says what would mend the row."""


# ---- paths


def lookup(raw: Row, path: str) -> Any:
    """The value at a path of column names (`reward_model.ground_truth`); JSON text on the way is read. None: no value.

    A column's own name is tried first, then the same name in other letters (`Problem`, `final answer`, `finalAnswer`).
    """
    value: Any = raw
    for name in path.split("."):
        if isinstance(value, str):
            value = parsed(value)
        if not isinstance(value, dict):
            return None
        value = value.get(name) if name in value else value.get(spelled(value, name) or name)
    return value


def spelled(names: Any, wanted: str) -> str | None:
    """How `wanted` is written among the column names, whatever its capital letters and what stands between words."""
    if wanted in names:
        return wanted
    folded = _folded(wanted)
    return next((name for name in names if isinstance(name, str) and _folded(name) == folded), None)


@functools.lru_cache(4096)
def _folded(name: str) -> str:
    """`final_answer` of `Final Answer`, `final-answer` and `finalAnswer`. What begins with _ keeps it."""
    return re.sub(r"[\s-]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())).lower()


def parsed(text: str) -> Any:
    """A JSON or Python literal in a text, or the text itself."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)  # SYNTHETIC and Skywork have rows that Python's repr wrote
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text


# ---- text


def text_of(value: Any, column: str) -> str | None:
    """A text, or a number written out; blank is None.

    Raises: UnusableRow when it is of another kind.
    """
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = "; ".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnusableRow(f"`{column}` is a {type(value).__name__}, not text; make it a string or leave it out")
    return _number(value) if isinstance(value, float) else str(value).replace("\r\n", "\n").strip() or None


def is_finite(value: float) -> bool:
    """Whether a number is one that a float can hold; JSON and DuckDB have whole numbers beyond all floats."""
    return -sys.float_info.max <= value <= sys.float_info.max


def _number(value: float) -> str | None:
    if not math.isfinite(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


# ---- answers


def answer_of(value: Any) -> tuple[str | None, str | None]:
    r"""`(answer, solution)`: the bare answer of a value, and the solution where the value turns out to be one.

    `\boxed{3}`, `$3$`, `["3"]`, 3.0, `{"value": 3}` and `... #### 3` all are the answer 3.

    Raises: UnusableRow when the source says that there is no answer to hold anything against.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableRow("the answer is NaN or infinite; write a number, or leave the answer out")
    if isinstance(value, list):
        parts = [part for one in value if (part := answer_of(one)[0]) is not None]
        return (", ".join(parts) or None), None
    if is_wrapped(value):
        return answer_of(*value.values())
    if value is not None and not isinstance(value, str | int | float):
        raise UnusableRow(f"the answer is a {type(value).__name__}, not text; map the column that holds it")
    text = str(value) if isinstance(value, bool) else text_of(value, "answer")
    if text is None:
        return None, None
    if text.lower() in NOT_A_NUMBER:
        raise UnusableRow("the answer is NaN or infinite; write a number, or leave the answer out")
    if text.lower() in PROVED:
        raise UnusableRow("a proof is asked for, which has no answer to grade")
    if text.lower() in UNKNOWN:
        raise UnusableRow("the source did not find the answer")
    if text.startswith(('["', "['")) and isinstance(several := parsed(text), list) and several:
        return answer_of(several[0])  # answers that are all right: one of them is taught
    solution, final = split_final_answer(text)
    if final is not None:
        return bare(final), solution
    if is_essay(text):
        return (bare(boxed) if (boxed := last_boxed(text)) else None), text
    return bare(text), None


def is_wrapped(value: Any) -> bool:
    """Whether a value is an object of nothing but an answer, `{"target": "3"}`."""
    return isinstance(value, dict) and len(value) == 1 and not WRAPPED.isdisjoint(value)


def is_essay(text: str) -> bool:
    """Whether a text in a column of answers explains: too long, or several sentences of a dozen words or more."""
    return len(text) > LONGEST_ANSWER or (len(text.split()) >= 12 and SENTENCES.search(text) is not None)


def is_bare(text: str) -> bool:
    """Whether a text in a column of solutions can be nothing but an answer: one number, or one formula in dollars."""
    return FINAL.fullmatch(text) is not None


def bare(answer: str) -> str | None:
    r"""An answer without the box, the dollars or the words around it.

    Raises: UnusableRow when there is a box and nothing in it, or when it never closes.
    """
    answer = answer.strip()
    while "\\boxed" in answer or "\\fbox" in answer:
        inside = last_boxed(answer)
        if inside is None:
            raise UnusableRow("the answer is an empty box, or one that never closes; write what is in the box")
        answer = inside
    answer = re.sub(r"^(?:the\s+)?(?:final\s+)?answer\s*(?:is\s*:?|:|=)\s+", "", answer, flags=re.I).strip()
    if dollars := re.fullmatch(r"(\$\$?)([^$]+)\1\.?", answer):
        answer = dollars[2].strip()
    return answer or None


def split_final_answer(solution: str) -> tuple[str | None, str | None]:
    """`(solution, answer)` where the last line is GSM8K's `#### answer`, or MetaMath's `The answer is: answer` below
    one or alone; `(solution, None)` elsewhere."""
    # literals first: a pattern tries every place of an essay, of which files hold millions
    if "answer is:" in solution[-LONGEST_ANSWER:] and (said := THE_ANSWER_IS.search(solution)):
        before, hashed = split_final_answer(solution[: said.start()])
        return before, hashed or said[1].strip()
    match = HASHES.search(solution) if "####" in solution else None
    if match is None:
        return solution or None, None
    return solution[: match.start()].strip() or None, match[1].strip()


# an escaped brace is a set's brace in print, not a group
BRACES = re.compile(r"\\[{}]|(?P<box>\\(?:boxed|fbox)\s*\{)|[{}]")


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}` (or `\fbox`) with balanced braces, or None."""
    opened: list[int | None] = []  # groups around the place at hand: where the content of a box begins, else None
    last: tuple[int, int] | None = None
    for brace in BRACES.finditer(text):
        if brace["box"] or brace[0] == "{":
            opened.append(brace.end() if brace["box"] else None)
        elif brace[0] == "}" and opened and (start := opened.pop()) is not None:
            last = max(last or (0, 0), (start, brace.start()))
    return (text[slice(*last)].strip() or None) if last else None


# ---- solutions

PYTHON = (3, "3", "PYTHON3", "python3", "python", "Python", "PyPy 3", 1, "1", "PYTHON")  # best first


def solution_of(value: Any) -> str | None:
    """The first of the solutions that a value holds: a text, a list of them (also as JSON), or CodeContests' pair of
    lists `language` and `solution`, of which Python is preferred; of steps, all of them."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        value = parsed(value)
    if isinstance(value, dict) and isinstance(value.get("steps"), list):
        return "\n".join(filter(None, (_step(step) for step in value["steps"]))) or None
    if isinstance(value, dict) and isinstance(value.get("solution"), list):
        languages, texts = value.get("language"), value["solution"]
        languages = languages if isinstance(languages, list) else []
        ranked = sorted(zip(languages, texts, strict=False), key=lambda one: _rank(one[0]))
        value = [text for _, text in ranked] or texts
    if isinstance(value, list):
        value = next((one for one in value if isinstance(one, str) and one.strip()), None)
    return text_of(value, "solution") if isinstance(value, str | int | float) else None


def _step(step: Any) -> str | None:
    text = step.get("_text") if isinstance(step, dict) else step
    return text if isinstance(text, str) else None


def _rank(language: Any) -> int:
    return PYTHON.index(language) if language in PYTHON else len(PYTHON)


# ---- chats

USER, MODEL = {"user", "human"}, {"assistant", "gpt", "model", "chatgpt", "bot"}


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns, `{role, content}` or ShareGPT's `{from, value}`."""
    return bool(value) and isinstance(value, list) and all(isinstance(one, dict) and _role(one) for one in value)


def asked_and_answered(turns: list[Row]) -> tuple[str | None, str | None]:
    """The last user's turn of a chat, and the model's turn after it."""
    last = next((at for at in reversed(range(len(turns))) if _role(turns[at]) in USER), None)
    if last is None:
        return None, None
    reply = next((turn for turn in turns[last + 1 :] if _role(turn) in MODEL), None)
    return content_of(turns[last]), content_of(reply) if reply else None


def _role(turn: Row) -> str:
    return str(turn.get("role") or turn.get("from") or "").lower()


def content_of(turn: Row) -> str | None:
    value = turn.get("content", turn.get("value"))
    if isinstance(value, list):  # parts of several media
        value = "\n".join(
            part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return value if isinstance(value, str) else None


# ---- tests


@dataclass(frozen=True)
class Tests:
    """Cases `{stdin, expected}`; of a function: one JSON argument a line and a JSON result."""

    cases: list[dict[str, str]] = field(default_factory=list)
    fn_name: str | None = None


def tests_of(values: list[Any], fn_name: str | None = None) -> Tests | None:
    """The tests in one value or several (public and private ones), or None where there are none.

    Known spellings: a list of `{stdin | input, expected | output}`, an object of `inputs` and `outputs` (CodeContests:
    `input` and `output`), either as JSON text or packed as LiveCodeBench packs them.

    Raises: UnusableRow naming what makes them unusable.
    """
    cases: list[dict[str, str]] = []
    for value in values:
        for read in _tests(value, fn_name):
            if cases and read.cases and fn_name != read.fn_name:
                raise UnusableRow("unusable tests: some call a function and some are programs; keep one kind a row")
            cases += read.cases
            fn_name = read.fn_name if read.cases else fn_name
    return Tests(cases, fn_name) if cases else None


def _tests(value: Any, fn_name: str | None) -> Iterator[Tests]:
    if isinstance(value, str):
        value = _unpacked(value)
    if value is None or value == [] or value == {}:
        return
    if isinstance(value, list) and all(isinstance(test, dict) for test in value):
        yield _listed(value, fn_name)
    elif isinstance(value, dict) and {"inputs", "outputs"} <= value.keys():
        yield _paired(value["inputs"], value["outputs"], value.get("fn_name") or fn_name)
    elif isinstance(value, dict) and {"input", "output"} <= value.keys():
        yield _paired(value["input"], value["output"], fn_name)
    elif are_asserts(value):
        raise UnusableRow("unusable tests: they are assertions in Python; write them as inputs and expected outputs")
    else:
        raise UnusableRow("unusable tests: neither a list of {stdin, expected} nor JSON of `inputs` and `outputs`")


def are_asserts(value: Any) -> bool:
    if isinstance(value, dict):
        return bool({"assert_case", "test_code", "functional"} & value.keys())
    return isinstance(value, list) and any(isinstance(one, str) and "assert" in one for one in value)


def _listed(tests: list[Row], fn_name: str | None) -> Tests:
    kinds = {str(test.get("testtype") or test.get("type") or "") for test in tests} - {""}
    if len(kinds) > 1:
        raise UnusableRow(f"unusable tests: of kinds {', '.join(sorted(kinds))}; keep one kind a row")
    pairs = [(_first(test, "stdin", "input"), _first(test, "expected", "expected_output", "output")) for test in tests]
    names = {name for test in tests if (name := _inner_name(test))}
    functional = kinds & {"functional", "function_call"} or names
    name = next(iter(names), None) or (fn_name if functional or not kinds else None)
    if len(names) > 1:
        raise UnusableRow("unusable tests: they call several functions; keep one function a row")
    if functional and not name:
        raise UnusableRow("unusable tests: they call a function that nothing names; give `fn_name`")
    return Tests(_cases(pairs, bool(name)), name)


def _first(test: Row, *names: str) -> Any:
    return next((test[name] for name in names if test.get(name) is not None), None)


def _inner_name(test: Row) -> str | None:
    metadata = test.get("metadata")
    name = test.get("fn_name") or (metadata.get("func_name") if isinstance(metadata, dict) else None)
    return name if isinstance(name, str) else None


def _paired(inputs: Any, outputs: Any, fn_name: Any) -> Tests:
    inputs, outputs = _in_order(inputs), _in_order(outputs)
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise UnusableRow("unusable tests: there must be as many `outputs` as `inputs`")
    name = fn_name if isinstance(fn_name, str) and fn_name.strip() else None
    return Tests(_cases(list(zip(inputs, outputs, strict=True)), name is not None), name)


def _in_order(values: Any) -> Any:
    """A list that JSON has as an object of whole numbers, `{"0": ..., "1": ...}`, as the list it is."""
    if isinstance(values, dict) and values and all(re.fullmatch(r"[0-9]{1,18}", str(key)) for key in values):
        return [values[key] for key in sorted(values, key=int)]
    return values


def _cases(pairs: list[tuple[Any, Any]], calls: bool) -> list[dict[str, str]]:
    if not calls:
        return [{"stdin": _lines(given), "expected": _lines(wanted)} for given, wanted in pairs]
    # APPS and TACO wrap the result in a list of one, on all cases of a row or on none
    wrapped = all(isinstance(given, list) and isinstance(wanted, list) and len(wanted) == 1 for given, wanted in pairs)
    return [
        {"stdin": _arguments(given), "expected": _result(wanted[0] if wrapped else wanted, isinstance(given, list))}
        for given, wanted in pairs
    ]


def _lines(value: Any) -> str:
    """What a program reads or prints: a text, a number, or a list of lines."""
    if isinstance(value, list):
        return "\n".join(map(_lines, value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnusableRow("unusable tests: an input or expected output is missing or not text")
    return str(value)


def _arguments(value: Any) -> str:
    """A call: one JSON argument a line. A text is that already (LiveCodeBench)."""
    if isinstance(value, list):
        return "\n".join(map(json.dumps, value))
    if not isinstance(value, str) or not all(map(_is_json, filter(str.strip, value.splitlines()))):
        raise UnusableRow("unusable tests: a function's input must be the list of its arguments")
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _result(value: Any, plain: bool) -> str:
    """A result as JSON. plain: it stands as a value beside its arguments; else it is JSON text already."""
    if value is None and not plain:
        raise UnusableRow("unusable tests: an input or expected output is missing or not text")
    return value if isinstance(value, str) and not plain else json.dumps(value)


def _unpacked(text: str) -> Any:
    """JSON in a text, or base64 of zlib of a pickled JSON text (LiveCodeBench).

    The pickle is a file from outside: only a text may come out of it, so nothing that it names is ever imported, and
    what it unpacks to is bounded.
    """
    if not text.strip():
        return None
    if text.lstrip()[0] in "[{":
        if isinstance(value := parsed(text), str):
            raise UnusableRow("unusable tests: the column is not JSON; mend or delete the row")
        return value
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), MAX_UNPACKED)
        if not inflate.eof and not inflate.unconsumed_tail:
            raise UnusableRow("unusable tests: the packed tests are cut off; download the file again")
        if inflate.unconsumed_tail:
            raise UnusableRow(f"unusable tests: unpacked they are larger than {MAX_UNPACKED >> 20} MiB")
        inside = _TextOnly(io.BytesIO(data)).load()
        return json.loads(inside)
    except UnusableRow:
        raise
    except Exception as error:
        raise UnusableRow("unusable tests: the packed tests are damaged; download the file again") from error


class _TextOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the packed tests ask for {module}.{name}; only text is read from them")


# ---- limits

SECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*(m?)s?(?:ec(?:ond)?s?)?", re.I)
TOLERANCE = re.compile(
    r"(?:absolute|relative)\b[^.\n]{0,30}\berror\b[^.\n]{0,90}?(?:10\s*\^?\s*\{?\s*[-−–]\s*(?P<power>\d{1,2})\s*\}?"
    r"|1[eE]-0?(?P<exponent>\d{1,2})|0\.(?P<zeros>0+)1\b)",
    re.I,
)


def seconds_of(value: Any) -> float | None:
    """A time limit in seconds: a number, `2.0 seconds`, `1500 ms`, or CodeContests' `{seconds, nanos}`."""
    if isinstance(value, dict):
        value = (positive(value.get("seconds")) or 0) + (positive(value.get("nanos")) or 0) / 1e9
    if isinstance(value, str) and (match := SECONDS.match(value.strip())):
        value = float(match[1]) / (1000 if match[2] else 1)
    return positive(value)


def positive(value: Any) -> float | None:
    """A number above zero that a float can hold, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < sys.float_info.max else None


def tolerance_in(statement: str) -> float | None:
    """How far a printed number may be off, where the statement allows an absolute or relative error."""
    match = TOLERANCE.search(statement.replace("$", ""))
    if match is None:
        return None
    power = match["power"] or match["exponent"] or (len(match["zeros"]) + 1 if match["zeros"] else None)
    return float(f"1e-{int(power)}") if power is not None else None


# ---- what a value looks like


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_answer(value: Any) -> bool:
    """Short enough to be held against: a number, a short text, or a list of such."""
    if isinstance(value, list):
        return 0 < len(value) <= 20 and all(isinstance(one, str | int | float) and _is_answer(one) for one in value)
    if isinstance(value, str):
        return 0 < len(value.strip()) <= LONGEST_ANSWER
    return isinstance(value, int | float)


def _are_tests(value: Any) -> bool:
    """Whether a value has the layout of tests, good or bad ones. A packed text is not opened for it."""
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, dict):
        return {"inputs", "outputs"} <= value.keys() or {"input", "output"} <= value.keys() or are_asserts(value)
    layouts = ({"input", "output"}, {"stdin", "expected"})
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(test, dict) and any(layout & test.keys() for layout in layouts) for test in value)
    )


def listed(value: Any) -> list[str] | None:
    """A list of texts, also as the JSON or Python that a table of texts has of it; None: it is something else."""
    if isinstance(value, str):
        value = parsed(value)
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None


LOOKS: dict[str, Callable[[Any], bool]] = {
    "anything": lambda value: True,
    "text": _is_text,
    "short text": lambda value: _is_text(value) and len(value) <= LONGEST_ANSWER,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "level": lambda value: isinstance(value, int | float) or (_is_text(value) and len(value) <= 40),
    "answer": _is_answer,
    "list of texts": lambda value: listed(value) is not None,
    "object": lambda value: isinstance(parsed(value) if isinstance(value, str) else value, dict),
    "JSON list": lambda value: isinstance(value, str) and isinstance(parsed(value), list),
    "chat": is_chat,
    "statement": lambda value: _is_text(value) or is_chat(value),
    "tests": _are_tests,
    "JSON of tests": lambda value: isinstance(value, str) and _are_tests(value),
    "boxed": lambda value: isinstance(value, str) and last_boxed(value) is not None,
    "####": lambda value: isinstance(value, str) and split_final_answer(value)[1] is not None,
    "think": lambda value: isinstance(value, str) and "</think>" in value,
    "blocks": lambda value: isinstance(value, str) and "<!-- BEGIN PROBLEM -->" in value,
    "prompt of a generator": lambda value: (
        isinstance(value, str) and "Concepts:" in value and "Difficulty Level:" in value
    ),
    "DAPO's instruction": lambda value: (
        is_chat(value) and "of the form Answer:" in (asked_and_answered(value)[0] or "")
    ),
}
