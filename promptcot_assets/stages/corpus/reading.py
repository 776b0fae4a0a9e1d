"""A file of problems as rows of one shape, whatever its form: what `corpus.files` and `benchmarks.files` are read by.

Belongs here: recognising a form (forms.py) by a sample of the file, and turning each raw row into one of ours. Does not
belong here: files and hubs (sources.py), the spelling of a value (values.py), ids (made where rows are committed).

A row as it is read:

| key | type | meaning |
|---|---|---|
| `problem` | str | the statement alone, wrapper stripped |
| `answer`, `solution`, `rationale`, `level` | str or None | the answer without its box; the others as given |
| `tests` | list of `{stdin, expected}` or None | of a function: one JSON argument a line, a JSON result |
| `fn_name` | str or None | the function to call |
| `concepts` | list of str | empty when not annotated |
| `domain` | `maths`, `code` or None | what the source says it is, or what it can be judged by |
| `cpu_s`, `float_tolerance` | float or None | how a program is judged: time limit in seconds, error that is allowed |
| `checker`, `judge_profile` | str or None | program that judges outputs; `lcb`: LiveCodeBench's rule of equality |
| `contest`, `points`, `sample_tests` | str, float, bool or None | what a Codeforces Elo needs |
| `date` | str or None | ISO date of the contest, for a window of dates |
| `source`, `row` | str, int | file name (or address) and line number from 1: where to look |
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import parse_completion
from promptcot_assets.stages.corpus import values
from promptcot_assets.stages.corpus.forms import BY_NAME, FORMS, Form
from promptcot_assets.stages.corpus.sources import Broken, SeedError, open_files
from promptcot_assets.stages.corpus.values import Row, UnusableRow, lookup
from promptcot_assets.text.wrappers import strip_wrapper

SAMPLE = 256  # raw rows that a form is recognised by
SHARE = 0.5  # of a column's values that must look like what a form says they are
COLUMNS = ("problem", "answer", "solution", "tests", "fn_name", "concepts", "rationale", "level", "domain",
           "checker", "float_tolerance", "cpu_s", "judge_profile", "contest", "points", "sample_tests",
           "date")  # fmt: skip
LOOKS_LIKE = {"problem": "statement", "answer": "answer", "tests": "tests", "concepts": "list of texts",
              "rationale": "text", "level": "level"}  # fmt: skip
CODE_WORDS = re.compile(r"cod(?:e|ing)|program|leetcode|taco|\bapps\b|atcoder|usaco|humaneval|mbpp|python", re.I)
MATHS_WORDS = re.compile(r"math|aime|\bamc|gsm|olymp|hmmt|numina|deepscaler|algebra|geometry|aops|theorem", re.I)
LIKE_AN_ANSWER = re.compile(r"answer|truth|gold|target|label|final|result|solution|correct|\bkey\b", re.I)
LIKE_TESTS = re.compile(r"test|input_output|cases|examples", re.I)


@dataclass
class Reading:
    """What a source gives, row by row as it is iterated: kept rows; the others are in `dropped`, counted and listed.

    dropped: `{source, row, reason, problem}` of at most `keep_dropped` rows; reasons counts all of them.
    """

    source: str
    form: Form | None = None  # of the file at hand
    forms: list[str] = field(default_factory=list)  # names of all forms that its files have
    reasons: Counter[str] = field(default_factory=Counter)
    dropped: list[Row] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    columns: dict[str, None] = field(default_factory=dict)  # of the sample, in their order
    raw_rows: int = 0
    of_another_domain: int = 0  # of those that fell
    keep_dropped: int | None = None
    warnings: list[str] = field(default_factory=list)  # once all is read: what nothing was read of, and the mend

    @property
    def unused(self) -> list[str]:
        """Columns of the sample that nothing was read from and that no rule of the form looks at."""
        known = {path.split(".")[0] for paths in self.used.values() for path in paths.split(", ")}
        known |= {path.split(".")[0] for form in FORMS if form.name in self.forms for path in form.looked_at}
        return [name for name in self.columns if name not in known]

    def drop(self, name: str, number: int, reason: str, raw: Any = None, domain: str | None = None) -> None:
        self.reasons[reason] += 1
        if self.keep_dropped is None or len(self.dropped) < self.keep_dropped:
            problem = (
                next((raw[c] for c in BY_NAME.paths("problem") if raw.get(c)), None) if isinstance(raw, dict) else raw
            )
            self.dropped.append(
                {"source": name, "row": number, "reason": reason, "problem": ascii(problem)[:200]}
                | ({"domain": domain} if domain else {})
            )


def read_seeds(
    source: str | Path,
    limit: int | None = None,
    *,
    domain: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
) -> tuple[list[Row], list[Row]]:
    """Read problems of `source` into the shape above: `(rows, dropped)`.

    source: what sources.py opens. limit: reading stops after so many kept rows. domain: of a mix of maths and code only
    its part is read. columns: ours -> theirs, for a shape that no form knows. where: an SQL condition on their columns.
    `dropped` holds `{source, row, reason, problem}` for every row that fell.

    Raises: SeedError on an absent or empty source, on a shape that is not known, and on a mapped column that is
    missing.
    """
    if limit is not None and limit < 1:
        raise SeedError(f"limit={limit}: must be at least 1, or None to read everything")
    reading = Reading(str(source))
    rows = list(itertools.islice(read(reading, domain=domain, columns=columns, where=where), limit))
    return rows, reading.dropped


def read(
    reading: Reading,
    *,
    domain: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
) -> Iterator[Row]:
    """The rows of `reading.source`, streaming; `reading` learns the form, what fell and what was used.

    Raises: SeedError as `read_seeds`.
    """
    files = open_files(reading.source, where)
    counts: dict[str, _Counted] = {}  # by form
    refused: SeedError | None = None
    for rows in files:
        sample = list(itertools.islice(rows, SAMPLE))
        good = [raw for _, _, raw in sample if isinstance(raw, dict)]
        for raw in good:
            reading.columns |= dict.fromkeys(raw)
        known = False  # whether this file's form is
        for name, number, one in itertools.chain(sample, rows):
            reading.raw_rows += 1
            if isinstance(one, Broken):
                reading.drop(name, number, one.reason, one.text)
                continue
            if not known:
                try:
                    _know_form(reading, good or [one], columns)
                except SeedError as error:  # beside other files it costs its rows
                    if len(files) == 1 or columns:
                        raise
                    refused = error
                    reading.drop(name, number, str(error).removeprefix(f"{reading.source}: "), one)
                    continue
                known = True
            if (row := _row_or_none(reading, name, number, one, domain)) is not None:
                assert reading.form is not None
                counts.setdefault(reading.form.name, _Counted(good)).add(row)
                yield row | {"source": name, "row": number}
    if not reading.raw_rows:
        among = f" where {where}" if where else ""
        raise SeedError(f"{reading.source}: holds no rows{among}; give one problem a line")
    if refused and reading.form is None:
        raise refused
    for counted in counts.values():
        if not counted.judgeable:
            reading.warnings += _zeros(reading, counted.kept, counted.sample)


@dataclass
class _Counted:
    """Rows of one form: those kept, those with an answer or tests, and some raw ones to look for either."""

    sample: list[Row]
    kept: int = 0
    judgeable: int = 0

    def add(self, row: Row) -> None:
        self.kept += 1
        self.judgeable += row["answer"] is not None or row["tests"] is not None


def _row_or_none(reading: Reading, name: str, number: int, raw: Row, domain: str | None) -> Row | None:
    """The row, if it stays; what falls is noted."""
    assert reading.form is not None
    try:
        row = row_of(reading.form, raw, reading.used)
        if (other := _of_another_domain(row, domain)) is not None:
            reading.of_another_domain += 1
            reading.drop(name, number, other, raw, row["domain"])
            return None
        _check_encodable(row)
    except UnusableRow as reason:
        reading.drop(name, number, str(reason), raw)
    except RecursionError:
        reading.drop(name, number, "a value is nested too deep; mend or delete the row", raw)
    else:
        return row
    return None


# ---- forms


def _know_form(reading: Reading, sample: Sequence[Row], columns: Mapping[str, str] | None) -> None:
    """The form of the file at hand: the one written down, the one of the file before where it fits, or anew."""
    if columns:
        form = reading.form or mapped(columns, sample, reading.source)
    elif reading.form is None or reading.form.name == BY_NAME.name or not _is_of(reading.form, sample):
        form = recognised(sample, reading.source)
    else:
        form = reading.form
    reading.form = form
    if form.name not in reading.forms:
        reading.forms.append(form.name)


def _is_of(form: Form, sample: Sequence[Row]) -> bool:
    return all(_bears(sample, paths, look) for paths, look in form.evidence.items())


def recognised(sample: Sequence[Row], source: str) -> Form:
    """The first form whose evidence the sample bears; of columns that are known by their names alone, those that the
    sample's values do not speak against.

    Raises: SeedError naming the columns when there is none.
    """
    for form in FORMS:
        if _is_of(form, sample):
            if form is not BY_NAME:
                return form
            kept = {}
            for role in form.columns:
                ours, *others = form.paths(role)  # a column that has our name is ours: what is wrong in it is a fault
                kept[role] = (ours, *(path for path in others if _may_hold(sample, role, path)))
            return replace(form, columns=kept)
    names = ", ".join(dict.fromkeys(path for raw in sample for path in _paths(raw))) or "none"
    raise SeedError(
        f"{source}: no column holds a problem among: {names}; say which one does, "
        "as {source: ..., columns: {problem: THEIRS, answer: THEIRS}}"
    )


def _paths(raw: Row) -> Iterator[str]:
    """Names of the columns; of an object, those inside it, as a mapping by hand takes them."""
    for name, value in raw.items():
        if isinstance(value, dict) and 0 < len(value) <= 20:
            yield from (f"{name}.{inside}" for inside in value)
        else:
            yield name


def mapped(columns: Mapping[str, str], sample: Sequence[Row], source: str) -> Form:
    """A form that a person wrote down: ours -> theirs.

    Raises: SeedError naming a role that is not known or a column that is missing.
    """
    roles = (*BY_NAME.columns, "context", "details", "checker")
    if unknown := sorted(columns.keys() - set(roles)):
        raise SeedError(f"{source}: columns: {', '.join(unknown)}: not one of ours; ours are {', '.join(roles)}")
    if "problem" not in columns:
        raise SeedError(f"{source}: columns names no `problem`; name the column that holds the statement")
    there = dict.fromkeys(name for raw in sample for name in raw)
    for ours, theirs in columns.items():
        if values.spelled(there, theirs.split(".")[0]) is None:
            raise SeedError(f"{source}: columns.{ours}: no column {theirs!r} among: {', '.join(there)}")
    return Form("mapped by hand", dict(columns), {})


def _bears(sample: Sequence[Row], paths: str, look: str) -> bool:
    """Whether values of one of the columns look as they must; at least half of those there are, and at least one."""
    found = [[value for raw in sample if _filled(value := lookup(raw, path))] for path in paths.split("|")]
    if look == "nothing":
        return not any(found)
    return any(one and _share(one, look) >= SHARE for one in found)


def _may_hold(sample: Sequence[Row], role: str, path: str) -> bool:
    """Whether nothing speaks against a column as the holder of a role: no value yet, or values of the right look."""
    if role not in LOOKS_LIKE:
        return True
    found = [value for raw in sample if _filled(value := lookup(raw, path))]
    if role == "answer":  # a long text is a solution, which the reader tells
        found = [value for value in found if not isinstance(value, str)]
    return not found or _share(found, LOOKS_LIKE[role]) >= SHARE


def _share(found: Sequence[Any], look: str) -> float:
    return sum(values.LOOKS[look](value) for value in found) / len(found)


def _filled(value: Any) -> bool:
    return value is not None and value != "" and value != [] and value != {}


# ---- one row


@dataclass
class _Columns:
    """The values of a row by role. `used` learns which column each value came from."""

    form: Form
    raw: Row
    used: dict[str, str]

    def value(self, role: str) -> Any:
        return next(self._filled(role), None) if role in self.form.columns else None

    def every(self, role: str) -> list[Any]:
        return list(self._filled(role))

    def _filled(self, role: str) -> Iterator[Any]:
        for path in self.form.paths(role):
            if _filled(value := lookup(self.raw, path)):
                self.note(role, path)
                yield value

    def note(self, role: str, path: str) -> None:
        first, dot, rest = path.partition(".")
        spelled = (values.spelled(self.raw, first) or first) + dot + rest
        known = self.used.get(role)
        if known is None:
            self.used[role] = spelled
        elif spelled not in known.split(", "):
            self.used[role] = f"{known}, {spelled}"

    def text(self, role: str) -> str | None:
        return values.text_of(self.value(role), role)


def row_of(form: Form, raw: Row, used: dict[str, str] | None = None) -> Row:
    """One raw row in the shape above, less `source` and `row`.

    Raises: UnusableRow when this row must fall.
    """
    _refuse(form, raw)
    columns = _Columns(form, raw, {} if used is None else used)
    statement, reply, block = _statement(columns)
    problem = strip_wrapper(statement or "")
    if not problem:
        raise UnusableRow("empty problem")
    answer, solution = _answer_and_solution(columns, reply)
    tests = _tests(columns)
    if columns.value("truth") is not None:
        answer, tests = _truth(columns, answer, tests)
    if form.needs_answer and answer is None:
        raise UnusableRow(form.needs_answer)
    complete = columns.value("complete")
    sampled = None if "complete" not in form.columns else not complete or not lookup(raw, form.paths("tests")[0])
    return {
        "problem": _with_parts(columns, problem),
        "answer": answer,
        "solution": None if solution == answer else solution,
        "tests": tests.cases if tests else None,
        "fn_name": tests.fn_name if tests else None,
        "concepts": _concepts(columns, block),
        "rationale": block.rationale if block else columns.text("rationale"),
        "level": block.level if block else columns.text("level"),
        "domain": _kind(columns, tests),
        "checker": columns.text("checker") if form.columns.get("checker") else None,
        "float_tolerance": values.tolerance_in(problem) if tests else None,
        "cpu_s": values.seconds_of(columns.value("cpu_s")),
        "judge_profile": form.judge_profile if tests else None,
        "contest": _name(columns.value("contest")),
        "points": values.positive(columns.value("points")),
        "sample_tests": sampled,
        "date": _date(columns.value("date")),
    }


def _refuse(form: Form, raw: Row) -> None:
    if form.refused:
        raise UnusableRow(form.refused)
    for column, reason in form.absent.items():
        if _filled(value := lookup(raw, column)) and value is not False:
            raise UnusableRow(reason)
    for column, (allowed, reason) in form.only.items():
        value = lookup(raw, column)
        if value is not None and _lower(value) not in allowed:
            raise UnusableRow(reason)
    for column, (refused, reason) in form.never.items():
        if _lower(lookup(raw, column)) in refused:
            raise UnusableRow(reason)


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value if not isinstance(value, list | dict) else None


@dataclass(frozen=True)
class _Generated:
    """What a generator was asked for and wrote."""

    rationale: str | None
    concepts: list[str]
    level: str | None


def _statement(columns: _Columns) -> tuple[str | None, str | None, _Generated | None]:
    """`(statement, the model's reply in a chat, what a generator wrote)`."""
    if (completion := columns.text("generated")) is not None:
        block = parse_completion(completion, finished=True)
        if block.problem is None:
            raise UnusableRow(f"not a completion of a generator: {block.drop_reason}")
        prompt = columns.text("asked_for") or ""
        concepts = re.findall(r"^\s*\d+\.\s+(.+?)\s*$", prompt.partition("Concepts:")[2], re.M)
        level = re.search(r"Difficulty Level:\s*([^\n<]+)", prompt)
        written, asked = columns.used.pop("generated"), columns.used.pop("asked_for", None)
        columns.used |= {"problem": written, "rationale": written} | (
            {"concepts": asked, "level": asked} if asked else {}
        )
        return block.problem, None, _Generated(block.rationale, concepts, level[1].strip() if level else None)
    value = columns.value("problem")
    if isinstance(value, str) and value.startswith("[{"):
        value = values.parsed(value)
    if values.is_chat(value):
        statement, reply = values.asked_and_answered(value)
        if reply:
            columns.used.setdefault("solution", columns.used["problem"])
        return statement, reply, None
    if value is not None and not isinstance(value, str):
        raise UnusableRow(f"the problem is a {type(value).__name__}, not text; write the statement as one string")
    return value.replace("\r\n", "\n") if value else value, None, None


PARTS = (("input_format", "Input"), ("output_format", "Output"))


def _with_parts(columns: _Columns, problem: str) -> str:
    """The statement with what its source keeps in columns of their own."""
    if context := columns.text("context"):
        problem = f"{context}\n\n{problem}"
    if details := columns.text("details"):
        problem = f"{problem}\n\n{details}"
    parts = [problem]
    for role, heading in PARTS:
        if text := columns.text(role):
            parts += [heading, text]
    examples = values.tests_of(columns.every("examples")) if "examples" in columns.form.columns else None
    for example in examples.cases if examples else []:
        parts += ["Example input", example["stdin"].strip(), "Example output", example["expected"].strip()]
    if note := columns.text("note"):
        parts.append(note)
    if starter := columns.text("starter"):
        parts.append(f"Starter code:\n```python\n{starter.rstrip()}\n```")
    return "\n\n".join(part.strip() for part in parts)


def _answer_and_solution(columns: _Columns, reply: str | None) -> tuple[str | None, str | None]:
    """The answer as its column has it, else after the solution's `####`, else in its last box; and the solution."""
    answer, explained = values.answer_of(columns.value("answer"))
    if answer is None and explained and (column := columns.used.get("answer")):
        columns.used.setdefault("solution", column)  # what it is in truth
    given = columns.value("solution")
    if values.is_chat(given):
        given = next((text for turn in reversed(given) if (text := values.content_of(turn))), None)
    solution = values.solution_of(given) or reply or explained
    if not solution:
        return answer, None
    solution, final = values.split_final_answer(solution)
    if final is None and solution and values.is_bare(solution):
        final, solution = solution, None
    if answer is None and (found := final or values.last_boxed(solution or "")):
        answer = values.answer_of(found)[0]
        columns.used.setdefault("answer", columns.used.get("solution", columns.used.get("problem", "")))
    return answer, solution


def _tests(columns: _Columns) -> values.Tests | None:
    name = columns.text("fn_name")
    return values.tests_of(columns.every("tests"), name) or (
        values.tests_of(columns.every("examples"), name) if columns.form.columns.get("tests") else None
    )


def _truth(columns: _Columns, answer: str | None, tests: values.Tests | None) -> tuple[str | None, values.Tests | None]:
    """`answer` and `tests` with what the ground truth of a reward says, which may be either."""
    value, path = columns.value("truth"), columns.used.pop("truth")
    inside = values.parsed(value) if isinstance(value, str) else value
    is_program = (isinstance(inside, dict) and not values.is_wrapped(inside)) or (
        isinstance(inside, list) and bool(inside) and (isinstance(inside[0], dict) or values.are_asserts(inside))
    )
    columns.note("tests" if is_program else "answer", path)
    if is_program:
        return answer, values.tests_of([inside])
    return values.answer_of(inside if isinstance(inside, dict) else value)[0] or answer, tests


def _concepts(columns: _Columns, block: _Generated | None) -> list[str]:
    value = columns.value("concepts")
    if value is None:
        return block.concepts if block else []
    concepts = values.listed(value)
    if concepts is None:
        raise UnusableRow('`concepts` must be a list of strings, as ["ratios", "sums"]')
    return [concept.strip() for concept in concepts if concept.strip()]


def _kind(columns: _Columns, tests: values.Tests | None) -> str | None:
    """`maths` or `code`, as far as the row tells."""
    if tests:
        return "code"
    told = " ".join(str(value) for value in columns.every("kind") if isinstance(value, str))
    if CODE_WORDS.search(told):
        return "code"
    return "maths" if MATHS_WORDS.search(told) else columns.form.domain


def _of_another_domain(row: Row, domain: str | None) -> str | None:
    """Why a row of a mix is not of the domain that is read, or None."""
    if domain is None or row["domain"] is None:
        return None
    wanted = "maths" if domain_named(domain).answers == "maths" else "code"
    return (
        None if row["domain"] == wanted else f"is {row['domain']}, and {domain} is read; read it under {row['domain']}"
    )


def _name(value: Any) -> str | None:
    return None if value in (None, 0, "") else str(value)


def _date(value: Any) -> str | None:
    """A date as ISO has it; a number as large as the seconds since 1970 (Codeforces) is those."""
    if isinstance(value, int | float) and 1e8 < value < 1e11:
        value = datetime.fromtimestamp(value, UTC)
    return value.isoformat() if isinstance(value, date) else _name(value)


def _check_encodable(row: Row) -> None:
    """JSON may smuggle in half of a surrogate pair, which no Parquet file, tokenizer or hash accepts."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UnusableRow("text is not valid Unicode; mend or delete the row") from error


# ---- what is missing


def _zeros(reading: Reading, rows: int, sample: Sequence[Row]) -> list[str]:
    """What nobody should learn from a silent zero: which columns look like the answers and tests that were not read."""
    looks = {"an answer": (LIKE_AN_ANSWER, "answer"), "tests": (LIKE_TESTS, "anything")}
    found = []
    for what, (named, look) in looks.items():
        unread = [
            name for name in reading.unused
            if named.search(name)
            and any(_filled(value := raw.get(name)) and values.LOOKS[look](value) for raw in sample)
        ]  # fmt: skip
        if unread:
            found.append(
                f"0 of {rows} rows have {what}; columns that look like one: {', '.join(unread)}; say which, as "
                "{source: ..., columns: {problem: ..., " + ("answer" if what == "an answer" else "tests") + ": THEIRS}}"
            )
    return [f"{reading.source}: {text}" for text in found]
