"""Tables as folders that `datasets.load_dataset` reads, models as folders that transformers reads, with their cards."""

from __future__ import annotations

import base64
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake import Lake, LakeError, Ref, Row
from promptcot_assets.lake.checkpoints import MANIFEST
from promptcot_assets.lake.disk import sync_all
from promptcot_assets.lineage.history import History
from promptcot_assets.reports import plots
from promptcot_assets.reports.cards import data_card, model_card
from promptcot_assets.reports.croissant import write_croissant
from promptcot_assets.stages.em import curves
from promptcot_assets.tables import MODEL_ROLES, SCHEMAS, open_lake

Format = Literal["parquet", "jsonl"]

# What a trainer wants (TRL's dataset formats) as chats: column -> the (role, column) of its turns.
CHATS: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "sft_examples": {"messages": (("user", "prompt"), ("assistant", "completion"))},
    "preference_pairs": {
        "prompt": (("user", "prompt"),),
        "chosen": (("assistant", "chosen"),),
        "rejected": (("assistant", "rejected"),),
    },
}
# The same as plain text; every other table is exported as it is.
TRAINING_COLUMNS = {
    table: tuple(column for turns in chat.values() for _, column in turns) for table, chat in CHATS.items()
}
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

FIGURES: dict[str, tuple[str, Callable[..., str]]] = {
    "em": ("em_curves", plots.em_figure),
    "funnel": ("yield_report", plots.funnel),
    "distribution": ("distribution", plots.problem_map),
}


def export_table(
    home: Path,
    asset: str,
    partition: str | None,
    out: Path,
    format_: Format = "parquet",
    chats: bool = False,
    licence: str | None = None,
    croissant: bool = False,
) -> list[Ref]:
    """Write the newest rows of `asset` (of one partition, or of all) to `out/data/`, one file a partition, and a card.

    chats: training tables as lists of {role, content} instead of plain text. croissant: with its metadata and the
    provenance of every row (croissant.py).
    The folder appears at once when it is complete. Returns the exact refs that are in it.
    Raises: LakeError when there is no such table or partition, it has no chats, or `out` is in the way.
    """
    history = History(home)
    refs = newest_refs(history, asset, partition)
    if chats and asset not in CHATS:
        raise LakeError(f"{asset} has no turns to make messages of; {' and '.join(CHATS)} have")
    lake, columns = open_lake(home), list(TRAINING_COLUMNS.get(asset, SCHEMAS[asset].names))
    schema = _chat_schema(asset) if chats else pa.schema([SCHEMAS[asset].field(name) for name in columns])
    with complete_folder(out) as part:
        (part / "data").mkdir(parents=True)
        for ref in refs:
            batches = _rows(lake, ref, schema, CHATS[asset] if chats else None)
            _write(batches, _bare(schema), part / "data" / f"{ref.partition}.{format_}", format_)
        meanings = {field.name: (field.metadata or {}).get(b"comment", b"").decode() for field in schema}
        (part / "README.md").write_text(data_card(history, refs, meanings, _front(schema, format_), licence))
        if croissant:
            write_croissant(part, history, lake, refs, schema, licence)
    return refs


def export_model(home: Path, role: str, partition: str | None, out: Path, licence: str | None = None) -> list[Ref]:
    """Write the newest checkpoint of `role` as a folder that transformers loads, with its card; its ref.

    Raises: LakeError when there is no such model, more than one partition has one and none is named, a file of it is
    damaged, or `out` is in the way.
    """
    history = History(home)
    refs = newest_refs(history, role, partition)
    if len(refs) > 1:
        raise LakeError(
            f"there is more than one {role}: name a partition, one of {', '.join(r.partition for r in refs)}"
        )
    folder = open_lake(home).checkpoint(refs[0])
    with complete_folder(out) as part:
        shutil.copytree(folder, part, ignore=shutil.ignore_patterns(MANIFEST))
        (part / "README.md").write_text(model_card(history, history.entries[role, refs[0].version], licence))
    return refs


def push(folder: Path, repository: str, kind: Literal["dataset", "model"]) -> str:
    """Upload an exported folder to the Hugging Face hub (`org/name`, made private when it is new); the commit's URL.

    Raises: LakeError with the hub's own words; the folder stays as it is.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError

    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        hub.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
        commit = hub.upload_folder(
            folder_path=folder, repo_id=repository, repo_type=kind, commit_message="promptcot export"
        )
    except (HTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise LakeError(
            f"{folder} is written, but cannot be pushed to {repository}: {error}; see `hf auth login`, "
            f"then `hf upload {repository} {folder} --repo-type {kind}`"
        ) from error
    return str(commit.commit_url)


def export_figure(
    home: Path, name: str, out: Path, others: Sequence[Path] = (), frozen: Sequence[Path] = ()
) -> list[Ref]:
    """Write a figure as PNG. Returns the exact refs that it shows. Raises: LakeError when its table is missing.

    others: homes of more runs of the same settings (other seeds); the em figure then draws its bands over the runs.
    frozen: homes of em.selection: frozen, up to their last round; the em figure then has the paper's curve without an
    E-step too.
    """
    if name not in FIGURES:
        raise LakeError(f"no figure {name!r}; there are {', '.join(FIGURES)}")
    if (others or frozen) and name != "em":
        raise LakeError(f"figure {name} shows one home; only the em figure is drawn over several")
    asset, plot = FIGURES[name]
    of = {one: newest_refs(History(one), asset, None) for one in (home, *others)}
    runs = [[row for ref in refs for row in open_lake(one).table(ref).to_pylist()] for one, refs in of.items()]
    markdown = plot(*runs, frozen=[_curves_of_rounds(one) for one in frozen]) if frozen else plot(*runs)
    refs = [ref for refs in of.values() for ref in refs]
    encoded = markdown.partition("base64,")[2].removesuffix(")")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(base64.b64decode(encoded, validate=True))
    except OSError as error:
        raise LakeError(f"cannot write {out}: {error}") from error
    return refs


def _curves_of_rounds(home: Path) -> list[Row]:
    """The points of the em figure from a home that has rounds, and neither a control nor a common pool."""
    lake, history = open_lake(home), History(home)
    measured = [row for ref in newest_refs(history, "em_bounds", None) for row in lake.table(ref).to_pylist()]
    rounds = sorted(newest_refs(history, "problem_generator", None), key=lambda ref: ref.partition)
    models = [("cold_start", 0, ref) for ref in newest_refs(history, "cold_problem_generator", None)]
    models += [("em", number, ref) for number, ref in enumerate(rounds, 1)]
    steps = curves.steps_of((*of, lake.table(ref, ["steps"])["steps"][0].as_py()) for *of, ref in models)
    return curves.em_curves(measured, [], steps)


@contextmanager
def complete_folder(out: Path) -> Iterator[Path]:
    """A path beside `out` to write a folder to, which becomes `out` at the end; nothing is left when that fails.

    Raises: LakeError when `out` is in the way or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LakeError(f"{out} is in the way: --out must name a folder that is empty or not there yet")
    part = out.absolute().with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        yield part
        if out.exists():
            out.rmdir()
        sync_all(part)
        part.rename(out)
    except OSError as error:
        raise LakeError(f"cannot write {out}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def newest_refs(history: History, asset: str, partition: str | None) -> list[Ref]:
    """The newest refs of a table or model. Raises: LakeError naming what there is instead."""
    if asset not in SCHEMAS:
        raise LakeError(f"no table {asset!r}; there are {', '.join(sorted(set(SCHEMAS) - set(MODEL_ROLES)))}")
    newest = {entry.ref.partition: entry.ref for (name, _), entry in history.newest.items() if name == asset}
    if not newest:
        raise LakeError(f"{asset} is not in the lake yet; materialize it first (`promptcot run`)")
    if partition is not None and partition not in newest:
        raise LakeError(f"{asset} has no partition {partition!r}; it has {', '.join(newest)}")
    return [newest[partition]] if partition is not None else list(newest.values())


def _chat_schema(asset: str) -> pa.Schema:
    def comment(turns: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return {"comment": ", then ".join(f"{role}: {column}" for role, column in turns)}

    return pa.schema([pa.field(name, _TURNS, False, comment(turns)) for name, turns in CHATS[asset].items()])


def _rows(
    lake: Lake, ref: Ref, schema: pa.Schema, chats: dict[str, tuple[tuple[str, str], ...]] | None
) -> Iterator[pa.RecordBatch]:
    """The rows of one version in the columns of `schema`."""
    read = schema.names if chats is None else [column for turns in chats.values() for _, column in turns]
    for batch in lake.batches(ref, read):
        rows = batch.to_pylist()
        if chats is not None:
            rows = [
                {
                    name: [{"role": role, "content": row[column]} for role, column in turns]
                    for name, turns in chats.items()
                }
                for row in rows
            ]
        yield pa.RecordBatch.from_pylist(rows, _bare(schema))


def _bare(schema: pa.Schema) -> pa.Schema:
    """Names and types alone."""
    return pa.schema([(field.name, field.type) for field in schema])


def _front(schema: pa.Schema, format_: Format) -> dict[str, Any]:
    """Front matter of the card: where the rows are, and their types (which JSON Lines and empty files do not tell)."""
    files = [{"split": "train", "path": f"data/*.{format_}"}]
    features = [{"name": field.name, **_feature(field.type)} for field in schema]
    return {"configs": [{"config_name": "default", "data_files": files}], "dataset_info": {"features": features}}


def _feature(type_: pa.DataType) -> dict[str, Any]:
    """A type as `datasets` spells it in a card."""
    if pa.types.is_list(type_):
        inner = _feature(type_.value_type)
        return {"list": inner.get("dtype") or inner["struct"]}
    if pa.types.is_struct(type_):
        return {"struct": [{"name": field.name, **_feature(field.type)} for field in type_]}
    return {"dtype": {"double": "float64"}.get(str(type_), str(type_))}


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path, format_: Format) -> None:
    if format_ == "parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
    else:
        with path.open("w", encoding="utf-8") as sink:
            for batch in batches:
                sink.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
