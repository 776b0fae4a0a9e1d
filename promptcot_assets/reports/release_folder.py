"""A released folder, read as what it is: data of strangers. Nothing in it is believed, run or followed.

A release is an exported table (a folder with `data/`), or a folder of several of these. A table is recognised by its
columns. Belongs here: finding and decoding files, and whether a row has the columns and types that its table declares;
one that has not is counted with its fault. Does not belong here: whether what it says is true (release.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.domains import DOMAINS
from promptcot_assets.lake import Row
from promptcot_assets.reports.export import CHATS, TRAINING_COLUMNS
from promptcot_assets.settings.pins import COMMIT
from promptcot_assets.stages.corpus.sources import Broken, SeedError, open_source
from promptcot_assets.stages.corpus.values import is_finite
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS

ADDRESS = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>\w+)")
KINDS = (".parquet", ".jsonl")
MOST_FILES, MOST_ROWS = 10_000, 10_000_000  # of one table
LONGEST_TEXT = 1 << 24  # characters of one value
LONGEST_CARD = 1 << 22  # bytes of a README that are looked at
BATCH = 256  # rows that are decoded at once
NGRAM = re.compile(r'\\?"decontamination_ngram\\?":\s*(\d{1,4})\b')
UNREADABLE = (pa.ArrowException, OSError, UnicodeError, ValueError, OverflowError)  # of a damaged Parquet file


class ReleaseError(ValueError):
    """A folder that is no release, or cannot be read: names the file and the mend, in one sentence."""


@dataclass
class Release:
    """Rows by table, and the rows that are none: `{table, check, row, found}`; row: file and number from 1."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    faults: list[Row] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # rows that a table has, faulty ones too
    ngram: int | None = None  # of decontamination, as its cards say


@contextmanager
def opened(source: str) -> Iterator[Path]:
    """The folder of a release; `hf:org/name@commit` is downloaded into one that is deleted afterwards.

    Raises: ReleaseError when there is none.
    """
    if not source.startswith("hf:"):
        folder = Path(source)
        if not folder.is_dir():
            raise ReleaseError(f"{source!a} is no folder; give one of `promptcot export`, or hf:org/name@commit")
        yield folder
        return
    address = ADDRESS.fullmatch(source)
    if address is None or not COMMIT.fullmatch(address["revision"]):
        raise ReleaseError(f"{source!a}: write hf:org/name@commit with a full commit hash; a branch moves")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    wanted = ["README.md", "*/README.md", *(f"{at}data/*{kind}" for at in ("", "*/") for kind in KINDS)]
    with TemporaryDirectory(prefix="promptcot-release-") as scratch:
        try:
            snapshot_download(address["name"], repo_type="dataset", revision=address["revision"],
                              allow_patterns=wanted, local_dir=scratch)  # fmt: skip
        except (*HfHubHTTPError.__bases__, ValueError) as error:
            raise ReleaseError(f"{source}: cannot be downloaded ({' '.join(str(error).split())[:200]})") from error
        yield Path(scratch)


def read_release(folder: Path) -> Release:
    """Every table of a release. Raises: ReleaseError naming the file that cannot be one of it."""
    found = Release()
    for part in _parts(folder):
        files = _files(part)
        rows = _rows(files)
        first = next(rows, None)
        names = first[1].keys() if first and isinstance(first[1], dict) else _columns(files)
        table = recognised(names, part.name)
        if table is None:
            raise ReleaseError(
                f"{_named(files[0])}: its columns ({', '.join(map(ascii, sorted(map(str, names))[:20]))}) are those of "
                "no table; a release is made by `promptcot export`"
            )
        if table in found.rows:
            raise ReleaseError(f"{str(part)!a}: it holds {table}, and so does another folder beside it")
        found.rows[table], found.seen[table] = [], 0
        _read(found, table, first, rows)
        ngram = _ngram(part / "README.md")
        found.ngram = found.ngram if ngram is None else ngram
    return found


def _parts(folder: Path) -> list[Path]:
    """The folders with `data/`: the release itself, or those in it."""
    try:
        inner = sorted(one for one in folder.iterdir() if (one / "data").is_dir() and not one.is_symlink())
    except OSError as error:
        raise ReleaseError(f"{str(folder)!a}: cannot be read ({error.strerror})") from error
    if (folder / "data").is_dir():
        return [folder]
    if not inner:
        raise ReleaseError(f"{str(folder)!a} has no data/, nor has a folder in it; `promptcot export` writes one")
    return inner


def _files(part: Path) -> list[Path]:
    data = part / "data"
    if data.is_symlink():
        raise ReleaseError(f"{_named(data)} is a link; a release holds its files itself")
    files = sorted(data.iterdir())
    for file in files:
        if file.is_symlink() or not file.is_file():
            raise ReleaseError(f"{_named(file)} is no plain file; a release holds its files itself")
        if file.suffix not in KINDS:
            raise ReleaseError(f"{_named(file)} is neither Parquet nor JSON Lines; `promptcot export` writes no other")
    if not 0 < len(files) <= MOST_FILES:
        raise ReleaseError(f"{_named(data)} holds {len(files):,} files; a table has 1 to {MOST_FILES:,}")
    return files


def _named(path: Path) -> str:
    """A path as it may be printed: what a stranger named it cannot steer the terminal."""
    return ascii("/".join(path.parts[-3:]))


def _rows(files: Sequence[Path]) -> Iterator[tuple[str, Row | Broken]]:
    """(place, row) of all files."""
    total = 0
    for file in files:
        rows = _parquet(file) if file.suffix == ".parquet" else _lines(file)
        for number, row in rows:
            total += 1
            if total > MOST_ROWS:
                raise ReleaseError(f"{_named(file)}: more than {MOST_ROWS:,} rows; verify a part of it")
            yield f"{_named(file)}, row {number}", row


def _parquet(file: Path) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened_file:
            for batch in opened_file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except UNREADABLE as error:
        told = " ".join(str(error).split())[:200]
        raise ReleaseError(f"{_named(file)}: damaged after row {number:,} ({told!a}); get it again") from error


def _lines(file: Path) -> Iterator[tuple[int, Row | Broken]]:
    try:
        yield from ((number, row) for _, number, row in open_source(str(file)))
    except SeedError as error:
        raise ReleaseError(ascii(str(error))[1:-1]) from error


def _columns(files: Sequence[Path]) -> list[str]:
    """Of a table without a row, or whose first row is broken."""
    for file in files:
        if file.suffix == ".parquet":
            try:
                return list(pq.read_schema(file).names)
            except UNREADABLE as error:
                raise ReleaseError(f"{_named(file)}: damaged; get it again") from error
    return []


def recognised(names: Any, called: str = "") -> str | None:
    """The table with exactly these columns, or with these and others that may be empty; None for no table's.

    called: the folder's name, which decides between tables with the same columns.
    """
    own = set(names)
    for table, columns in TRAINING_COLUMNS.items():
        if own in (set(columns), set(CHATS[table])):
            return table
    fits = [
        table
        for table, schema in SCHEMAS.items()
        if table not in MODEL_ROLES
        and own <= set(schema.names)
        and {one.name for one in schema if not one.nullable} <= own
    ]
    return min(fits, key=lambda table: (len(set(SCHEMAS[table].names) - own), table != called), default=None)


def _read(found: Release, table: str, first: Any, rows: Iterator[tuple[str, Row | Broken]]) -> None:
    ids: dict[str, str] = {}
    id_name = next((one.name for one in SCHEMAS[table] if (one.metadata or {}).get(b"unique")), "")
    for place, row in (*([first] if first else []), *rows):
        found.seen[table] += 1
        fault = row.reason if isinstance(row, Broken) else row_fault(table, row)
        row_id = None if isinstance(row, Broken) else row.get(id_name)
        if fault is None and isinstance(row_id, str):
            if row_id in ids:
                fault = f"{id_name} {ascii(row_id)[:40]} stands in {ids[row_id]} too"
            ids.setdefault(row_id, place)
        if fault is not None:
            found.faults.append({"table": table, "check": "rows", "row": place, "found": fault})
        elif isinstance(row, dict):
            found.rows[table].append(dict.fromkeys(SCHEMAS[table].names) | row | {"_place": place})


def row_fault(table: str, row: Row) -> str | None:
    """What is wrong with the columns of a row by its table's declaration; None: nothing."""
    if table in TRAINING_COLUMNS and "problem_id" not in row:
        return _training_fault(table, row)
    row = dict.fromkeys(SCHEMAS[table].names) | row  # a line of JSON may leave out what is empty
    for column in SCHEMAS[table]:
        value = row.get(column.name)
        if value is None:
            if not column.nullable:
                return f"column {column.name!r} is empty"
        elif not _is_of(column.type, value):
            return f"column {column.name!r} is {ascii(value)[:40]}, which is no {column.type}"
    if extra := sorted(map(str, row.keys() - set(SCHEMAS[table].names))):
        return f"column {ascii(extra[0])[:40]} is none of {table}"
    if "domain" in SCHEMAS[table].names and row["domain"] not in DOMAINS:
        return f"domain {ascii(row['domain'])[:40]} is none of {', '.join(DOMAINS)}"
    if table == "code_tests" and row["expected"] is not None and row["stdin"] is None:
        return "column 'stdin' is empty where an output is expected"
    if "tests" in SCHEMAS[table].names and row.get("tests") is not None and not are_tests(row["tests"]):
        return "column 'tests' is no JSON list of {stdin, expected}"
    return None


def _training_fault(table: str, row: Row) -> str | None:
    for name in row.keys() - {"_place"}:
        turns = row[name] if isinstance(row[name], list) else [{"content": row[name]}]
        if not turns or not all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in turns):
            return f"column {ascii(str(name))[:40]} is {ascii(row[name])[:40]}, neither a text nor turns of a chat"
    missing = [one for one in (CHATS if "messages" in row else TRAINING_COLUMNS)[table] if one not in row]
    return f"column {missing[0]!r} is missing" if missing else None


def _is_of(type_: pa.DataType, value: Any) -> bool:
    if pa.types.is_list(type_):
        return isinstance(value, list) and all(_is_of(type_.value_type, one) for one in value)
    if pa.types.is_string(type_):
        return isinstance(value, str) and len(value) <= LONGEST_TEXT and _is_unicode(value)
    if pa.types.is_boolean(type_):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if pa.types.is_integer(type_):
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return isinstance(value, int | float) and is_finite(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def are_tests(text: str) -> bool:
    """Whether a column `tests` holds what programs can be judged by."""
    try:
        cases = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(cases, list) and bool(cases) and all(
        isinstance(one, dict) and isinstance(one.get("stdin"), str) and isinstance(one.get("expected"), str)
        for one in cases
    )  # fmt: skip


def _ngram(card: Path) -> int | None:
    if card.is_symlink() or not card.is_file():
        return None
    with card.open("rb") as file:
        said = NGRAM.findall(file.read(LONGEST_CARD).decode("utf-8", "replace"))
    return int(said[0]) if said else None
