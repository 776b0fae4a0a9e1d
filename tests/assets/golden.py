"""The lock of data versions: what every asset's computation makes of fixed completions, by asset and code version.

Changed rows without a new code version would leave homes with rows of the old code under the new code's name. Models
are locked by the examples that they are trained on: their weights depend on the processor.

    python -m tests.assets.golden        # after a meant change: writes golden.json anew
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptcot_assets.assets.everything import ASSETS
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ref import canonical_json
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Mixture
from promptcot_assets.stages.em import loop
from promptcot_assets.tables import TABLES
from tests.tables.every_table import every_table

LOCK = Path(__file__).with_name("golden.json")
DIGITS = 6  # of a float that are compared: libraries differ in the last ones
NO_ROWS_HERE = {  # copies, and models that start from nothing but settings
    "base_model", "teacher_model",
}  # fmt: skip


def versions() -> dict[str, dict[str, str]]:
    """asset -> {code version: hash of its rows}."""
    with open_verifier(Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        made = every_table(verifier)
    made |= _examples(made)
    assert made.keys() | NO_ROWS_HERE == TABLES.keys(), made.keys() ^ TABLES.keys()
    return {name: {ASSETS[name].code_version: _hash(rows)} for name, rows in sorted(made.items())}


def _examples(made: dict[str, list[Row]]) -> dict[str, Sequence[Row]]:
    """What models are trained on, by role."""
    won = [row for row in made["em_rationales"] if row["selected"]]
    q, p = loop.rationale_examples, loop.generator_examples
    control = loop.control_rows(made["seed_triples"], 1.0, 0.0, Mixture(), 0)
    return {
        "cold_rationale_model": q(made["seed_triples"]), "control_rationale_model": q(control),
        "cold_problem_generator": p(made["seed_triples"]), "control_problem_generator": p(control),
        "rationale_model": q(won), "problem_generator": p(made["em_m_step"]),
        "student_base": made["sft_examples"], "sft_model": made["sft_examples"],
        "self_play_model": made["preference_pairs"], "tuned_generator": p(made["tuning_examples"]),
    }  # fmt: skip


def _hash(rows: Sequence[Row]) -> str:
    """Independent of the rows' order, as a data version is."""
    texts = sorted(canonical_json(_rounded(row)) for row in rows)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    LOCK.write_text(json.dumps(versions(), indent=1) + "\n")
