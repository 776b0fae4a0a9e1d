"""A few rows of a profile through the whole graph, with its own engine and models, in a home that is thrown away.

What is shown is what happened: every prompt as the model read it, every completion, the word of every filter, the
verdicts. Training is cut to a few steps, and gates let everything pass: they measure a run of the real size.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from promptcot_assets.inference.transcript import TRANSCRIPT
from promptcot_assets.lake import Row
from promptcot_assets.settings import Settings, pins
from promptcot_assets.settings.loading import lock_folder
from promptcot_assets.tables import TABLES, open_lake
from training.child import die_with_parent, own_mark

STEPS = {"max_steps": 2}  # of every training
OPEN_GATE = {"standard_errors": 1e9, "min_usable_share": 0, "min_distinct_share": 0, "max_repeated_share": 1,
             "min_length_ratio": 1e-9}  # fmt: skip
WORDS = ("drop_reason", "reason", "lost_because", "unusable_because")  # columns that say why a row falls
SHOWN = 200  # characters of a row's gist


def preview(profile: str, settings: Settings, rows: int) -> dict[str, Any]:
    """Run it. `error` is what stopped it, or None; what was written until then is shown all the same."""
    with tempfile.TemporaryDirectory(prefix="promptcot-preview-") as name:
        folder = Path(name)
        (folder / "preview.yaml").write_text(yaml.safe_dump({"extends": profile} | small(settings, rows)))
        lock = lock_folder(profile) / pins.LOCK
        if lock.is_file():
            shutil.copy(lock, folder / pins.LOCK)
        transcript, home = folder / "transcript.jsonl", folder / "home"
        environment = os.environ | {
            "PROMPTCOT_PROFILE": str(folder / "preview.yaml"), "PROMPTCOT_HOME": str(home), TRANSCRIPT: str(transcript),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "promptcot_assets.cli", "run"], env=environment, capture_output=True, text=True,
            preexec_fn=partial(die_with_parent, own_mark()), check=False,
        )  # fmt: skip
        asked = [json.loads(line) for line in transcript.read_text().splitlines()] if transcript.exists() else []
        said, verdicts = _tables(home)
        return {
            "profile": settings.profile,
            "rows": rows,
            "error": None if done.returncode == 0 else done.stderr.strip().splitlines()[-2:],
            "asked": asked,
            "filters": said,
            "verdicts": verdicts,
        }


def small(settings: Settings, rows: int) -> dict[str, Any]:
    """The settings of a preview, to be laid over the profile's."""
    corpus: dict[str, Any] = {
        "procedural": {
            name: {"seeds": rows, "held_out": 2, "benchmark": 2, "base_problems": rows}
            for name in settings.corpus.procedural
        },
        "held_out_share": 0.2,
    }
    for name in ("files", "play_files"):
        files: dict[str, list[Any]] = getattr(settings.corpus, name)
        corpus[name] = {
            domain: [
                {"source": one, "limit": rows} if isinstance(one, str) else one.model_dump() | {"limit": rows}
                for one in entries
            ]
            for domain, entries in files.items()
        }
    training = {"arguments": STEPS}
    students = {
        name: {"sft": training} | ({"base_training": training} if one.base_training else {})
        for name, one in settings.students.items()
    }
    return {
        "corpus": corpus,
        "benchmarks": {"limit": 2},
        "em": {
            "rounds": 1, "cold_start": training, "e_step": training, "m_step_training": training, "gate": OPEN_GATE,
            "held_out": {"training_seeds": 2, "samples": 1},
        },
        "synthesis": {
            "concept_sets": {name: min(count, rows) for name, count in settings.synthesis.concept_sets.items()},
            "problems_per_set": 1,
        },
        "students": students,
        "self_play": {"training": training, "pool_share": 0.5},
        "evaluation": {"generations": 1, "generations_of": dict.fromkeys(settings.evaluation.generations_of, 1)},
        **({"zero_shot": {"problems": rows}} if settings.zero_shot else {}),
        **({"tuning": {"training": training, "samples": 1, "min_diversity": 0.0}} if settings.tuning else {}),
    }  # fmt: skip


def _tables(home: Path) -> tuple[list[Row], list[Row]]:
    """What every filter said, row by row, and every verdict, from the lake of the preview."""
    if not home.is_dir():
        return [], []
    lake, said, verdicts = open_lake(home), [], []
    for name, table in TABLES.items():
        for partition in lake.partitions(name):
            ref = lake.newest(name, partition)
            if ref is None:
                continue
            for row in lake.table(ref).to_pylist():
                gist = str(row.get(table.gist))[:SHOWN]
                said += [{"table": name, "row": gist, "because": row[word]} for word in WORDS if row.get(word)]
                if "verdict" in row:
                    verdicts.append({"table": name, "verdict": row["verdict"], "rule": row.get("rule"), "row": gist})
    return said, verdicts


def as_text(found: dict[str, Any]) -> str:
    """The same for a terminal."""
    lines = [f"{found['profile']}, {found['rows']} rows, in a home that is thrown away"]
    for one in found["asked"]:
        lines += ["", f"=== {one['model']} reads", one["prompt"]]
        for completion in one["completions"]:
            lines += [
                f"--- and writes ({completion['tokens']} tokens, {completion['finish_reason']})",
                completion["text"],
            ]
    lines += ["", "Filters"]
    lines += [f"  {one['table']}: {one['because']}: {one['row']!r}" for one in found["filters"]]
    lines += ["", "Verdicts"]
    counted = Counter((one["table"], one["verdict"], one["rule"]) for one in found["verdicts"])
    lines += [
        f"  {table}: {count} x {verdict} ({rule})" for (table, verdict, rule), count in sorted(counted.items(), key=str)
    ]
    if found["error"]:
        lines += ["", "It stopped: " + " ".join(found["error"])]
    return "\n".join(lines)
