"""Small tables and provenances that the lake's tests share."""

from __future__ import annotations

import pyarrow as pa

from promptcot_assets.lake import Lake, Provenance, Ref


def column(name: str, kind: pa.DataType, nullable: bool = True, **metadata: str) -> pa.Field:
    return pa.field(name, kind, nullable, dict(metadata) or None)


PROBLEMS = pa.schema(
    [
        column("problem_id", pa.string(), False, unique="true", comment="content hash of the problem"),
        column("problem", pa.string(), False, comment="problem text, it's x in the paper"),
        column("tries", pa.int32()),
        column("concepts", pa.list_(pa.string())),
    ],
    metadata={b"comment": b"problems as the generator wrote them"},
)
LOSS = pa.schema([pa.field("loss", pa.float64())])


def problems(count: int, word: str = "p") -> pa.Table:
    rows = [
        {"problem_id": f"{word}{i}", "problem": f"{word} {i}?", "tries": i, "concepts": [word, str(i)]}
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=PROBLEMS)


def provenance(seed: int = 0, *inputs: Ref, run_id: str = "run", tokens: int = 0, seconds: float = 0.0) -> Provenance:
    return Provenance("1", '{"n":8}', seed, run_id, tuple(inputs), tokens, seconds)


def train(lake: Lake, role: str, weights: bytes, made_by: Provenance, partition: str = "all", loss: float = 1.0) -> Ref:
    """A checkpoint of one tiny file and one in a folder."""
    folder = lake.work_folder(role, made_by.fingerprint)
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return lake.commit_checkpoint(role, folder, LOSS, {"loss": loss}, made_by, partition)
