"""The reader as a folder of static pages: opens from anywhere, needs no network, shows exact versions.

Exported are the records that were asked for and what they lead to: the models behind them, the problems these learned
from, the seeds and their candidates, as far as a budget of text allows. A link leads only to what is in the folder.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from promptcot_assets.lake import LakeError, Ref
from promptcot_assets.lake.disk import sync
from promptcot_assets.reports.reader import listing, pages, prose
from promptcot_assets.reports.reader.front import Failure
from promptcot_assets.reports.reader.library import MODELS, Joined, Key, Library, Record, about
from promptcot_assets.reports.reader.pages import Around, Pages, anchor, path_of
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS
from promptcot_assets.tables.references import id_column

WHOLE_HOME = 60  # records of each table where no table is asked for
SMALL_TABLE = 400  # a table of so many rows is exported whole then
MOST_RECORDS = 20_000  # that can be asked for
SMALL_EXPORT, A_RECORD = 28_000_000, 9_000  # bytes that an export may take, in all or for every record asked for
LINKED = (
    2_000_000,
    10_000_000,
)  # of these, for pages that are there only because something leads to them: at least, at most
LONGEST_TEXTS = (None, 8_000, 3_000, 1_500, 700, 300)  # characters of one text; the next where the pages take too much
PAGE_BYTES, ABOVE_BYTES, BELOW_BYTES = 4_300, 30, 1_100  # of markup: of a page, and of each row that it shows
AT_ONCE, LINKED_AT_ONCE = 256, 32  # records joined by one query
TOLD = 90  # characters of the problem that a row of a list is about
LISTED = 500  # rows of a list that are there without the script
SEARCHED, SEARCHED_BESIDE = 500, 200  # characters of a record that the script searches, asked for or not
MARKER = "reader.json"
T = TypeVar("T")


@dataclass(frozen=True)
class Exported:
    """What was written."""

    out: Path
    pages: int
    bytes: int
    records: int  # that were asked for
    refs: tuple[Ref, ...]  # exact versions that the pages show


@dataclass
class Folder:
    """Where every record of the export is: `Links` of a folder."""

    places: dict[Key, str] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    asked: set[Key] = field(default_factory=set)
    served: bool = False

    def record(self, record: Record) -> str | None:
        return self.places.get(record.key)

    def model(self, name: str) -> str | None:
        return self.places.get((MODELS, name))

    def table(self, table: str, **_: str) -> str | None:
        if table in MODEL_ROLES:
            return f"{MODELS}/index.html"
        return f"{table}/index.html" if table in self.tables else None


def export(
    home: Path,
    out: Path,
    asset: str = "",
    partition: str = "",
    where: str = "",
    sample: int = 0,
    failures: Sequence[Failure] = (),
) -> Exported:
    """Write the reader of `home` to the folder `out`, which appears when it is complete.

    asset: the table (or role of models) to read; empty: some records of every table. An export that is at `out` already
    is replaced. Raises: LakeError when `out` holds something else, and as `listing` and `Library` do.
    """
    _check_free(out)
    with Library(home) as library:
        asked = _asked(library, home, asset, partition, where, sample)
        part = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
        try:
            part.mkdir(parents=True)
            joined, folder, longest = _gather(library, asked)
            written = _write(part, Pages(library, folder, longest), joined, folder, failures)
            refs = tuple(sorted({row.ref for one in joined for row in one.rows()}, key=str))
            _place(part, MARKER, json.dumps({"home": str(home), "versions": [str(ref) for ref in refs]}, indent=1))
            sync(part)
            _swap(part, out)
        except OSError as error:
            raise LakeError(f"cannot write {out}: {error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Exported(out, written, _bytes(out), len(asked), refs)


def _some(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# ---- which records
def _asked(library: Library, home: Path, asset: str, partition: str, where: str, sample: int) -> list[Record]:
    if asset in MODEL_ROLES:
        found = [one for entry in library.entries(asset, partition or None) for one in library.where(entry, "true")]
    elif asset:
        library.entries(listing.known(asset), partition or None)
        found = _listed(library, home, listing.Asked(asset, partition, where, sample=sample))
    else:
        if where:
            raise LakeError("--where needs a table to look in: promptcot read ASSET --where ...")
        found = [
            one for role in MODEL_ROLES for entry in _entries(library, role) for one in library.where(entry, "true")
        ]
        for table in SCHEMAS:
            if table not in MODEL_ROLES and (rows := sum(entry.ref.rows for entry in _entries(library, table))):
                some = sample or (0 if rows <= SMALL_TABLE and not about(table) else WHOLE_HOME)
                found += _listed(library, home, listing.Asked(table, sample=some))
    if len(found) > MOST_RECORDS:
        raise LakeError(
            f"{len(found):,} records are too many for a folder of pages; --sample N or --where SQL takes fewer"
        )
    return found


def _entries(library: Library, table: str) -> list[Any]:
    return [entry for (asset, _), entry in library.history.newest.items() if asset == table]


def _listed(library: Library, home: Path, asked: listing.Asked) -> list[Record]:
    by_partition: dict[str, list[str]] = {}
    for partition, one in listing.places(home, asked):
        by_partition.setdefault(partition, []).append(one)
    newest = library.history.newest
    return [
        record for partition, ids in by_partition.items() for some in _some(ids, 4096)
        for record in library.load(newest[asked.table, partition], some)
    ]  # fmt: skip


def _has_page(library: Library, table: str) -> bool:
    """Whether a link alone brings a row into the export: problems of any kind, models, and what there are few of."""
    few = sum(entry.ref.rows for entry in _entries(library, table)) <= SMALL_TABLE
    return few or table in MODEL_ROLES or _is_asked_about(table)


@cache
def _is_asked_about(table: str) -> bool:
    return any(one.to == table for other in SCHEMAS for one in about(other))


def _gather(library: Library, asked: Sequence[Record]) -> tuple[list[Joined], Folder, int | None]:
    """The pages: of the asked records first, then of what these lead to, level by level until the budget is spent.

    Also how many characters of one text there is room for; None: for all of each.
    """
    folder, found = Folder(), list[Joined]()
    questions = library.subjects(asked)
    level = list(dict.fromkeys(questions[one] for one in asked))
    folder.asked = {one.key for one in level}
    for some in _some(level, AT_ONCE):
        found += library.join(some)
    room = max(SMALL_EXPORT, A_RECORD * len(asked))
    longest = next((one for one in LONGEST_TEXTS if _weight(found, one) <= room - LINKED[0]), LONGEST_TEXTS[-1])
    left = min(LINKED[1], max(LINKED[0], room - _weight(found, longest)))
    level, seen = _beyond(library, found, folder.asked), set(folder.asked)
    while level and left > 0:
        begun = len(found)
        for some in _some(level, LINKED_AT_ONCE):
            found += (more := library.join(some))
            seen |= {one.key for one in some}
            if (left := left - _weight(more, longest)) <= 0:
                break
        level = _beyond(library, found[begun:], seen)
    folder.places = {one.record.key: path_of(one.record.key) for one in found}
    for joined in found:
        for row in (row for rows in joined.below.values() for row in rows if about(row.table)):
            folder.places.setdefault(row.key, f"{path_of(joined.record.key)}#{anchor(row)}")
    folder.tables = {asset for asset, _ in library.history.newest if asset in SCHEMAS} - {*MODEL_ROLES}
    return found, folder, longest


def _weight(joined: Iterable[Joined], longest: int | None) -> int:
    """Bytes that these pages will take, about."""
    return sum(
        PAGE_BYTES
        + ABOVE_BYTES * len(one.above)
        + BELOW_BYTES * sum(map(len, one.below.values()))
        + one.characters(longest)
        for one in joined
    )


def _beyond(library: Library, found: Sequence[Joined], seen: set[Key]) -> list[Record]:
    """What these pages lead to and is not there yet."""
    return [
        one for some in _some(found, AT_ONCE) for one in dict.fromkeys(_leads_to(library, some)) if one.key not in seen
    ]


def _leads_to(library: Library, some: Sequence[Joined]) -> Iterable[Record]:
    """What has a page of its own and is linked from these pages: models first, they are few."""
    rows, names = list[Record](), dict[str, None]()
    for joined in some:
        for row in joined.rows():
            names |= dict.fromkeys(row.models.values())
            rows.append(row)
        if joined.record.table in MODEL_ROLES:
            entry = library.history.entries[joined.record.table, joined.record.ref.version]
            rows += [row for _, _, sample in library.trained_on(entry, pages.SAMPLES) for row in sample]
        elif joined.record.table == "benchmark_scores":
            rows += library.behind(joined.record)
    for name in names:
        if model := library.history.models.get(name):
            yield from library.load(model, [name])
    about_what = set(library.subjects(rows).values())
    has_page = {table: _has_page(library, table) for table in {one.table for one in about_what}}
    yield from sorted((one for one in about_what if has_page[one.table]), key=lambda one: (one.table, one.id))


# ---- files
def _write(part: Path, filled: Pages, joined: Sequence[Joined], folder: Folder, failures: Sequence[Failure]) -> int:
    around = _around(joined, folder)
    for one in joined:
        _place(part, path_of(one.record.key), filled.record(one, around[one.record.key]))
    lists = _lists(filled, joined, folder)
    for table, (page, rows) in lists.items():
        _place(part, f"{table}/index.html", page)
        if rows:
            _place(part, f"{table}/rows.js", rows)
    _place(part, "index.html", filled.front(failures))
    _place(part, f"{MODELS}/index.html", filled.models())
    _place(part, "em/index.html", filled.rounds())
    _place(part, "marks/index.html", filled.marks())
    for name, content in assets().items():
        _place(part, name, content)
    return len(joined) + len(lists) + 4


def assets() -> dict[str, str]:
    """The style sheet and the script, by their names."""
    templates = files(__package__) / "templates"
    style = (templates / pages.STYLE).read_text() + prose.code_styles()
    return {pages.STYLE: style, pages.SCRIPT: (templates / pages.SCRIPT).read_text()}


def _around(joined: Sequence[Joined], folder: Folder) -> dict[Key, Around]:
    by_table: dict[str, list[Key]] = {}
    for one in joined:
        by_table.setdefault(one.record.key[0], []).append(one.record.key)
    found = {}
    for table, keys in by_table.items():
        for at, key in enumerate(keys):
            before = folder.places[keys[at - 1]] if at else None
            after = folder.places[keys[at + 1]] if at + 1 < len(keys) else None
            found[key] = Around(before, after, at + 1, len(keys), f"{table}/index.html")
    return found


def _lists(filled: Pages, joined: Sequence[Joined], folder: Folder) -> dict[str, tuple[str, str]]:
    """Table -> its list as a page, and its rows for the script that filters and sorts them."""
    by_table: dict[str, dict[Key, Record]] = {table: {} for table in sorted(folder.tables)}
    for one in joined:
        for row in (one.record, *(row for rows in one.below.values() for row in rows)):
            if row.key in folder.places and row.table in folder.tables:
                by_table[row.table][row.key] = row
    found = {}
    for table, records in by_table.items():
        entries = filled.library.entries(table)
        columns = pages.list_columns(table)
        told = pages.problems_of(filled.library, [*records.values()]) if listing.PROBLEM in columns else {}
        shown = {
            key: {
                listing.PROBLEM: pages.short(told.get(key, ""), TOLD),
                **{name: one.values[name] for name in columns if name in one.values},
            }
            for key, one in records.items()
        }
        rows = [(folder.places[key], {name: shown[key].get(name) for name in columns}) for key in records]
        total = sum(entry.ref.rows for entry in entries)
        note = f"of {total:,} in the table; `promptcot read {table}` has all" if len(rows) < total else ""
        if len(rows) > total:
            note = f"{total:,} in the newest version; the others are what older ones lead to"
        page = filled.table(
            entries, rows=rows[:LISTED], columns=columns, numbers=listing.numbers(table), total=len(rows), first=0,
            note=note, pages=None, asked=None, filters={}, problem="", searched=(),
        )  # fmt: skip
        is_asked = any(one.record.key in folder.asked for one in joined if one.record.table == table)
        searched = SEARCHED if is_asked else SEARCHED_BESIDE
        found[table] = page, _script_rows(table, columns, rows, records, folder, searched) if records else ""
    return found


def _script_rows(
    table: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, dict[str, Any]]],
    records: dict[Key, Record],
    folder: Folder,
    searched: int,
) -> str:
    """The rows as one assignment of JSON in ASCII: what a model wrote is a string in it and nothing else."""
    values = [[_cell(cells[name]) for name in columns] for _, cells in rows]
    numbers = [at for at, name in enumerate(columns) if name in listing.numbers(table)]
    document = {
        "columns": columns,
        "numbers": numbers,
        "filters": [
            at
            for at in range(1, len(columns))
            if at not in numbers and _is_filter(columns[at], [row[at] for row in values])
        ],
        "rows": [
            [folder.places[key], row, f"{_searched(one, searched)} {str(cells.get(listing.PROBLEM) or '').lower()}"]
            for (key, one), row, (_, cells) in zip(records.items(), values, rows, strict=True)
        ],
    }
    return f"window.reader = {json.dumps(document, ensure_ascii=True, separators=(',', ':'))};\n"


def _is_filter(column: str, values: Sequence[Any]) -> bool:
    """Whether a column has few values, and short ones."""
    distinct = {str(one) for one in values}
    return (
        listing.fewest_values(column) <= len(distinct) <= listing.MOST_VALUES
        and max(map(len, distinct)) <= listing.SHORT
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return pages.number(value)
    if isinstance(value, int | float):
        return value if abs(value) < 2**53 else str(value)
    return pages.short(value, 140)


def _searched(record: Record, characters: int) -> str:
    names = [
        one.name
        for one in SCHEMAS[record.table]
        if pa.types.is_string(one.type) and one.name != id_column(record.table)
    ]
    return " ".join([record.id, *(str(record.values.get(name) or "") for name in names)])[:characters].lower()


def _place(part: Path, name: str, content: str) -> None:
    path = part / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", errors="replace")


def _check_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists()):
        raise LakeError(f"{out} is there and is no reader; give --out a new or empty folder")


def _swap(part: Path, out: Path) -> None:
    """Put the finished folder in its place; a former one is away only while two names change."""
    former = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    if out.exists():
        out.rename(former)
    part.rename(out)
    shutil.rmtree(former, ignore_errors=True)
