"""Where problems are read from: files of any common kind, folders and globs of them, the hub, and reasoning-gym.

A source is one of

| source | rows |
|---|---|
| `problems.jsonl`, `.json`, `.parquet`, `.csv`, `.tsv`, the texts also as `.gz` or `.zst` | of that file |
| a folder, or a glob as `shards/*.parquet` | of all its files of those kinds, in the order of their names |
| `hf:org/name[/config]@commit#split` | of a data set of the Hugging Face hub; a split may be a file of it |
| `gym:basic_arithmetic?size=2000&seed=7` | of a generator of the reasoning-gym library |

Rows stream: nothing here holds a file. Text is read line by line, so that one broken line is one broken row with its
number; DuckDB reads tables and JSON arrays, and evaluates conditions. Of a folder, hidden files and the metadata that
`datasets` writes beside data are left out. Belongs here: opening and decoding. Does not belong here: what a column
means (forms.py).
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from urllib.parse import parse_qsl

from promptcot_assets.settings import pins

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
Numbered = tuple[str, int, "Row | Broken"]  # name of the file, line or row from 1, the row

BATCH = 1024  # rows that DuckDB hands over at once, and that a condition is evaluated on
LONGEST_LINE = 1 << 28  # bytes; a longer line is skipped and counted
WILD = "*?["
ROW_NUMBER = "row_number_of_promptcot"  # a column beside those of a table, which none of them is called
BESIDE_DATA = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}  # what `datasets` writes
WRAPPERS = (
    "data",
    "rows",
    "problems",
    "questions",
    "examples",
    "items",
    "instances",
    "records",
    "train",
    "validation",
    "test",
)  # keys of a JSON document under which a list is its rows
LARGEST_DOCUMENT = 1 << 30  # bytes of a JSON document that is no array; it is read at once


class SeedError(ValueError):
    """A source of problems that cannot be read: names the file, the line and the mend."""


@dataclass(frozen=True)
class Broken:
    """A row that cannot be decoded: why, with the mend, and how it begins."""

    reason: str
    text: str = ""


def open_source(source: str | Path, where: str | None = None) -> Iterator[Numbered]:
    """The rows of a source, or those for which the SQL condition `where` holds. Raises: SeedError as `open_files`."""
    return itertools.chain.from_iterable(open_files(source, where))


def open_files(source: str | Path, where: str | None = None) -> list[Iterator[Numbered]]:
    """The rows of a source, file by file; none is opened before its rows are asked for. A file of a folder is named by
    its path in it.

    Raises: SeedError when the source is absent or of another kind, and on a condition that cannot be evaluated; while
    reading, when a file turns out to be of another kind than its name says.
    """
    address = str(source)
    if not address.strip():  # else the folder at hand
        raise SeedError("the source has no name; give a file, a folder, `hf:org/name@commit#split` or `gym:NAME`")
    if address.startswith("hf:"):
        return [_on_condition(_hub_rows(address), where, address)]
    if address.startswith("gym:"):
        return [_on_condition(_gym_rows(address), where, address)]
    files = files_of(source)
    folder = Path(source) if Path(source).is_dir() else None
    return [_named_rows(path, where, folder) for path in files]


def _named_rows(path: Path, where: str | None, folder: Path | None) -> Iterator[Numbered]:
    rows = _file_rows(path, where)
    if folder is None or path.parent == folder:
        yield from rows
    else:
        name = path.relative_to(folder).as_posix()
        yield from ((name, number, row) for _, number, row in rows)


def files_of(source: str | Path) -> list[Path]:
    """The files that a path, a folder or a glob names, in the order of their names.

    Raises: SeedError when there is none, or when the file named is of another kind.
    """
    path = Path(source)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # a name that no file can have, or a folder that is not ours to look into
        raise SeedError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    if is_file:
        if kind_of(path) is None:
            raise SeedError(f"{source}: not a file of one of the kinds {', '.join(KINDS)}, also as .gz or .zst")
        return [path]
    root = path
    if is_folder:
        found = [one for one in path.rglob("*") if one.is_file()]
    elif any(sign in str(source) for sign in WILD):
        root = Path(path.anchor)
        found = [one for one in root.glob(str(path.relative_to(path.anchor))) if one.is_file()]
        root = Path(*itertools.takewhile(lambda part: not any(sign in part for sign in WILD), path.parts))
    elif kind_of(path) is None:
        raise SeedError(
            f"{source}: no such file; give one of the kinds {', '.join(KINDS)}, a folder or glob of them, "
            "`hf:org/name@commit#split` or `gym:NAME?size=...`"
        )
    else:
        raise SeedError(f"{source}: no such file; check the path in the profile's seed or benchmark settings")
    readable = sorted(
        one
        for one in found
        if kind_of(one)
        and one.name not in BESIDE_DATA
        and not any(part.startswith(".") for part in one.relative_to(root).parts)
    )
    if not readable:
        raise SeedError(f"{source}: holds no file of the kinds {', '.join(KINDS)}, also as .gz or .zst")
    return readable


def contents(sources: Iterable[str]) -> dict[str, str]:
    """Local source -> sha256 of the bytes of its files, so that an edited file is another input. An address of the hub
    names its commit, one of reasoning-gym its seed and version.

    Raises: SeedError when a source is absent or an address is not pinned.
    """
    return {source: _content_hash(source) for source in sorted(set(sources))}


def _content_hash(source: str) -> str:
    if source.startswith("hf:"):
        return str(_hub_parts(source)["revision"])
    if source.startswith("gym:"):
        from importlib.metadata import PackageNotFoundError, version

        with contextlib.suppress(PackageNotFoundError):
            return version("reasoning-gym")
        return "not installed"
    digest = hashlib.sha256()
    for path in files_of(source):
        with _opened(path) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


# ---- files


def kind_of(path: Path) -> str | None:
    """The reader's name of a file, by its suffix: `.jsonl` of `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else None


def _file_rows(path: Path, where: str | None) -> Iterator[Numbered]:
    kind = kind_of(path)
    if kind == ".parquet":
        return _parquet_rows(path, where)
    with _bytes_of(path) as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise SeedError(f"{path}: UTF-16; save the file as UTF-8")
    if kind in (".csv", ".tsv"):
        return _csv_rows(path, where)
    rows = _json_rows(path) if kind == ".json" else _array_rows(path) if _is_array(path) else _jsonl_rows(path)
    return _on_condition(rows, where, path.name)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """The file as it lies there. Raises: SeedError for all that goes wrong with it, its unpacking too."""
    try:
        with path.open("rb") as file:
            yield file
    except (OSError, EOFError) as error:
        if path.suffix.lower() in COMPRESSIONS and not isinstance(error, PermissionError):
            raise SeedError(f"{path}: cannot be unpacked ({error}); download or pack it again") from error
        raise SeedError(f"{path}: cannot be read ({error}); mend that, or give another file") from error


@contextlib.contextmanager
def _bytes_of(path: Path) -> Iterator[BinaryIO]:
    import pyarrow as pa

    kind = COMPRESSIONS.get(path.suffix.lower())
    with _opened(path) as file:
        if kind is None:
            yield file
            return
        with pa.CompressedInputStream(file, kind) as stream:
            yield io.BufferedReader(stream, 1 << 20)  # type: ignore[type-var]  # it has all that is read of it


def _jsonl_rows(path: Path) -> Iterator[Numbered]:
    with _bytes_of(path) as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
                    pass
                yield path.name, number, Broken(f"a line of more than {LONGEST_LINE >> 20} MiB; split the row")
            elif line.strip(b"\xef\xbb\xbf \t\r\n"):
                yield path.name, number, _decoded(line)


def _decoded(line: bytes) -> Row | Broken:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Broken("not UTF-8; save the file as UTF-8 or delete the row", line[:200].decode("utf-8", "replace"))
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return Broken("not JSON; mend or delete the line", text[:200])
    return _as_row(raw)


def _as_row(raw: Any) -> Row | Broken:
    if isinstance(raw, dict):
        return raw
    if isinstance(raw, list) and raw and all(isinstance(turn, dict) and {"role", "from"} & turn.keys() for turn in raw):
        return {"messages": raw}
    return Broken(f"a JSON {type(raw).__name__}, not an object; write the row as {{column: value}}", str(raw)[:200])


def _json_rows(path: Path) -> Iterator[Numbered]:
    """A file `.json`: an array of rows, which streams; an object of rows by their ids; or in truth one row a line."""
    with _bytes_of(path) as file:
        begin = _first_line(file)
        several = not begin.startswith(b"[") and bool(_first_line(file))
    if begin.startswith(b"["):
        yield from _array_rows(path)
    elif several and begin.endswith(b"}"):
        yield from _jsonl_rows(path)
    else:
        yield from ((path.name, number, _as_row(raw)) for number, raw in enumerate(_document_rows(path), 1))


def _first_line(file: BinaryIO) -> bytes:
    """The next line with something in it, whole and bare; of an array in one line, its beginning. Empty: the end."""
    while line := file.readline(1 << 16):
        if line.strip(b"\xef\xbb\xbf \t\r\n"):
            if not line.endswith(b"\n") and len(line) == 1 << 16:  # the rest of a long one
                line += file.readline(LONGEST_LINE)
            return line.strip(b"\xef\xbb\xbf \t\r\n")
    return b""


def _is_array(path: Path) -> bool:
    """Whether a file of lines is one JSON array in truth: alone on its line, or begun on a line that is no JSON."""
    with _bytes_of(path) as file:
        begin = _first_line(file)
        if not begin.startswith(b"["):
            return False
        if begin in (b"[", b"[{") or begin.endswith(b"},"):
            return True
        return not _first_line(file) and isinstance(_decoded(begin), Broken)


def _array_rows(path: Path) -> Iterator[Numbered]:
    """DuckDB hands over the text of each element. Where the array is broken, all after the break is one broken row."""
    query = "select json from read_json_objects(?, format = 'array', maximum_object_size = ?)"
    number = 0
    try:
        for batch in _queried(query, path, [LONGEST_LINE]):
            for (text,) in zip(*batch.values(), strict=True):
                number += 1
                yield path.name, number, _decoded(text.encode("utf-8", "surrogatepass"))
    except SeedError as error:
        reason = "the JSON array is broken here or a little later; mend it, or write one row a line as .jsonl"
        yield path.name, number + 1, Broken(reason, str(error)[:200])


def _document_rows(path: Path) -> list[Any]:
    if path.stat().st_size > LARGEST_DOCUMENT:
        raise SeedError(f"{path}: one JSON document of more than {LARGEST_DOCUMENT >> 20} MiB; write one row a line")
    with _bytes_of(path) as file:
        try:
            document = json.load(io.TextIOWrapper(file, "utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise SeedError(f"{path}: not JSON ({error}); write one row a line as .jsonl") from error
    if not isinstance(document, dict):
        raise SeedError(f"{path}: a JSON {type(document).__name__}; write an array of rows, or one row a line")
    if isinstance(problems := document.get("problems"), dict) and isinstance(document.get("concepts"), dict):
        return [_with_concepts(one, document) for one in problems.values()]
    values = list(document.values())
    if all(isinstance(value, dict) for value in values):
        numbers = [str(number) for number in range(len(values[0]))] if values else []
        if numbers and all(list(value) == numbers for value in values):  # an object a column, as pandas writes it
            values = [dict(zip(document, row, strict=True)) for row in zip(*map(dict.values, values), strict=True)]
        return values
    lists = {name: value for name, value in document.items() if _are_rows(value)}
    wrapped = list(itertools.chain.from_iterable(value for name, value in lists.items() if name.lower() in WRAPPERS))
    if wrapped or len(lists) == len(document) == 1:
        return wrapped or list(*lists.values())
    if all(isinstance(value, list) for value in values) and len(set(map(len, values))) == 1:
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]  # a list a column
    return [document]


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _with_concepts(problem: Any, document: Row) -> Any:
    """A problem of CHAMP, which names its concepts and its own hints by id in `ch_list`, with both as texts."""
    if not isinstance(problem, dict):
        return problem
    concepts, hints = (_of_list(problem.get("ch_list"), document.get(kind)) for kind in ("concepts", "hints"))
    return problem | {
        "concepts": [one.get("name") or one.get("_text") or "" for one in concepts],
        "hints": "\n".join(text for one in hints if isinstance(text := one.get("_text"), str)),
    }


def _of_list(keys: Any, known: Any) -> list[Row]:
    """The entries of `known` that `keys` name; what is neither a list nor an entry is left out."""
    if not isinstance(keys, list) or not isinstance(known, dict):
        return []
    return [one for key in keys if isinstance(key, str) and isinstance(one := known.get(key), dict)]


def _parquet_rows(path: Path, where: str | None) -> Iterator[Numbered]:
    query = "select * from read_parquet(?, file_row_number = true)" + (f" where ({where})" if where else "")
    for row in _table_rows(path, query):
        yield path.name, row.pop("file_row_number") + 1, row


def _csv_rows(path: Path, where: str | None) -> Iterator[Numbered]:
    """All columns are texts here: what looks like a number stays as it is written. Rows are counted below the head.

    DuckDB is asked twice: first for the lines that it cannot read, so that each is a row in its place.
    """
    delimiter = ", delim = '\\t'" if kind_of(path) == ".tsv" else ""
    read = f"read_csv(?, all_varchar = true, header = true, store_rejects = true, max_line_size = 16777216{delimiter})"
    rejected = "select distinct on (line) line, error_message from reject_errors order by line"
    found = _table_rows(path, f"select count(*) from {read}", rejected)
    broken = {row["line"] - 1: row["error_message"] for row in found}
    numbered = f"select *, row_number() over () as {ROW_NUMBER} from {read}"
    passed = 0  # broken rows before the one at hand
    for row in _table_rows(path, f"select * from ({numbered})" + (f" where ({where})" if where else "")):
        at = row.pop(ROW_NUMBER) + passed
        while at in broken:
            yield path.name, at, Broken(f"not a row of the table ({broken.pop(at)}); mend or delete the line")
            passed, at = passed + 1, at + 1
        yield path.name, at, row
    for at, message in sorted(broken.items()):
        yield path.name, at, Broken(f"not a row of the table ({message}); mend or delete the line")


def _table_rows(path: Path, query: str, after: str | None = None) -> Iterator[Row]:
    """The rows that DuckDB answers; those of the query `after` it, where there is one."""
    for batch in _queried(query, path, after=after):
        for row in zip(*batch.values(), strict=True):
            yield dict(zip(batch, map(_plain, row), strict=True))


def _queried(
    query: str, path: Path, more: Sequence[Any] = (), after: str | None = None
) -> Iterator[dict[str, list[Any]]]:
    """Columns of a query's answer, some rows at a time. The query's first parameter is the file, others follow.

    Raises: SeedError with DuckDB's words.
    """
    import duckdb
    import pyarrow as pa

    parameters = [glob.escape(str(path)), *more]  # else `data[1].csv` is data1.csv to DuckDB
    with duckdb.connect(config={"threads": 1, "memory_limit": "2GB", "preserve_insertion_order": True}) as base:
        try:
            if after is not None:
                base.execute(query, parameters).fetchall()
                query, parameters = after, []
            for batch in base.sql(query, params=parameters).to_arrow_reader(BATCH):
                yield {
                    name: _values(path, name, column)
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
        except (duckdb.Error, pa.ArrowException, OSError) as error:  # OSError: DuckDB's own, once the reader runs
            kind = (kind_of(path) or "").lstrip(".").title()
            kind = "JSON" if kind.startswith("Json") else kind
            raise SeedError(
                f"{path}: not a {kind} file, or not one that the condition fits "
                f"({str(error).splitlines()[0]}); write it again, or mend `where`"
            ) from error


def _values(path: Path, name: str, column: pa.Array) -> list[Any]:
    """Raises: SeedError for a value that Python has none for, as a date in the year 10000."""
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise SeedError(
            f"{path}: column {name!a} has a value that is out of range ({error}); leave the column out, or write it as "
            "text"
        ) from error
    return values


def _plain(value: Any) -> Any:
    """A value of a table as JSON would have it: a map as an object, bytes as text."""
    if isinstance(value, list):
        if value and all(isinstance(one, tuple) and len(one) == 2 for one in value):
            return {str(key): _plain(one) for key, one in value}
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")  # which the reader refuses, where it uses the column
    if isinstance(value, Decimal):
        return str(value)
    return value


# ---- conditions


def _on_condition(rows: Iterator[Numbered], where: str | None, source: str) -> Iterator[Numbered]:
    """Those of the rows for which an SQL condition on their columns holds; broken ones pass, to be counted."""
    if where is None:
        yield from rows
        return
    import duckdb

    structure = None
    with duckdb.connect(config={"threads": 1}) as base:
        while batch := list(itertools.islice(rows, BATCH)):
            texts = {at: _json_of(row) for at, (_, _, row) in enumerate(batch) if isinstance(row, dict)}
            good = {at: text for at, text in texts.items() if text is not None}
            try:
                base.execute("create or replace temp table rows (at_ bigint, json_ json)")
                if good:
                    base.executemany("insert into rows values (?, ?)", list(good.items()))
                if structure is None and good:
                    (structure,) = base.execute("select json_group_structure(json_)::varchar from rows").fetchone() or (
                        "",
                    )
                holding = base.execute(
                    f"select at_ from (select at_, unnest(from_json(json_, ?)) from rows) where ({where})",
                    [str(structure).replace('"NULL"', '"VARCHAR"')],
                ).fetchall() if good else []  # fmt: skip
            except duckdb.Error as error:
                raise SeedError(
                    f"{source}: where: {where}: {str(error).splitlines()[0]}; mend the condition"
                ) from error
            kept = {at for (at,) in holding}
            yield from (one for at, one in enumerate(batch) if at in kept or at not in good)


def _json_of(row: Row) -> str | None:
    """A row as JSON that DuckDB reads, NaN as null; None for one that the reader will refuse, to be counted there."""
    try:
        text = json.dumps(row, default=str, ensure_ascii=False)
        text.encode()  # no half of a surrogate pair
        if "NaN" in text or "Infinity" in text:
            text = json.dumps(json.loads(text, parse_constant=lambda _: None))
        return text
    except (ValueError, RecursionError):
        return None


# ---- the hub


def _hub_parts(address: str) -> dict[str, str | None]:
    parts = pins.HUB_ADDRESS.fullmatch(address)
    if parts is None or not pins.COMMIT.fullmatch(parts["revision"] or ""):
        raise SeedError(
            f"{address}: write `hf:org/name@commit#split` with a full commit hash, or let `promptcot pin` write it "
            "into a lock; a branch or tag moves, and then the same profile would read other seeds"
        )
    return parts.groupdict()


def _hub_rows(address: str) -> Iterator[Numbered]:
    parts = _hub_parts(address)
    name, revision, split = str(parts["name"]), str(parts["revision"]), str(parts["split"])
    if kind_of(Path(split)):
        for path in [_hub_file(address, name, revision, split)]:
            yield from ((address, number, row) for _, number, row in _file_rows(path, None))
        return
    import datasets

    config = (parts["config"] or "").lstrip("/") or None
    try:
        rows = datasets.load_dataset(name, config, revision=revision, split=split, streaming=True)
    except (OSError, ValueError) as error:  # not found, no network, no such split
        raise SeedError(f"{address}: cannot load ({error}); mend name, revision or split, or give a file") from error
    yield from ((address, number, dict(row)) for number, row in enumerate(rows, start=1))


def _hub_file(address: str, name: str, revision: str, file: str) -> Path:
    """One file of a data set's repository, in the hub's cache: for data sets that `datasets` no longer loads."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(name, file, revision=revision, repo_type="dataset"))
    except (*HfHubHTTPError.__bases__, ValueError) as error:  # those of the hub's HTTP client among them
        raise SeedError(f"{address}: cannot load ({error}); mend name, revision or file, or give a file") from error


# ---- reasoning-gym

GYM_SIZE, GYM_SEED = 500, 0  # where the address names none


def _gym_rows(address: str) -> Iterator[Numbered]:
    """Questions of a generator with its own answers; every other setting of the address is handed to it."""
    name, _, query = address.removeprefix("gym:").partition("?")
    settings = {key: _number_or_text(value) for key, value in parse_qsl(query, keep_blank_values=True)}
    try:
        import reasoning_gym
    except ImportError as error:
        raise SeedError(f"{address}: reasoning-gym is not installed; pip install 'promptcot-assets[gym]'") from error
    try:
        made = reasoning_gym.create_dataset(name, **{"size": GYM_SIZE, "seed": GYM_SEED} | settings)
        size = len(made)
    except (ValueError, TypeError, AssertionError, OverflowError) as error:
        raise SeedError(f"{address}: {error}; write gym:NAME?size=2000&seed=7 with settings that NAME has") from error
    yield from ((address, number, _gym_row(made, number - 1)) for number in range(1, size + 1))


def _gym_row(made: Any, at: int) -> Row:
    one = made[at]
    return {"question": one["question"], "answer": one["answer"], "metadata": one["metadata"]}


def _number_or_text(value: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(value)
    return value


COMPRESSIONS: dict[str, Literal["gzip", "zstd"]] = {".gz": "gzip", ".zst": "zstd"}
KINDS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
