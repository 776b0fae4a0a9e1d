"""Addresses of data and what is recorded beside them: `Ref`, `Provenance`, `Commit`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from promptcot_assets.lake.errors import LakeError

UNPARTITIONED = "all"


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces; dates and bytes as their `str`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Ref:
    """Exact address of data: one partition of one table as one commit left it.

    `version` is the Delta version that wrote the partition; `data_version` is the content hash of its rows (or, for a
    checkpoint, of its files), equal whenever the content is equal; `partition` is "all" for an unpartitioned table.
    """

    asset: str
    version: int
    partition: str
    data_version: str
    rows: int

    def json(self) -> str:
        return canonical_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, value: str | Mapping[str, Any]) -> Ref:
        """Raises: LakeError when `value` is not a ref."""
        fields = {field.name for field in dataclasses.fields(cls)}
        try:
            found = json.loads(value) if isinstance(value, str) else dict(value)
        except ValueError as error:
            raise LakeError(f"not the JSON of a ref: {value!r} ({error})") from error
        if not isinstance(found, dict) or set(found) != fields:
            raise LakeError(f"not a ref: {value!r}; a ref has exactly the fields {', '.join(sorted(fields))}")
        return cls(**found)

    def __str__(self) -> str:
        return f"{self.asset}[{self.partition}]@{self.version}"


@dataclass(frozen=True)
class Provenance:
    """What a commit records beside the data: how the rows came to be.

    `settings` is the canonical JSON of the settings used; `tokens` counts generated and scored tokens; `seconds` is
    the wall time of the computation.
    """

    code_version: str
    settings: str
    seed: int
    run_id: str = ""
    inputs: tuple[Ref, ...] = ()
    tokens: int = 0
    seconds: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Hash of what determines the result: code, settings, seed and the content of the inputs, in their order.

        Two runs with one fingerprint yield the same rows, so run id, cost and the inputs' version numbers stay out.
        """
        inputs = [(ref.asset, ref.partition, ref.data_version) for ref in self.inputs]
        text = canonical_json([self.code_version, self.settings, self.seed, inputs])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def settings_hash(self) -> str:
        """Of the settings that the rows depend on, short: equal for equal settings."""
        return hashlib.sha256(self.settings.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Provenance:
        return cls(**{**value, "inputs": tuple(Ref(**ref) for ref in value["inputs"])})


@dataclass(frozen=True)
class Commit:
    """One commit of one partition, as the table's log tells it."""

    ref: Ref
    provenance: Provenance
    fingerprint: str
    timestamp: datetime  # UTC
