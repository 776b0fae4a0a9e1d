"""Croissant metadata of an exported table: what its files and columns are, and where each row comes from.

`croissant.json` describes the files as the ML Commons format 1.0 has it. `provenance.parquet` beside it has a line for
every row that an exported row names, with the exact version that it is in: `file` and `row` (from 0) say which exported
row, so that also tables exported without their ids can be followed. Further up leads `promptcot trace`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.lake import Lake, LakeError, Ref
from promptcot_assets.lake.disk import file_hash
from promptcot_assets.lineage.ancestry import with_ancestors
from promptcot_assets.lineage.history import History, Rows
from promptcot_assets.tables import TABLES
from promptcot_assets.tables.references import id_column, references

CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo", "citeAs": "cr:citeAs",
    **{name: f"cr:{name}" for name in (
        "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
        "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references",
        "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform")},
    "data": {"@id": "cr:data", "@type": "@json"}, "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
}  # fmt: skip
ENCODINGS = {".parquet": "application/x-parquet", ".jsonl": "application/jsonlines"}
PROVENANCE = pa.schema([
    pa.field(name, pa.int64() if name == "row" else pa.string())
    for name in ("file", "row", "row_id", "column", "from_table", "from_version", "from_id")
])  # fmt: skip
MEANINGS = {
    "file": "exported file", "row": "row in it, from 0", "row_id": "id of the exported row",
    "column": "column that names the other row", "from_table": "table of the row that it comes from",
    "from_version": "exact version of that table, table[partition]@version", "from_id": "id of that row",
}  # fmt: skip


def write_croissant(
    part: Path, history: History, lake: Lake, refs: Sequence[Ref], schema: pa.Schema, licence: str | None
) -> None:
    """Write `croissant.json` and `provenance.parquet` into an export that has its files in `data/`.

    schema: of the exported columns. Raises: LakeError for columns that are chats, which Croissant fields cannot say.
    """
    if any(pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type) for field in schema):
        raise LakeError("Croissant metadata describes plain columns; leave out --messages")
    files = {ref: next((part / "data").glob(f"{ref.partition}.*")) for ref in refs}
    with pq.ParquetWriter(part / "provenance.parquet", PROVENANCE, compression="zstd") as writer:
        for ref, file in files.items():
            for rows in _provenance(history, lake, ref, f"data/{file.name}"):
                writer.write_table(rows)
    (part / "croissant.json").write_text(
        json.dumps(_document(part, history, files, schema, licence), indent=1, ensure_ascii=False) + "\n"
    )


def _provenance(history: History, lake: Lake, ref: Ref, name: str) -> Iterator[pa.Table]:
    """Of every row of a version the rows that its columns name, within what the version was made from."""
    ids = lake.table(ref, [id_column(ref.asset)])[id_column(ref.asset)].to_pylist()
    places = {row_id: at for at, row_id in enumerate(ids)}
    named = [reference for reference in references(ref.asset) if not reference.shared]
    entry = history.entries[ref.asset, ref.version]
    with Rows(history) as rows:
        for reference, other, pairs in rows.joins(entry, named):
            if pairs is None:  # an old version whose rows are gone
                continue
            found = rows.database.execute(f"{pairs} order by own, other").fetchall()
            yield pa.Table.from_pylist([
                {"file": name, "row": places[own], "row_id": own, "column": reference.name,
                 "from_table": other.ref.asset, "from_version": str(other.ref), "from_id": theirs}
                for own, theirs in found
            ], PROVENANCE)  # fmt: skip


def _document(
    part: Path, history: History, files: dict[Ref, Path], schema: pa.Schema, licence: str | None
) -> dict[str, Any]:
    refs = list(files)
    asset = refs[0].asset
    behind = with_ancestors(history, [history.entries[ref.asset, ref.version] for ref in refs])
    distribution = [_file_object(file, f"data/{file.name}") for file in files.values()]
    distribution.append(_file_object(part / "provenance.parquet", "provenance.parquet"))
    meanings = {field.name: (field.metadata or {}).get(b"comment", b"").decode() for field in schema}
    sets = [_record_set(f"{asset}/{ref.partition}", f"data/{file.name}", schema, meanings,
                        key=id_column(asset) if id_column(asset) in schema.names else None)
            for ref, file in files.items()]  # fmt: skip
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": asset,
        "description": f"{TABLES[asset].comment}; {sum(ref.rows for ref in refs):,} rows of PromptCoT Assets.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **({"license": licence} if licence else {}),
        "version": f"{max(ref.version for ref in refs)}.0.0",
        "isBasedOn": [f"{one.ref} {one.ref.data_version}" for one in behind],
        "distribution": distribution,
        "recordSet": [*sets, _record_set("provenance", "provenance.parquet", PROVENANCE, MEANINGS)],
    }


def _file_object(file: Path, path: str) -> dict[str, Any]:
    return {"@type": "cr:FileObject", "@id": path, "name": file.name, "contentUrl": path,
            "encodingFormat": ENCODINGS[file.suffix], "sha256": file_hash(file, cached=False)}  # fmt: skip


def _record_set(
    name: str, file: str, schema: pa.Schema, meanings: dict[str, str], key: str | None = None
) -> dict[str, Any]:
    fields = [
        {"@type": "cr:Field", "@id": f"{name}/{field.name}", "name": field.name, "description": meanings[field.name],
         "dataType": _data_type(field.type), **({"repeated": True} if pa.types.is_list(field.type) else {}),
         "source": {"fileObject": {"@id": file}, "extract": {"column": field.name}}}
        for field in schema
    ]  # fmt: skip
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields,
            **({"key": {"@id": f"{name}/{key}"}} if key else {})}  # fmt: skip


def _data_type(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return _data_type(type_.value_type)
    if pa.types.is_boolean(type_):
        return "sc:Boolean"
    if pa.types.is_integer(type_):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(type_) else "sc:Text"
