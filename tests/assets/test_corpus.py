"""Seed, benchmark and standings files: a run that resumes reads an edited file anew, and an unchanged one not."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.corpus import seed_problems
from promptcot_assets.assets.evaluation import benchmark_items, contest_standings
from promptcot_assets.assets.resources import RESUME_TAG, LakeResource, SettingsResource
from promptcot_assets.lake import Lake

PROFILE = """
extends: demo
corpus: {{procedural: null, files: {{maths: ["{folder}/seeds.jsonl"]}}}}
benchmarks: {{files: {{maths: {{own: "{folder}/items.jsonl"}}}}, standings: "{folder}/standings.jsonl"}}
synthesis: {{concept_sets: null}}
"""
RANKED = {"contest": "1", "style": "codeforces", "rating": 1500.0, "points": 3.0}


def write(path: Path, *rows: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("seeds", {"problem": "1 + 1?", "answer": "3"}, {"problem": "1 + 1?", "answer": "2"}),
        ("items", {"problem": "2 + 2?", "answer": "5"}, {"problem": "2 + 2?", "answer": "4"}),
        ("standings", RANKED, RANKED | {"rating": 1600.0}),
    ],
)
def test_only_what_an_edited_file_is_read_into_is_made_anew(
    name: str, before: dict[str, object], after: dict[str, object], tmp_path: Path
) -> None:
    for file, row in (("seeds", {"problem": "1 + 1?"}), ("items", {"problem": "2 + 2?"}), ("standings", RANKED)):
        write(tmp_path / f"{file}.jsonl", row)
    write(tmp_path / f"{name}.jsonl", before)
    (tmp_path / "own.yaml").write_text(PROFILE.format(folder=tmp_path))
    first, again = resume(tmp_path), resume(tmp_path)
    assert again == first
    write(tmp_path / f"{name}.jsonl", after)
    edited = resume(tmp_path)
    made = {"seeds": {"seed_problems", "benchmark_items"}, "items": {"benchmark_items"},
            "standings": {"contest_standings"}}[name]  # fmt: skip
    assert {asset for asset, version in edited.items() if version > first[asset]} == made


def resume(folder: Path) -> dict[str, int]:
    """Run the three assets as `promptcot run` does; their versions afterwards."""
    settings = SettingsResource(profile=str(folder / "own.yaml"))
    resources = {"lake": LakeResource(home=str(folder / "home"), settings=settings), "settings": settings}
    assets = [seed_problems, benchmark_items, contest_standings]
    assert dg.materialize(assets, resources=resources, tags={RESUME_TAG: "true"}).success
    lake = Lake(folder / "home")
    return {asset.key.path[-1]: ref.version for asset in assets if (ref := lake.newest(asset.key.path[-1]))}
