"""One row up to the seeds and concepts it comes from, or down to everything that comes from it.

Rows are walked one by one along the ids they carry (references.py), within the exact versions their commits were made
from. A model is learned from whole tables, so above and below a model the walk goes on table by table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from promptcot_assets.lake import LakeError, Ref
from promptcot_assets.lake.data_version import identifier, quoted
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage.history import History, Rows, model_id
from promptcot_assets.tables import MODEL_ROLES
from promptcot_assets.tables.references import (
    Reference,
    counted_from,
    id_column,
    learned_rows,
    model_columns,
    references,
)
from promptcot_assets.text.printing import Branch, short, tree

MAX_GROUP = 20  # a reference to more rows than these is shown as their table and number
MAX_ROWS = 5000  # of a downward trace
SHOWN = 5  # children of one table in a printed tree


@dataclass(frozen=True)
class Node:
    """A row or a model of one version (`row` is its id), or all of that version (`row` is None)."""

    ref: Ref
    row: str | None = None


@dataclass
class Graph:
    """What was walked over. Edges lead away from the start; their text is the column that made the connection."""

    starts: list[Node]
    edges: dict[Node, dict[Node, str]] = field(default_factory=dict)
    notes: dict[Node, str] = field(default_factory=dict)  # what the node is, for people
    missing: list[dict[str, Any]] = field(default_factory=list)  # ids that resolve to no row of this lake
    unreadable: set[Ref] = field(default_factory=set)  # versions whose rows garbage collection took

    def __post_init__(self) -> None:
        self.edges |= {node: {} for node in self.starts}

    def add(self, start: Node, end: Node, via: str) -> list[Node]:
        """[end] when it is new to the graph."""
        self.edges[start].setdefault(end, via)
        if end in self.edges:
            return []
        self.edges[end] = {}
        return [end]

    def rows_by_version(self) -> dict[Ref, list[str]]:
        rows: dict[Ref, list[str]] = defaultdict(list)
        for node in self.edges:
            if node.row is not None:
                rows[node.ref].append(node.row)
        return rows


def trace(home: Path, row_id: str, down: bool = False) -> tuple[History, Graph]:
    """The graph above (or below) a row or model, from the newest version that has it.

    Raises: LakeError when nothing has this id, or more than MAX_ROWS rows descend from it.
    """
    history = History(home)
    with Rows(history) as rows:
        graph = (descend if down else ascend)(rows, starts_of(rows, row_id))
        _describe(rows, graph)
    return history, graph


def starts_of(rows: Rows, row_id: str) -> list[Node]:
    """Where the row or model is now. Raises: LakeError when nothing has this id."""
    model = rows.history.models.get(row_id)
    return [Node(entry.ref, row_id) for entry in ([model] if model else rows.find(row_id))]


# ---- up
def ascend(rows: Rows, starts: Sequence[Node]) -> Graph:
    """What the given rows, and the rows they refer to, were made from."""
    graph, level = Graph(list(starts)), list(starts)
    while level:
        found: list[Node] = []
        for ref in dict.fromkeys(node.ref for node in level):
            entry = rows.history.entries[ref.asset, ref.version]
            own = [node for node in level if node.ref == ref]
            whole = [node for node in own if node.row is None or entry.record.checkpoint]
            ids = [node.row for node in own if node.row is not None and not entry.record.checkpoint]
            for node in whole:
                for above in rows.history.inputs(entry):
                    found += graph.add(node, _whole(above), "made from")
            if ids:
                found += _rows_above(rows, graph, entry, ids)
                found += _writers(rows, graph, entry, ids)
        level = found
    return graph


def _rows_above(rows: Rows, graph: Graph, entry: Entry, ids: list[str]) -> Iterator[Node]:
    """Connect the rows `ids` with what they refer to; the nodes that are new."""
    resolved: dict[str, set[str]] = {}  # column -> rows whose reference was found
    named_by = (*references(entry.ref.asset), *counted_from(entry.ref.asset))
    for reference, other, pairs in _readable(rows, graph, entry, named_by):
        wanted = f"select * from ({pairs}) where own in (select unnest($ids))"
        grouped = f"select own, list(other order by other) from ({wanted}) group by own"
        named = dict(rows.database.execute(grouped, {"ids": ids}).fetchall())
        for own in filter(named.__contains__, ids):
            start, group = Node(entry.ref, own), Node(other.ref)
            if len(named[own]) > MAX_GROUP:
                graph.notes[group] = f"{len(named[own]):,} of {other.ref.rows:,} rows"
                yield from graph.add(start, group, reference.name)
            else:
                for one in named[own]:
                    yield from graph.add(start, Node(other.ref, one), reference.name)
        if not reference.shared:
            resolved.setdefault(reference.name, set()).update(named)
    records = rows.records(entry, ids) if any(set(ids) - found for found in resolved.values()) else {}
    for column, found_for in resolved.items():
        for own in records.keys() - found_for:
            if records[own][column] not in (None, "[]"):
                graph.missing.append(_missing(entry, own, column, records[own][column]))


def _writers(rows: Rows, graph: Graph, entry: Entry, ids: list[str]) -> Iterator[Node]:
    """Connect the rows `ids` with the models that wrote, judged or shaped them; the nodes that are new."""
    columns = [column for column in model_columns(entry.ref.asset) if rows.has(entry, [column])]
    inputs = [one for one in rows.history.inputs(entry) if one.record.checkpoint]
    near = {model_id(one): one for one in reversed(rows.history.nearest(entry)) if one.record.checkpoint}
    if columns:
        for own, record in rows.records(entry, ids).items():
            for column in columns:
                name = record[column]
                model = near.get(name) or rows.history.models.get(name)
                if model:
                    yield from graph.add(Node(entry.ref, own), _whole(model), column)
                elif str(name).partition("/")[0] in MODEL_ROLES:
                    graph.missing.append(_missing(entry, own, column, name))
    else:
        for own in ids:
            for model in inputs:
                yield from graph.add(Node(entry.ref, own), _whole(model), "made with")


def _readable(
    rows: Rows, graph: Graph, entry: Entry, named_by: Iterable[Reference], known: Container[Ref] | None = None
) -> Iterator[tuple[Reference, Entry, str]]:
    """The joins of `entry` (with what is `known`) that can be read; the graph notes the versions that cannot."""
    for reference, other, pairs in rows.joins(entry, named_by):
        if known is None or other.ref in known:
            if pairs:
                yield reference, other, pairs
            else:
                graph.unreadable |= {one.ref for one in (entry, other) if not rows.are_there(one)}


def _missing(entry: Entry, row: str, column: str, value: Any) -> dict[str, Any]:
    return {"table": entry.ref.asset, "row": row, "column": column, "value": value}


def _whole(entry: Entry) -> Node:
    return Node(entry.ref, model_id(entry) or None)


# ---- down
def descend(rows: Rows, starts: Sequence[Node]) -> Graph:
    """What was made from the given rows: in the newest versions, and in older ones that these still rest on.

    Raises: LakeError when that is more than MAX_ROWS rows.
    """
    graph = Graph([one for start in starts for one in occurrences(rows, start)])
    for start in list(graph.starts):
        for carrier in carriers(rows, start):
            graph.add(start, carrier, "carried by")
    for entry in rows.history.live:
        if not entry.record.checkpoint:
            _rows_below(rows, graph, entry)
        _whole_below(rows, graph, entry)
        if len(graph.edges) > MAX_ROWS:
            raise LakeError(f"more than {MAX_ROWS:,} rows descend from {starts[0].row}; `promptcot recall` counts them")
    return graph


def occurrences(rows: Rows, start: Node) -> list[Node]:
    """The same row in every version in use, the given one first."""
    same = [entry for entry in rows.history.live if entry.ref.asset == start.ref.asset and entry.ref != start.ref]
    if start.row in rows.history.models or start.row is None:
        return [start]
    condition = f"{identifier(id_column(start.ref.asset))} = {quoted(start.row)}"
    return [start] + [Node(one.ref, start.row) for one in same if rows.are_there(one) and rows.ids(one, condition)]


def carriers(rows: Rows, concept: Node) -> list[Node]:
    """The seed problems that carry a concept; none for any other row."""
    entry = rows.history.entries[concept.ref.asset, concept.ref.version]
    found = []
    for _, seeds, pairs in rows.joins(entry, counted_from(entry.ref.asset)):
        sql = f"select other from ({pairs}) where own = $id order by other"
        found += [Node(seeds.ref, one) for (one,) in rows.database.execute(sql, {"id": concept.row}).fetchall()]
    return found


def _rows_below(rows: Rows, graph: Graph, entry: Entry) -> None:
    """Connect the rows of `entry` with rows in the graph that they refer to."""
    known = graph.rows_by_version()
    for reference, other, pairs in _readable(rows, graph, entry, references(entry.ref.asset), known):
        sql = f"select other, own from ({pairs}) where other in (select unnest($ids)) order by all"
        for above, own in rows.database.execute(sql, {"ids": known[other.ref]}).fetchall():
            graph.add(Node(other.ref, above), Node(entry.ref, own), reference.name)


def _whole_below(rows: Rows, graph: Graph, entry: Entry) -> None:
    """Connect a commit with the models and whole tables in the graph that it was made from, a model also with rows."""
    known, end = graph.rows_by_version(), _whole(entry)
    for given in rows.history.inputs(entry):
        if _whole(given) in graph.edges:
            graph.add(_whole(given), end, "made with" if given.record.checkpoint else "made from")
        elif entry.record.checkpoint and given.ref in known and rows.are_there(given):
            column = identifier(id_column(given.ref.asset))
            learned = f"{column} in (select unnest($ids)) and {learned_rows(given.ref.asset)}"
            for one in rows.ids(given, learned, ids=known[given.ref]):
                graph.add(Node(given.ref, one), end, "trains")


# ---- what is printed
def as_json(history: History, graph: Graph) -> dict[str, Any]:
    """Nodes and edges (indices of nodes, away from the start)."""
    numbers = {node: at for at, node in enumerate(graph.edges)}
    return {
        "starts": [numbers[node] for node in graph.starts],
        "nodes": [_node_json(history, graph, node) for node in graph.edges],
        "edges": [
            {"from": numbers[start], "to": numbers[end], "via": via}
            for start, ends in graph.edges.items()
            for end, via in ends.items()
        ],
        "missing": graph.missing,
        "unreadable": sorted(map(str, graph.unreadable)),
    }


def as_text(history: History, graph: Graph) -> str:
    """One tree a start; a node is printed once with what is beyond it, an edge that only shortens a path not at all."""
    kept, printed = _without_shortcuts(graph), set[Node]()
    lines = [tree(_branch(history, graph, kept, node, "", printed)) for node in graph.starts]
    lines += [
        f"! {one['table']} {one['row']}: {one['column']} {one['value']!r} is in no version this row was made from"
        for one in graph.missing
    ]
    lines += [f"! {ref}: not followed, its rows were garbage-collected" for ref in sorted(map(str, graph.unreadable))]
    return "\n".join(lines)


def kind_of(history: History, node: Node) -> str:
    if node.row is None:
        return "table"
    return "model" if history.entries[node.ref.asset, node.ref.version].record.checkpoint else "row"


def _node_json(history: History, graph: Graph, node: Node) -> dict[str, Any]:
    return {
        "kind": kind_of(history, node),
        "table": node.ref.asset,
        "id": node.row,
        "partition": node.ref.partition,
        "version": node.ref.version,
        "data_version": node.ref.data_version,
        "newest": history.is_newest(node.ref),
        "text": graph.notes.get(node, ""),
    }


def _branch(
    history: History, graph: Graph, edges: dict[Node, dict[Node, str]], node: Node, via: str, printed: set[Node]
) -> Branch:
    label = f"{via}: " if via else ""
    label += {"row": f"{node.ref} {node.row}", "model": f"{node.row} {node.ref}", "table": str(node.ref)}[
        kind_of(history, node)
    ]
    label += "" if history.is_newest(node.ref) else " (superseded)"
    if node in printed:
        return Branch(f"{label} (above)" if edges[node] else label)
    printed.add(node)
    branch = Branch(f"{label}  {short(graph.notes[node])}" if graph.notes.get(node) else label)
    of_table: dict[str, list[Node]] = defaultdict(list)
    for child in edges[node]:
        of_table[child.ref.asset].append(child)
    for table, children in of_table.items():
        for child in children[:SHOWN]:
            branch.children.append(_branch(history, graph, edges, child, edges[node][child], printed))
        if len(children) > SHOWN:
            branch.children.append(Branch(f"… {len(children) - SHOWN:,} more of {table} (--json lists all)"))
    return branch


def _without_shortcuts(graph: Graph) -> dict[Node, dict[Node, str]]:
    """The edges without those whose end can be reached on a longer way from the same start (transitive reduction)."""
    numbers = {node: 1 << at for at, node in enumerate(graph.edges)}
    order = TopologicalSorter({node: ends.keys() for node, ends in graph.edges.items()}).static_order()
    beyond: dict[Node, int] = {}  # bit set of all nodes that can be reached
    kept: dict[Node, dict[Node, str]] = {}
    for node in order:
        further = 0
        for end in graph.edges[node]:
            further |= beyond[end]
        kept[node] = {end: via for end, via in graph.edges[node].items() if not numbers[end] & further}
        beyond[node] = further
        for end in graph.edges[node]:
            beyond[node] |= numbers[end]
    return kept


def _describe(rows: Rows, graph: Graph) -> None:
    """Note beside every node what it is: a row's most telling column, a model's training, a table's size."""
    for ref, ids in graph.rows_by_version().items():
        entry = rows.history.entries[ref.asset, ref.version]
        if entry.record.checkpoint:
            trained = rows.records(entry, ids) if rows.has(entry, ["examples", "steps"]) else {}
            found: dict[str, Any] = {
                one: f"trained on {row['examples']:,} examples, {row['steps']:,} steps" for one, row in trained.items()
            }
        else:
            found = rows.gists(entry, ids)
        graph.notes |= {Node(ref, one): short(text) for one, text in found.items() if text is not None}
    for node in graph.edges:
        if node.row is None:
            graph.notes.setdefault(node, f"{node.ref.rows:,} rows")
