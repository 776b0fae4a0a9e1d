"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """`mend` is empty when nothing is to be done."""

    name: str
    level: Level
    found: str
    mend: str = ""
