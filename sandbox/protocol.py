"""Questions from outside, read and checked: JSON in, our own dataclasses out. One place for both servers.

Whatever a caller sends ends as a value of the right types or as a ValueError that names the field and the mend.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from sandbox.model import Comparison, Limits, Profile, Program, Test

VERSION = 1
PROFILES: tuple[Profile, ...] = get_args(Profile)
T = TypeVar("T")

NUMBER, TEXT, FLAG = {"type": "number"}, {"type": "string"}, {"type": "boolean"}
ITEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A completion and what it is judged by: `answer` for maths, `tests` for a program.",
    "properties": {
        "completion": TEXT | {"description": "What the model wrote, thinking included."},
        "program": TEXT | {"description": "Instead of a completion: the program itself, without fences."},
        "answer": TEXT | {"description": "Maths: the reference answer, LaTeX or plain."},
        "tests": {
            "type": "array",
            "minItems": 1,
            "items": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"stdin": TEXT, "expected": TEXT},
                        "required": ["stdin", "expected"],
                    },
                    {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2},
                ]
            },
            "description": "Programs. With `fn_name`, stdin is one JSON argument a line and expected a JSON value.",
        },
        "fn_name": TEXT | {"description": "The function, or the method of `Solution`, that the tests call."},
        "profile": {"enum": list(PROFILES), "default": "strict"},
        "checker": TEXT | {"description": "Python source that decides where several outputs are right."},
        "float_tolerance": NUMBER | {"minimum": 0, "default": 0},
        "ignore_case": FLAG | {"default": False},
        "cpu_s": NUMBER | {"exclusiveMinimum": 0, "description": "Seconds a test, on the reference host."},
        "wall_s": NUMBER | {"exclusiveMinimum": 0, "description": "Twice cpu_s by default."},
        "memory_mb": NUMBER | {"exclusiveMinimum": 0},
    },
    "oneOf": [{"required": ["answer", "completion"]}, {"required": ["tests"]}],
    "additionalProperties": False,
}
VERDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdict": TEXT
        | {
            "description": "ok, wrong_answer, runtime_error, time_limit, memory_limit, output_limit, compile_error, "
            "no_program; system_error (our failure) and bad_question (the caller's): these two are no verdicts."
        },
        "reward": {"type": ["number", "null"], "description": "1 or 0; null where there is no verdict, never 0."},
        "passed": {"type": ["boolean", "null"]},
        "rule": TEXT | {"description": "What decided."},
        "answer": {"type": ["string", "null"], "description": "Maths: normal form. Programs: the program judged."},
        "reference": {"type": ["string", "null"], "description": "Maths: normal form of the reference."},
        "cpu_s": NUMBER | {"description": "CPU seconds of all tests that ran."},
        "cpu_factor": NUMBER | {"description": "What the limits' seconds were multiplied by on this host."},
        "error": TEXT | {"description": "Only where there is no verdict: why."},
    },
    "required": ["verdict", "reward", "passed", "rule", "answer", "reference"],
}
SCHEMA = {
    "version": VERSION,
    "request": {
        "type": "object",
        "properties": {"version": {"const": VERSION}, "items": {"type": "array", "items": ITEM_SCHEMA}},
        "required": ["items"],
    },
    "response": {
        "type": "object",
        "properties": {"version": {"const": VERSION}, "verdicts": {"type": "array", "items": VERDICT_SCHEMA}},
        "required": ["version", "verdicts"],
    },
}


@dataclass(frozen=True)
class Item:
    """One question of a reward server. `answer` is set for maths, `tests` for programs."""

    completion: str | None
    program: str | None
    answer: str | None
    tests: tuple[Test, ...]
    fn_name: str | None
    profile: Profile
    comparison: Comparison
    limits: Limits | None


def read_json(data: bytes) -> Any:
    """Raises: ValueError for what is no JSON, or nested too deeply to be read."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("the question is nested too deeply") from error


def read_batch(data: bytes) -> list[Any]:
    """The items of a request, themselves unread. Raises: ValueError."""
    batch = expect(read_json(data), dict, "the request")
    if batch.get("version", VERSION) != VERSION:
        raise ValueError(f"this server speaks version {VERSION}, the request {shown(batch['version'])}")
    unknown = set(batch) - {"version", "items"}
    if unknown:
        raise ValueError(f"the request has unknown fields: {', '.join(map(repr, sorted(unknown)))}")
    return expect(batch.get("items"), list, "`items`")


def read_item(raw: Any) -> Item:
    """Raises: ValueError naming the field."""
    item = expect(raw, dict, "an item")
    unknown = set(item) - set(ITEM_SCHEMA["properties"])
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(map(repr, sorted(unknown)))}")
    answer, tests = optional(item, "answer", str), item.get("tests")
    if (answer is None) == (tests is None):
        raise ValueError("an item has either an `answer` (maths) or `tests` (programs)")
    completion, program = optional(item, "completion", str), optional(item, "program", str)
    if completion is None and (program is None or tests is None):
        raise ValueError("an item needs the `completion` that is to be judged")
    checker = optional(item, "checker", str)
    return Item(
        completion,
        program,
        answer,
        () if tests is None else read_tests(tests),
        optional(item, "fn_name", str),
        read_profile(item.get("profile", "strict")),
        Comparison(
            optional(item, "ignore_case", bool) or False,
            float(optional(item, "float_tolerance", float) or 0.0),
            None if checker is None else Program(checker),
        ),
        _item_limits(item),
    )


def _item_limits(item: dict[str, Any]) -> Limits | None:
    asked = {name: optional(item, name, float) for name in ("cpu_s", "wall_s", "memory_mb")}
    if all(value is None for value in asked.values()):
        return None
    usual = Limits()
    cpu_s = usual.cpu_s if asked["cpu_s"] is None else asked["cpu_s"]
    wall_s = 2 * cpu_s if asked["wall_s"] is None else asked["wall_s"]
    memory = usual.memory if asked["memory_mb"] is None else int(asked["memory_mb"] * (1 << 20))
    return Limits(cpu_s, wall_s, memory)


def read_tests(raw: Any) -> tuple[Test, ...]:
    """Tests as objects {stdin, expected} or as pairs."""
    tests = []
    for at, one in enumerate(expect(raw, list, "`tests`")):
        pair = [one.get("stdin"), one.get("expected")] if isinstance(one, dict) else one
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ValueError(f"`tests[{at}]` must have `stdin` and `expected`, both text")
        tests.append(Test(*pair))
    if not tests:
        raise ValueError("`tests` is empty: a program with no tests has no verdict")
    return tuple(tests)


def read_profile(raw: Any) -> Profile:
    if not isinstance(raw, str) or raw not in PROFILES:
        raise ValueError(f"`profile` must be one of {', '.join(PROFILES)}, not {shown(raw)}")
    profile: Profile = raw
    return profile


def read_program(raw: Any) -> Program:
    fields = expect(raw, dict, "`program`")
    prelude = optional(fields, "prelude", bool)
    return Program(expect(fields.get("code"), str, "`code`"), optional(fields, "fn", str), prelude is not False)


def read_limits(raw: Any) -> Limits | None:
    if raw is None:
        return None
    fields = expect(raw, dict, "`limits`")
    whole = {name: optional(fields, name, int) for name in ("memory", "output", "threads")}
    seconds = {name: optional(fields, name, float) for name in ("cpu_s", "wall_s")}
    asked: dict[str, Any] = {**whole, **seconds}
    return Limits(**{name: value for name, value in asked.items() if value is not None})


def read_comparison(raw: Any) -> Comparison:
    fields = expect(raw, dict, "`comparison`")
    checker = fields.get("checker")
    return Comparison(
        optional(fields, "ignore_case", bool) or False,
        float(optional(fields, "float_tolerance", float) or 0.0),
        None if checker is None else read_program(checker),
    )


def read_texts(raw: Any, name: str) -> list[str]:
    return [expect(one, str, f"`{name}[{at}]`") for at, one in enumerate(expect(raw, list, f"`{name}`"))]


def optional(fields: dict[str, Any], name: str, kind: type[T]) -> T | None:
    return None if fields.get(name) is None else expect(fields[name], kind, f"`{name}`")


def expect(value: Any, kind: type[T], what: str) -> T:
    """`value`, if it is of that kind: an integer is a float too, a truth value is no number."""
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        named = {str: "text", dict: "an object", list: "a list", bool: "true or false", int: "a whole number"}
        raise ValueError(f"{what} must be {named.get(kind, 'a number')}, not {shown(value)}")
    return value


def shown(value: Any) -> str:
    """For a message: a list or an object by its kind alone, since it may be of any size and depth."""
    return (
        f"{value!r:.80}" if isinstance(value, str | float | bool | None) else f"a value of type {type(value).__name__}"
    )
