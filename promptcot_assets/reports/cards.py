"""Cards: the README of an exported data set or model. All of it is read from the lake, nothing is typed by hand."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from promptcot_assets.domains import DOMAINS, ProceduralDomain
from promptcot_assets.lake import Ref
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage.ancestry import cost, with_ancestors
from promptcot_assets.lineage.backfill import runs
from promptcot_assets.lineage.history import History, Rows, model_id
from promptcot_assets.settings.profile import Deduplication
from promptcot_assets.tables import MODEL_ROLES

OWN_LICENCE = "apache-2.0"  # of what the procedural domains write
NOT_RECORDED = "not recorded: ask its publisher"
SHOWN_HITS = 10
TAGS = ["promptcot-assets"]


def data_card(
    history: History,
    refs: Sequence[Ref],
    columns: Mapping[str, str],
    front: Mapping[str, Any],
    licence: str | None = None,
) -> str:
    """The card of exported rows of one table.

    columns: name -> meaning. front: what the hub's front matter says of the files (configs, dataset_info).
    licence: of the whole; without it the card names one only where every source is a procedural domain.
    """
    entries = [history.entries[ref.asset, ref.version] for ref in refs]
    rows = sum(ref.rows for ref in refs)
    empty = ["**No rows.** `datasets` reads such a set only with `streaming=True`.", ""] if rows == 0 else []
    body = [
        f"# {refs[0].asset}", "", f"{rows:,} rows, exported from the lake of a PromptCoT Assets home.", "", *empty,
        *_table(("column", "meaning"), [(f"`{name}`", meaning) for name, meaning in columns.items()]),
    ]  # fmt: skip
    return _card(history, entries, front, licence, body)


def model_card(history: History, entry: Entry, licence: str | None = None) -> str:
    """The card of one exported checkpoint, superseded or not."""
    with Rows(history) as rows:
        (about,) = rows.records(entry, [model_id(entry)]).values() if rows.are_there(entry) else ({},)
        scores = [
            (row["benchmark"], row["metric"], row["value"], f"[{row['low']:.3f}, {row['high']:.3f}]", row["questions"])
            for one in history.newest.values()
            if one.ref.asset == "benchmark_scores" and rows.are_there(one)
            for row in rows.where(one, "model = $model and compared_with is null", model=model_id(entry))
        ]
    body = [
        f"# {model_id(entry)}", "", f"`{entry.ref}`, data version `{entry.ref.data_version}`.", "",
        *_table(("training", ""), [(name, about[name]) for name in ("base", "examples", "steps", "tokens", "loss")
                                   if name in about]),
        "## Scores", "",
        *(_table(("benchmark", "metric", "value", "95 % interval", "questions"), scores) if scores
          else ["None in this lake.", ""]),
    ]  # fmt: skip
    return _card(history, [entry], {"library_name": "transformers", "pipeline_tag": "text-generation"}, licence, body)


def _card(
    history: History, entries: list[Entry], front: Mapping[str, Any], licence: str | None, body: list[str]
) -> str:
    behind = with_ancestors(history, entries)
    with Rows(history) as rows:
        sources = _sources(rows, behind)
        if licence is None and sources and {licence for *_, licence in sources} == {OWN_LICENCE}:
            licence = OWN_LICENCE
        head = {**front, **({"license": licence} if licence else {}), "tags": TAGS}
        parts = [
            "---", json.dumps(head), "---", *body,
            "## Sources and licences", "",
            *_table(("source", "what", "rows", "licence"), sources),
            "## Funnel", "", *_funnel(rows, behind),
            "## Contamination", "", *_contamination(rows, behind),
            "## Made from", "", *_versions(behind),
            "## Settings", "", *_settings(behind),
            "## Cost", "", f"{cost(behind)}, ancestors included.", "",
            "## Make it again", "", *_commands(history, behind),
        ]  # fmt: skip
    return "\n".join(parts)


def _sources(rows: Rows, behind: Iterable[Entry]) -> list[tuple[str, str, int, str]]:
    """(source, what it gave, rows, licence) of every seed source and every model from outside."""
    counts, bases = Counter[str](), dict[str, str]()
    for entry in behind:
        if entry.ref.asset == "seed_problems" and rows.are_there(entry):
            counts.update(
                {row["source"]: row["n"] for row in rows.where(entry, "true group by source", "source, count(*) as n")}
            )
        if entry.record.checkpoint and rows.has(entry, ["base"]):
            what = "teacher" if entry.ref.asset == "teacher_model" else "base model"
            bases |= {row["base"]: what for row in rows.where(entry, "base is not null", "base")}
    foreign = sorted((base, what) for base, what in bases.items() if base.partition("/")[0] not in MODEL_ROLES)
    seeds = [(source, "seed problems", count, licence_of(source)) for source, count in sorted(counts.items())]
    return seeds + [(base, what, 0, NOT_RECORDED) for base, what in foreign]


def licence_of(source: str) -> str:
    """What is known of a seed source's licence: procedural domains are this project's own."""
    return OWN_LICENCE if isinstance(DOMAINS.get(source), ProceduralDomain) else NOT_RECORDED


def _funnel(rows: Rows, behind: Iterable[Entry]) -> Iterator[str]:
    """Of every batch behind it, as long as the report is of the very problems that were used."""
    used = {entry.ref for entry in behind if entry.ref.asset == "problems"}
    reports = [
        entry
        for entry in rows.history.newest.values()
        if entry.ref.asset == "yield_report" and used & set(entry.commit.provenance.inputs) and rows.are_there(entry)
    ]
    steps = [row for one in reports for row in rows.where(one, "true order by domain, position")]
    names = ("batch", "domain", "step", "rows", "dropped")
    if steps:
        yield from _table(names, [[row[name] for name in names] for row in steps])
    else:
        yield from ("No synthetic problem is behind it." if not used else "No yield report of these batches.", "")


def _contamination(rows: Rows, behind: Sequence[Entry]) -> Iterator[str]:
    """Training seeds and synthetic problems behind it, searched for every benchmark item there is now."""
    from promptcot_assets.stages.decontamination import contaminated

    items = rows.history.newest.get(("benchmark_items", "all"))
    if items is None or not rows.are_there(items):
        yield from ("Not checked: there are no benchmark items in this lake.", "")
        return
    tables = [one for one in behind if one.ref.asset in ("seed_problems", "problems") and rows.are_there(one)]
    texts = {
        row["id"]: {**row, "table": one.ref.asset}
        for one in tables
        for row in rows.where(
            one, "split = 'train'" if one.ref.asset == "seed_problems" else "true", "problem_id as id, problem as text"
        )
    }
    asked = rows.where(items, "true", "item_id as id, benchmark, problem as text")
    ngram = _ngram(behind)
    hits = contaminated(list(texts.values()), asked, ngram).to_pylist() if texts and asked else []
    dirty = {hit["problem_id"] for hit in hits}
    by_table = Counter(texts[one]["table"] for one in dirty)
    benchmarks = ", ".join(
        f"{_cell(name)} {count:,}" for name, count in sorted(Counter(row["benchmark"] for row in asked).items())
    )
    yield (
        f"**{'Contaminated' if dirty else 'Clean'}**: {len(dirty):,} of {len(texts):,} training problems behind it "
        f"share {ngram} words in a row, or all their text, with one of {len(asked):,} items of `{items.ref}` "
        f"({benchmarks or 'no benchmark'}). Of these {by_table['seed_problems']:,} are seeds, "
        f"{by_table['problems']:,} synthetic; {_fell(rows, behind):,} more fell for that reason before."
    )
    yield ""
    if hits:
        shown = [
            (hit["problem_id"], hit["benchmark"], hit["item_id"], hit["matched_span"]) for hit in hits[:SHOWN_HITS]
        ]
        yield from _table(("problem", "benchmark", "item", "shared text"), shown)


def _fell(rows: Rows, behind: Iterable[Entry]) -> int:
    """Problems that decontamination took out of the batches behind it."""
    settled = {entry.commit.fingerprint for entry in behind if entry.ref.asset == "problems"}
    dropped = [one for one in rows.history.of_asset("dropped_problems") if one.commit.fingerprint in settled]
    newest = {one.commit.fingerprint: one for one in dropped if rows.are_there(one)}
    return sum(len(rows.ids(one, "reason like 'contaminated%'")) for one in newest.values())


def _ngram(behind: Iterable[Entry]) -> int:
    """The length that decontamination used, else the paper's."""
    for entry in behind:
        if entry.ref.asset == "problems":
            for section in json.loads(entry.commit.provenance.settings):
                if isinstance(section, dict) and "decontamination_ngram" in section:
                    return int(section["decontamination_ngram"])
    return Deduplication().decontamination_ngram


def _versions(behind: Iterable[Entry]) -> list[str]:
    names = ("ref", "rows or model", "data version", "code", "settings", "seed", "tokens", "seconds")
    return _table(names, [
        (f"`{one.ref}`", model_id(one) or f"{one.ref.rows:,}", f"`{one.ref.data_version}`", made.code_version,
         f"`{made.settings_hash}`", made.seed, made.tokens, made.seconds)
        for one in behind
        for made in (one.commit.provenance,)
    ])  # fmt: skip


def _settings(behind: Iterable[Entry]) -> list[str]:
    """Every settings text once, under its hash."""
    texts = {one.commit.provenance.settings_hash: one.commit.provenance.settings for one in behind}
    return ["```json", *(f'{{"{key}": {text}}}' for key, text in sorted(texts.items())), "```", ""]


def _commands(history: History, behind: Sequence[Entry]) -> list[str]:
    places = {(one.ref.asset, one.ref.partition) for one in behind}
    seeds = " or ".join(str(seed) for seed in sorted({one.commit.provenance.seed for one in behind}))
    return [
        f"With these settings as the profile (`PROMPTCOT_PROFILE`), `PROMPTCOT_SEED` {seeds}, and `PROMPTCOT_HOME` and "
        "`DAGSTER_HOME` set:", "",
        "```bash", *(run.command for run in runs(history, places)), "```", "",
    ]  # fmt: skip


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table, and the empty line after it."""
    return [_line(names), _line(["---"] * len(names)), *map(_line, rows), ""]


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(value: Any) -> str:
    match value:
        case bool() | None:
            return "" if value is None else str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.6g}"
    return html.escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")
