"""Anybody's file of results: who answered which question, and whether it was right.

Columns are recognised by their usual names and by what stands in them. One row is one answer of one system, or one
question with the list of all its answers' marks; or every system is a column of its own. Belongs here: what a mark, a
question and a system look like in such files. Does not belong here: opening files (corpus/sources.py), arithmetic
(statistics.py).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from promptcot_assets.stages.corpus.sources import Broken, Row, SeedError, open_source
from promptcot_assets.stages.corpus.values import lookup, parsed, spelled

SAMPLE = 256  # rows that columns are recognised by
SHARE = 0.5  # of a column's values that must look like what its name says, at least
LONGEST_MARKS = 1 << 16  # generations of one question in one row

# What files call a column, the likelier name first.
NAMES = {
    "question": ("question_id", "item_id", "problem_id", "task_id", "doc_id", "example_id", "sample_id", "instance_id",
                 "qid", "uid", "idx", "index", "id", "question", "problem", "prompt", "input"),
    "system": ("system", "model", "model_name", "model_id", "model_name_or_path", "method", "run", "checkpoint",
               "stage", "policy"),
    "correct": ("correct", "is_correct", "passed", "pass", "is_pass", "success", "solved", "resolved", "acc",
                "accuracy", "exact_match", "graded_list", "graded", "correctness", "score", "scores", "reward",
                "rewards", "result", "results", "verdict", "grade", "judgement", "judgment"),
    "benchmark": ("benchmark", "dataset", "data_source", "data_name", "task", "task_name", "subset"),
    "attempt": ("attempt", "trial", "epoch", "repeat", "sample_index", "generation_index", "rollout_index"),
}  # fmt: skip
RIGHT = {"true", "yes", "pass", "passed", "correct", "right", "c", "resolved", "solved", "success", "accepted"}
WRONG = {"false", "no", "fail", "failed", "incorrect", "wrong", "i", "unresolved", "unsolved", "failure"}
SURE = {"true", "false", "0", "1"}  # marks whatever their column is called
ONE = "all"  # the benchmark, or system, of a file that names none


class ResultsError(ValueError):
    """A file of results that cannot be scored: names the file, the row or column, and the mend."""


@dataclass
class Results:
    """Marks in [0, 1] by benchmark, system and question, in the order of the files."""

    marks: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)  # file -> ours -> theirs
    rows: int = 0
    not_judged: int = 0  # answers whose mark is null: no verdict, neither right nor wrong


@dataclass(frozen=True)
class _Mark:
    """One row's marks, and where they stand."""

    benchmark: str
    system: str | None
    question: str
    attempt: str | None
    marks: tuple[float, ...]
    place: str


def read_results(files: Sequence[str | Path], columns: Mapping[str, str] | None = None) -> Results:
    """The marks of all files together.

    columns: ours (a key of `NAMES`) -> theirs, a path such as `scores.match.value`; for the rest names are recognised.
    Where a file names no system it is one; where two files have answers of one system to the same question, as two runs
    of a model, each file is a system of its own.

    Raises: ResultsError naming file, row and column, with the mend.
    """
    if unknown := sorted(set(columns or {}) - NAMES.keys()):
        raise ResultsError(f"there is no column {unknown[0]!r} to map; there are {', '.join(NAMES)}")
    found, read = Results(), {}
    for file in dict.fromkeys(map(str, files)):
        if "://" not in file and not file.startswith("hf:") and not _is_there(file):
            raise ResultsError(f"{file}: no such file; check the path")
        read[file] = list(_marks(file, columns or {}, found))
        if not read[file]:
            raise ResultsError(f"{file}: not one row has a mark; give a file with a row for every answer")
    names = _names_of(list(read))
    apart = _overlap(read)
    for file, marks in read.items():
        several = len({one.system for one in marks}) > 1
        for one in marks:
            system = one.system or names[file]
            if apart and one.system is not None:
                system = f"{names[file]}/{one.system}" if several else names[file]
            own = found.marks.setdefault(one.benchmark, {}).setdefault(system, {})
            own.setdefault(one.question, []).extend(one.marks)
    return found


def _is_there(file: str) -> bool:
    try:
        return Path(file).exists()
    except OSError:  # a name that no file can have
        return False


def _names_of(files: Sequence[str]) -> dict[str, str]:
    """What to call each file: its name without the ending, the whole path where two have the same."""
    stems = {file: Path(file).name.split(".")[0] or file for file in files}
    twice = {name for name, count in Counter(stems.values()).items() if count > 1}
    return {file: file if stem in twice else stem for file, stem in stems.items()}


def _overlap(read: Mapping[str, Sequence[_Mark]]) -> bool:
    """Whether two files have answers of one system to one question."""
    seen: dict[tuple[str, str | None, str], str] = {}
    return any(
        one.system is not None and seen.setdefault((one.benchmark, one.system, one.question), file) != file
        for file, marks in read.items()
        for one in marks
    )


def _marks(file: str, mapped: Mapping[str, str], found: Results) -> Iterator[_Mark]:
    try:
        rows = _checked_rows(file)
        sample = list(islice(rows, SAMPLE))
        if not sample:
            raise ResultsError(f"{file}: it is empty; give a file with a row for every answer")
        form = _Form(file, [row for _, row in sample], mapped)
        found.columns[file] = form.used
        seen: dict[tuple[str, ...], str] = {}
        for place, row in (*sample, *rows):
            found.rows += 1
            for one in form.read(place, row):
                if one.attempt is not None:
                    key = (one.benchmark, one.system or "", one.question, one.attempt)
                    if key in seen:
                        raise ResultsError(
                            f"{place}: attempt {one.attempt} of question {one.question!r} stands in {seen[key]} too; "
                            f"leave one of them out, or name the column that tells them apart"
                        )
                    seen[key] = place
                if one.marks:
                    yield one
                found.not_judged += form.nulls
    except SeedError as error:
        raise ResultsError(str(error)) from error


def _checked_rows(file: str) -> Iterator[tuple[str, Row]]:
    for name, number, row in open_source(file):
        place = f"{name}, row {number}"
        if isinstance(row, Broken):
            raise ResultsError(f"{place}: {row.reason}")
        yield place, row


class _Form:
    """Which columns of one file are what, and a row read by them."""

    def __init__(self, file: str, sample: Sequence[Row], mapped: Mapping[str, str]) -> None:
        self.file, self.mapped = file, mapped
        self.columns = list(dict.fromkeys(name for row in sample for name in row))
        self.nulls = 0  # of the row read last
        self.wide: list[str] = []  # columns that are systems
        question = self._column("question", sample, _is_name)
        if question is None:
            raise self._unknown("question", sample)
        self.used = {"question": question}
        if (system := self._system(sample)) is not None:
            self.used["system"] = system
        self._know_marks(sample)
        for ours in ("benchmark", "attempt"):
            column = self._column(ours, sample, _is_name)
            if column is not None and (ours in mapped or _tells(ours, sample, column, question)):
                self.used[ours] = column

    def read(self, place: str, row: Row) -> Iterator[_Mark]:
        question = self._name(place, row, "question")
        if question is None:
            raise ResultsError(
                f"{place}: column {self.used['question']!r} is empty; every answer needs the question that it is of"
            )
        benchmark, system, attempt = (self._name(place, row, one) for one in ("benchmark", "system", "attempt"))
        for column in self.wide or [self.used["correct"]]:
            marks, self.nulls = _marks_of(f"{place}: column {column!r}", lookup(row, column))
            own = column if self.wide else system
            yield _Mark(benchmark or ONE, own, question, attempt, marks, place)

    def _name(self, place: str, row: Row, ours: str) -> str | None:
        if ours not in self.used:
            return None
        value = lookup(row, self.used[ours])
        if value is not None and not _is_name(value):
            kind = type(value).__name__
            raise ResultsError(
                f"{place}: column {self.used[ours]!r} is a {kind}; a {ours} is named by text or a number"
            )
        return None if value is None else _text(value) or None

    def _column(self, ours: str, sample: Sequence[Row], looks_right: Any) -> str | None:
        """The column that was mapped, else the first of the usual names whose values look right."""
        if ours in self.mapped:
            if all(lookup(row, self.mapped[ours]) is None for row in sample):
                raise ResultsError(
                    f"{self.file}: no row has a column {self.mapped[ours]!r}, which is to be the {ours}; "
                    f"it has {', '.join(self.columns)}"
                )
            return self.mapped[ours]
        for name in NAMES[ours]:
            column = spelled(self.columns, name)
            if column is not None and _share(sample, column, looks_right) >= SHARE:
                return column
        return None

    def _system(self, sample: Sequence[Row]) -> str | None:
        """Of the columns that may name systems the first that tells some apart, else the first."""
        if "system" in self.mapped:
            return self._column("system", sample, _is_name)
        may = [column for name in NAMES["system"] if (column := spelled(self.columns, name)) is not None
               and _share(sample, column, _is_name) >= SHARE]  # fmt: skip
        several = [column for column in may if len({str(row.get(column)) for row in sample}) > 1]
        return next(iter(several or may), None)

    def _know_marks(self, sample: Sequence[Row]) -> None:
        """A column of marks by its name; else the only one that holds nothing else; else each such one a system."""
        column = self._column("correct", sample, _is_mark)
        if column is not None:
            self.used["correct"] = column
            return
        other = (spelled(self.columns, name) for ours in ("benchmark", "attempt") for name in NAMES[ours])
        taken = {*self.used.values(), *other}
        may = [one for one in self.columns if one not in taken and _share(sample, one, _is_sure_mark) == 1.0]
        if len(may) == 1:
            self.used["correct"] = may[0]
        elif may and "system" not in self.used:
            self.wide = may
            self.used["systems"] = ", ".join(may)
        else:
            raise self._unknown("correct", sample)

    def _unknown(self, ours: str, sample: Sequence[Row]) -> ResultsError:
        has = "; ".join(f"{name}: {ascii(sample[0].get(name))[:40]}" for name in self.columns[:20])
        what = "names the question" if ours == "question" else "says whether an answer is right"
        return ResultsError(
            f"{self.file}: no column {what}; name it with --column {ours}=THEIRS. The first row has {has}"
        )


def _share(sample: Sequence[Row], column: str, looks_right: Any) -> float:
    values = [value for row in sample if (value := row.get(column)) is not None]
    return sum(map(bool, map(looks_right, values))) / len(values) if values else 0.0


def _tells(ours: str, sample: Sequence[Row], column: str, question: str) -> bool:
    """Whether a column can be what its name says: several questions a benchmark, more than one attempt."""
    values = {str(row.get(column)) for row in sample}
    if ours == "attempt":
        return len(values) > 1
    asked = {(str(row.get(column)), str(lookup(row, question))) for row in sample}
    return column != question and 2 * len(values) <= len(asked)


def _is_name(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, str | int | float) and value == value and value != ""


def _text(value: str | int | float) -> str:
    """3 for 3.0 and "3": a table may hold numbers where a file of lines has texts."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _is_mark(value: Any) -> bool:
    return _mark(value) is not None or (isinstance(found := _list_of(value), list) and all(map(_can_be_mark, found)))


def _is_sure_mark(value: Any) -> bool:
    """A mark whatever the column is called: true, false, 0, 1, or a list of these; in a CSV all of them are texts."""
    found = _list_of(value)
    values = found if isinstance(found, list) else [value]
    return bool(values) and all(
        one.strip().lower() in SURE if isinstance(one, str) else isinstance(one, int) and one in (0, 1)
        for one in values
    )


def _can_be_mark(value: Any) -> bool:
    return value is None or _mark(value) is not None


def _list_of(value: Any) -> Any:
    return parsed(value) if isinstance(value, str) and value.lstrip().startswith("[") else value


def _mark(value: Any) -> float | None:
    """Of a mark its share of right in [0, 1]; None for what is none."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in RIGHT or text in WRONG:
            return float(text in RIGHT)
        try:
            value = float(text)
        except ValueError:
            return None
    if isinstance(value, bool | int | float) and 0 <= value <= 1:  # neither NaN nor a number beyond all floats
        return float(value)
    return None


def _marks_of(place: str, value: Any) -> tuple[tuple[float, ...], int]:
    """The marks of a value and how many of its answers have none."""
    found = _list_of(value)
    values = found if isinstance(found, list) else [None if value == "" else value]
    if len(values) > LONGEST_MARKS:
        raise ResultsError(f"{place} has {len(values):,} marks; at most {LONGEST_MARKS:,} of one question are read")
    marks = []
    for one in values:
        if one is None or (isinstance(one, float) and math.isnan(one)):
            continue
        if (mark := _mark(one)) is None:
            raise ResultsError(
                f"{place} is {ascii(one)[:60]}; a mark is true or false, or a score between 0 and 1 (divide one out of "
                "100), or empty where nothing was judged"
            )
        marks.append(mark)
    return tuple(marks), len(values) - len(marks)


def shared_questions(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Questions that both have, in the order of the first."""
    return [question for question in first if question in second]


def generations_of(questions: Iterable[Sequence[float]]) -> dict[int, int]:
    """Generations -> how many questions have so many."""
    counts: defaultdict[int, int] = defaultdict(int)
    for marks in questions:
        counts[len(marks)] += 1
    return dict(sorted(counts.items()))
