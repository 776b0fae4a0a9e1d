"""Which columns are texts to read, in the order in which one reads them; what is not here is a fact beside them."""

from __future__ import annotations

TEXTS = ("problem", "rationale", "answer", "solution", "tests", "completion", "trace", "prompt", "chosen", "rejected",
         "concept_completion", "stdin", "proposed", "expected", "concept", "matched_span", "reason")  # fmt: skip
