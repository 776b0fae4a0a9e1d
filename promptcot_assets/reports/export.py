"""A table of the lake as a folder that `datasets.load_dataset` reads, with a card written from its lineage."""

from __future__ import annotations

import base64
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake import Lake, LakeError, Ref
from promptcot_assets.lake.schemas import MODEL_ROLES, SCHEMAS
from promptcot_assets.reports import plots
from promptcot_assets.reports.history import History
from promptcot_assets.reports.lineage import settings_hash, with_ancestors

Format = Literal["parquet", "jsonl"]

# What a trainer wants (TRL's dataset formats); every other table is exported as it is.
TRAINING_COLUMNS = {"sft_examples": ("prompt", "completion"), "preference_pairs": ("prompt", "chosen", "rejected")}

FIGURES: dict[str, tuple[str, Callable[..., str]]] = {
    "em": ("em_curves", plots.em_figure),
    "funnel": ("yield_report", plots.funnel),
    "distribution": ("distribution", plots.problem_map),
}


def export_table(home: Path, asset: str, partition: str | None, out: Path, format_: Format = "parquet") -> list[Ref]:
    """Write the newest rows of `asset` (of one partition, or of all) to `out/data/`, one file a partition, and a card.

    The folder appears at once when it is complete. Returns the exact refs that are in it.
    Raises: LakeError when there is no such table or partition, or `out` is in the way.
    """
    history = History(home)
    refs = _refs(history, asset, partition)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LakeError(f"{out} is in the way: --out must name a folder that is empty or not there yet")
    columns = list(TRAINING_COLUMNS.get(asset, SCHEMAS[asset].names))
    lake, schema = Lake(home), pa.schema([SCHEMAS[asset].field(name).remove_metadata() for name in columns])
    part = out.absolute().with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        (part / "data").mkdir(parents=True)
        for ref in refs:
            _write(lake.batches(ref, columns), schema, part / "data" / f"{ref.partition}.{format_}", format_)
        (part / "README.md").write_text(card(history, asset, refs, columns, format_))
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise LakeError(f"cannot write {out}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return refs


def export_figure(home: Path, name: str, out: Path, others: Sequence[Path] = ()) -> list[Ref]:
    """Write a figure as PNG. Returns the exact refs that it shows. Raises: LakeError when its table is missing.

    others: homes of more runs of the same settings (other seeds); the em figure then draws its bands over the runs.
    """
    if name not in FIGURES:
        raise LakeError(f"no figure {name!r}; there are {', '.join(FIGURES)}")
    if others and name != "em":
        raise LakeError(f"figure {name} shows one home; only the em figure is drawn over several")
    asset, plot = FIGURES[name]
    of = {one: _refs(History(one), asset, None) for one in (home, *others)}
    markdown = plot(*([row for ref in refs for row in Lake(one).table(ref).to_pylist()] for one, refs in of.items()))
    refs = [ref for refs in of.values() for ref in refs]
    encoded = markdown.partition("base64,")[2].removesuffix(")")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(base64.b64decode(encoded, validate=True))
    except OSError as error:
        raise LakeError(f"cannot write {out}: {error}") from error
    return refs


def card(history: History, asset: str, refs: Sequence[Ref], columns: Sequence[str], format_: Format) -> str:
    """The README of an exported folder: what is in it, which versions, what these were made from and what that cost."""
    entries = [history.entries[ref.asset, ref.version] for ref in refs]
    above = [one for one in with_ancestors(history, entries) if one not in entries]
    tokens = sum(entry.commit.provenance.tokens for entry in [*entries, *above])
    seconds = sum(entry.commit.provenance.seconds for entry in [*entries, *above])
    schema = SCHEMAS[asset]
    comments = {name: (schema.field(name).metadata or {}).get(b"comment", b"").decode() for name in columns}
    head = {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": f"data/*.{format_}"}]}]}
    return "\n".join([
        "---", json.dumps(head), "---", f"# {asset}", "",
        f"{sum(ref.rows for ref in refs):,} rows, exported from the lake of a PromptCoT Assets home.", "",
        "| column | meaning |", "|---|---|", *(f"| `{name}` | {comment} |" for name, comment in comments.items()), "",
        "## Versions", "",
        "| ref | rows | data version | code | settings | seed | run |", "|---|---|---|---|---|---|---|",
        *(
            f"| `{entry.ref}` | {entry.ref.rows:,} | `{entry.ref.data_version}` "
            f"| {entry.commit.provenance.code_version} | `{settings_hash(entry)}` "
            f"| {entry.commit.provenance.seed} | {entry.commit.provenance.run_id} |"
            for entry in entries
        ), "",
        "## Made from", "",
        *(f"- `{entry.ref}`, data version `{entry.ref.data_version}`, {entry.ref.rows:,} rows" for entry in above), "",
        f"In all {tokens:,} tokens generated, scored or trained on, and {seconds:,.0f} s of computing.",
        f"The tree of commits: `promptcot lineage '{refs[0]}'`.", "",
    ])  # fmt: skip


def _refs(history: History, asset: str, partition: str | None) -> list[Ref]:
    """The newest refs of a table. Raises: LakeError naming what there is instead."""
    if asset in MODEL_ROLES:
        raise LakeError(
            f'{asset} is a model, so there is a folder to copy: promptcot sql "select model_id, path from models"'
        )
    if asset not in SCHEMAS:
        raise LakeError(f"no table {asset!r}; there are {', '.join(sorted(set(SCHEMAS) - set(MODEL_ROLES)))}")
    newest = {entry.ref.partition: entry.ref for (name, _), entry in history.newest.items() if name == asset}
    if not newest:
        raise LakeError(f"{asset} is not in the lake yet; materialize it first (`promptcot run`)")
    if partition is not None and partition not in newest:
        raise LakeError(f"{asset} has no partition {partition!r}; it has {', '.join(newest)}")
    return [newest[partition]] if partition is not None else list(newest.values())


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path, format_: Format) -> None:
    if format_ == "parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch.cast(schema))
    else:
        with path.open("w", encoding="utf-8") as sink:
            for batch in batches:
                sink.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
