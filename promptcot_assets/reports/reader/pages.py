"""Every page of the reader, from records to HTML. Where a link leads is the `Links` of the export or the server."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote

import jinja2
import pyarrow as pa
from markupsafe import Markup

from promptcot_assets.lake import LakeError, Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage import ancestry
from promptcot_assets.reports.reader import em, listing, marks, pictures, prose, training
from promptcot_assets.reports.reader import front as home_front
from promptcot_assets.reports.reader.library import MODELS, Joined, Key, Library, Record, about
from promptcot_assets.reports.reader.listing import PROBLEM
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS
from promptcot_assets.tables.reading import TEXTS
from promptcot_assets.tables.references import id_column, owns_its_id, references

SCRIPT, STYLE = "reader.js", "reader.css"
# A page may load our style sheet and our script from beside it, and send a mark home; nothing else, nothing inline.
POLICY = (
    "default-src 'none'; style-src {own}; script-src {own}; img-src 'none'; base-uri 'none'; form-action {forms}; "
    "frame-ancestors 'none'"
)
STATIC_POLICY = POLICY.format(own="'self' file:", forms="'none'").removesuffix("; frame-ancestors 'none'")
SERVED_POLICY = POLICY.format(own="'self'", forms="'self'")

CHIPS = (
    "domain",
    "level",
    "split",
    "benchmark",
    "stage",
    "source",
    "batch",
    "reason",
    "drop_reason",
)  # above the texts
PROGRAMS = ("stdin", "proposed", "expected", "tests")  # shown with every space
SAFE = re.compile(r"[^A-Za-z0-9._-]")
SAMPLES = 12  # rows of a training table on a model's page
MANY = 4  # rows of one table above a record that are listed each on a line
SHORT_FOLD = 900  # characters of one of many texts that are shown at once


class Links(Protocol):
    """Where things are, relative to the reader's front page; None: not in this export."""

    served: bool

    def record(self, record: Record) -> str | None: ...

    def model(self, name: str) -> str | None: ...

    def table(self, table: str, **asked: str) -> str | None: ...


@dataclass(frozen=True)
class Around:
    """Where a record is in the list that it was opened from."""

    previous: str | None = None
    following: str | None = None
    position: int = 0  # from 1
    total: int = 0
    back: str | None = None


def slug(row_id: str) -> str:
    """A file name for an id: its safe characters as they are, others as ~ and their code, so that it can be undone."""
    name = SAFE.sub(lambda found: f"~{ord(found[0]):x}~", row_id)
    name = f"~{name}" if name.startswith(".") else name
    return name if len(name) <= 120 else f"long-{content_id(row_id)}"


def unslug(name: str) -> str:
    """The id of a file name that `slug` made of one that is not too long; what it did not make stays as it is."""
    return re.sub(r"~([0-9a-f]{1,6})~", _character, name.removeprefix("~") if name.startswith("~.") else name)


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if code > sys.maxunicode or 0xD800 <= code < 0xE000 else chr(code)


def path_of(key: Key) -> str:
    return f"{key[0]}/{slug(key[1])}.html"


def anchor(record: Record) -> str:
    """The place of a row in the page of the problem it is about."""
    return f"{record.table}-{slug(record.id)}"


@dataclass
class Attempt:
    """An answer and its verdict: a rollout or a benchmark generation."""

    record: Record
    verdict: Record | None
    others: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool | None:
        return self.verdict.values["passed"] if self.verdict else None

    @property
    def outcome(self) -> str:
        if self.verdict is None:
            return "not judged"
        return {True: "right", False: "wrong", None: "no verdict"}[self.passed]


@dataclass(frozen=True)
class Side:
    """One of two models that are compared."""

    record: Record
    inputs: list[str]
    result: Mapping[str, Any]  # training.json
    settings: Mapping[str, Any]
    scores: list[Record]


class Pages:
    """Fills the templates for one library. Raises LakeError as the library does."""

    def __init__(self, library: Library, links: Links, cut: int | None = None) -> None:
        """cut: characters that are shown of one text; None: all."""
        self.library, self.links = library, links
        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(str(files(__package__) / "templates")),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self.environment.globals |= {
            "links": links, "policy": None if links.served else STATIC_POLICY, "rich": partial(prose.rich, cut=cut),
            "program": prose.program, "plain": prose.plain, "pictures": pictures, "len": len, "abs": abs, "max": max,
            "anchor": anchor, "slug": slug, "fold": SHORT_FOLD, "MANY": MANY, "MODELS": MODELS, "CHIPS": CHIPS,
            "programs": PROGRAMS, "gist": gist, "singular": singular, "table_comment": table_comment,
            "comments": comments, "facts": facts, "texts": texts, "own_words": own_words, "chip_values": chip_values,
            "attempts": attempts, "is_judged": is_judged, "agreed": agreed, "votes": votes, "is_part": about,
        }  # fmt: skip
        self.environment.tests["linked"] = lambda record: links.record(record) is not None
        self.environment.filters |= {"number": number, "short": short, "counted": counted}

    def front(self, failures: Sequence[home_front.Failure] = ()) -> str:
        library = self.library
        return self._fill(
            "front.html", "",
            facts=home_front.facts(library), failures=failures, scores=home_front.scores(library),
            gains=home_front.gains(library),
            bounds=home_front.curves(library, "common_bound") or home_front.curves(library, "iw_bound"),
            information=home_front.curves(library, "information"),
            funnel=home_front.funnel(library), dropped=partial(home_front.dropped, library),
            led_to_fallen=home_front.LED_TO_FALLEN,
            costs=home_front.costs(library), graph=self._graph(failures), tables=self._tables(), stale=library.stale,
            has_em=any(asset == em.CANDIDATES for asset, _ in library.history.newest),
        )  # fmt: skip

    def record(self, joined: Joined, around: Around | None = None, message: str = "") -> str:
        record = joined.record
        if record.table in MODEL_ROLES:
            return self._model(record, around or Around())
        return self._fill(
            "record.html", "../",
            record=record, joined=joined, around=around or Around(), message=message,
            rounds=em.by_round(joined.below.get(em.CANDIDATES, [])), items=self._items(record),
            sections=sections(joined), marked=self.marked.get((record.table, record.id), []), verdicts=marks.VERDICTS,
            rejected=survivor(joined),
        )  # fmt: skip

    def table(self, entries: Sequence[Entry], **given: Any) -> str:
        """The list of a table's records: what it is, its exact versions, then the rows."""
        asset = entries[0].ref.asset
        return self._fill(
            "table.html", "../",
            asset=asset, entries=entries, commits=[ancestry.as_json(one) for one in entries],
            stale={one.ref: self.library.stale[one.ref] for one in entries if one.ref in self.library.stale},
            inputs=sorted({given.asset for one in entries for given in one.commit.provenance.inputs}),
            feeds=sorted(one for one, above in self._edges.items() if asset in above),
            schema=SCHEMAS.get(asset), **given,
        )  # fmt: skip

    def models(self) -> str:
        return self._fill("models.html", "../", models=self._all_models())

    def training(self) -> str:
        """What trains now, of the home as it is at this moment."""
        return self._fill("training.html", "../", trainings=training.under_way(self.library.home))

    def compare(self, names: Sequence[str]) -> str:
        """Two models side by side. Raises: LakeError naming the one that there is not."""
        sides, history = list[Side](), self.library.history
        for name in names:
            if name not in history.models:
                raise LakeError(f"there is no model {name}; choose two of the list of models")
            entry = history.models[name]
            (record,) = self.library.load(entry, [name])
            inputs = [str(one) for one in entry.commit.provenance.inputs]
            result = training.result_of(self.library.home, entry)
            sides.append(Side(record, inputs, result, training.settings_of(entry, result), self._scores_of(name)))
        first, second = sides
        return self._fill(
            "compare.html", "../",
            sides=sides, shared={*first.inputs} & {*second.inputs},
            differing=training.differences(first.settings, second.settings),
            curves={one.record.id: one.result["loss_curve"] for one in sides if one.result.get("loss_curve")},
        )  # fmt: skip

    def _scores_of(self, model: str) -> list[Record]:
        every = [one for _, rows in home_front.scores(self.library) for one in rows]
        return [one for one in every if one.values["model"] == model]

    def rounds(self) -> str:
        """EM over its rounds."""
        found = em.rounds(self.library)
        return self._fill(
            "em.html",
            "../",
            rounds=found,
            bounds=home_front.curves(self.library, "iw_bound"),
            record_at=self._at(found),
        )

    def marks(self) -> str:
        every = marks.marks(self.library.home)
        where = {}
        for one in every:
            try:
                where[one["row_id"]] = self.links.record(self.library.find(one["table"], one["row_id"]))
            except LakeError:  # a row of a table that is gone
                where[one["row_id"]] = None
        return self._fill("marks.html", "../", marks=every[::-1], agreement=marks.agreement(every), where=where)

    def missing(self, what: str, root: str = "../", heading: str = "Not here") -> str:
        """Why a page is not there. root: the way from its address to the front page's folder."""
        return self._fill("missing.html", root, what=what, heading=heading)

    @cached_property
    def marked(self) -> dict[tuple[str, str], list[Row]]:
        """(table, row) -> the readers' last marks on it."""
        found: dict[tuple[str, str], list[Row]] = {}
        for one in marks.current(marks.marks(self.library.home)):
            found.setdefault((one["table"], one["row_id"]), []).append(one)
        return found

    @cached_property
    def _edges(self) -> dict[str, set[str]]:
        """What is made from what, of the tables and models that are declared: marks are about all of them."""
        every = home_front.edges(self.library)
        return {asset: {one for one in above if one in SCHEMAS} for asset, above in every.items() if asset in SCHEMAS}

    def _model(self, record: Record, around: Around) -> str:
        entry = self.library.history.entries[record.table, record.ref.version]
        curve = training.result_of(self.library.home, entry).get("loss_curve") or []
        return self._fill(
            "model.html", "../",
            record=record, around=around, trained=self.library.trained_on(entry, SAMPLES),
            wrote=self.library.wrote(record.id), scores=self._scores_of(record.id), curve=curve,
            marked=self.marked.get((record.table, record.id), []),
            verdicts=marks.VERDICTS, message="", where=self.library.model_columns_of,
        )  # fmt: skip

    def _items(self, record: Record) -> list[tuple[Record, list[Record]]]:
        """Of a score: every question with its judged answers, those that are most often wrong first."""
        if not any(one.shared and one.to == "benchmark_verdicts" for one in references(record.table)):
            return []
        judged = self.library.behind(record)
        questions = self.library.subjects(judged)
        grouped: dict[Record, list[Record]] = {}
        for one in judged:
            grouped.setdefault(questions[one], []).append(one)

        def share(answers: list[Record]) -> float:
            return sum(one.values["passed"] is True for one in answers) / len(answers)

        return sorted(grouped.items(), key=lambda pair: (share(pair[1]), -agreed(pair[1])[1], pair[0].id))

    def _graph(self, failures: Sequence[home_front.Failure]) -> Markup:
        links = {asset: self.links.table(asset) or "" for asset in self._edges}
        return pictures.graph(self._edges, home_front.states(self.library, failures), links)

    def _tables(self) -> list[tuple[str, int, int]]:
        """Tables with rows: partitions and rows of the newest versions."""
        rows: Counter[str] = Counter()
        parts: Counter[str] = Counter()
        for (asset, _), entry in self.library.history.newest.items():
            if asset in SCHEMAS and asset not in MODEL_ROLES:
                rows[asset] += entry.ref.rows
                parts[asset] += 1
        return [(asset, parts[asset], rows[asset]) for asset in SCHEMAS if asset in parts]

    def _all_models(self) -> list[tuple[Record, Entry]]:
        history = self.library.history
        found = [(one, self.library.load(entry, [one])) for one, entry in history.models.items()]
        return [(records[0], history.models[one]) for one, records in found if records]

    def _at(self, rounds: Sequence[em.Round]) -> dict[str, str | None]:
        """Where the seeds that the rounds name are."""
        named = {one.problem_id for each in rounds for one in (*each.gains, *each.losses)}
        found: dict[str, str | None] = {}
        for entry in self.library.entries("seed_problems"):
            found |= {one.id: self.links.record(one) for one in self.library.load(entry, sorted(named))}
        return found

    def _fill(self, template: str, root: str, **values: Any) -> str:
        return self.environment.get_template(template).render(root=root, **values)


# ---- what templates ask
def sections(joined: Joined) -> dict[str, list[Record]]:
    """The tables below a record in the order in which the data flow; a verdict is shown with what it judges."""
    shown = {table: rows for table, rows in joined.below.items() if _judges(table) not in joined.below}
    return {table: shown[table] for table in SCHEMAS if table in shown}


def _judges(table: str) -> str | None:
    """The table whose rows this one judges, as a verdict has its rollout's id."""
    if owns_its_id(table):
        return None
    own = id_column(table)
    return next((one.to for one in references(table) if not one.shared and one.name == own and about(one.to)), None)


def attempts(joined: Joined, table: str) -> list[Attempt]:
    """The rows of a table of answers with their verdicts; the wrong ones first."""
    verdicts = {one.id: one for other, rows in joined.below.items() if _judges(other) == table for one in rows}
    found = [Attempt(one, verdicts.get(one.id)) for one in joined.below[table]]
    return sorted(
        found, key=lambda one: (one.record.values["model"], one.passed is not False, one.record.values["attempt"])
    )


def is_judged(table: str) -> bool:
    """Whether there is a table of verdicts on its rows."""
    return any(_judges(other) == table for other in SCHEMAS)


def votes(label: Record) -> list[tuple[str, int]]:
    """Answers of a label and their votes, most first; "" is no answer."""
    return Counter(label.values["answers"]).most_common()


def agreed(answers: Sequence[Record]) -> tuple[str, int]:
    """The answer that most attempts at a question gave, and how many did; no answer is none."""
    given = Counter(str(one.values["answer"]) for one in answers if one.values.get("answer") not in (None, ""))
    return given.most_common(1)[0] if given else ("", 0)


def survivor(joined: Joined) -> Record | None:
    """What a dropped problem fell for."""
    return next((record for via, record in joined.above if via == "survivor_id"), None)


def texts(record: Record, besides: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """The texts to read of a record, without those that stand in `besides` already."""
    told = besides or {}
    return [
        (name, str(record.values[name])) for name in TEXTS
        if record.values.get(name) not in (None, "") and told.get(name) != record.values[name]
    ]  # fmt: skip


def facts(record: Record, besides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The other columns that hold something, without those that stand in `besides` already, as ids and models do."""
    told, elsewhere = besides or {}, {*TEXTS, *record.models, "concepts", "answers"}
    if record.table in SCHEMAS:
        elsewhere.add(id_column(record.table))
    return {
        name: value for name, value in record.values.items()
        if name not in elsewhere and not name.endswith("_ids")
        and value not in (None, "", []) and told.get(name) != value
    }  # fmt: skip


def chip_values(record: Record) -> list[str]:
    return list(dict.fromkeys(str(record.values[name]) for name in CHIPS if record.values.get(name)))


def own_words(row: Record, besides: Mapping[str, Any]) -> str:
    """A completion, unless all of it that says something was read into `besides`."""
    completion = str(row.values.get("completion") or "")
    read = [str(besides.get(name) or "") for name in ("rationale", "problem")]
    return "" if all(one and one in completion for one in read) else completion


def list_columns(table: str) -> list[str]:
    """Columns of a table's list. Of rows about a problem its text is one, the first where a number shows a row best."""
    names = [name for name in listing.shown_columns(table) if name != listing.PARTITION_COLUMN]
    columns = names[1:] or names
    if not about(table) or PROBLEM in columns:
        return columns
    at = 0 if columns[0] in listing.numbers(table) else 1
    return [*columns[:at], PROBLEM, *columns[at:]]


def problems_of(library: Library, records: Sequence[Record]) -> dict[Key, str]:
    """The text of the problem that each row is about; empty for what is about nothing else."""
    return {one.key: "" if one == other else other.gist for one, other in library.subjects(records).items()}


def comments(table: str) -> dict[str, str]:
    """Column -> what it means."""
    schema = SCHEMAS.get(table, pa.schema([]))
    return {one.name: (one.metadata or {}).get(b"comment", b"").decode() for one in schema}


def table_comment(table: str) -> str:
    schema = SCHEMAS.get(table)
    return (schema.metadata or {}).get(b"comment", b"").decode() if schema else ""


def singular(table: str) -> str:
    """What one row of the table is called."""
    return (
        id_column(table).removesuffix("_id").replace("_", " ")
        if owns_its_id(table)
        else table.replace("_", " ").rstrip("s")
    )


def gist(record: Record, length: int = 120) -> str:
    return short(record.gist, length)


def short(value: Any, length: int = 120) -> str:
    """A value on one line."""
    text = " ".join(number(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def number(value: Any) -> str:
    """A number as people read it, anything else as its text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(map(number, value))
    return str(value)


def counted(count: int, word: str) -> str:
    """How many of something: 1 record, 2 records."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def asked_query(asked: listing.Asked, **more: Any) -> str:
    """The query string of what is asked of a list."""
    known = {
        "partition": asked.partition, "where": asked.where, "q": asked.search,
        "in": asked.within if asked.search else "", "sort": asked.sort,
        "desc": "1" if asked.descending else "", **{f"is.{name}": value for name, value in asked.chosen.items()},
        "sample": asked.sample or "", **more,
    }  # fmt: skip
    return "&".join(f"{quote(name)}={quote(str(value))}" for name, value in known.items() if value not in ("", None))
