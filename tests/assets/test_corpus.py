"""Seed, benchmark and standings files: a run that resumes reads an edited file anew, and an unchanged one not."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.corpus import items, seeds
from promptcot_assets.assets.evaluation import contest_standings
from promptcot_assets.assets.step import RESUME_TAG
from promptcot_assets.reports.query import query
from promptcot_assets.tables import open_lake
from tests.assets.materialized import built, resources_of

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
    for file, row in (
        ("seeds", {"problem": "1 + 1?"}),
        ("items", {"problem": "2 + 2?", "answer": "4"}),
        ("standings", RANKED),
    ):
        write(tmp_path / f"{file}.jsonl", row)
    write(tmp_path / f"{name}.jsonl", before)
    (tmp_path / "own.yaml").write_text(PROFILE.format(folder=tmp_path))
    first, again = resume(tmp_path), resume(tmp_path)
    assert again == first
    write(tmp_path / f"{name}.jsonl", after)
    edited = resume(tmp_path)
    of_items = {"benchmark_items", "dropped_benchmark_rows"}
    made = {"seeds": {"seed_problems", "dropped_seed_rows"} | of_items, "items": of_items,
            "standings": {"contest_standings"}}[name]  # fmt: skip
    assert {asset for asset, version in edited.items() if version > first[asset]} == made


def resume(folder: Path) -> dict[str, int]:
    """Run the three assets as `promptcot run` does; their versions afterwards."""
    profile = folder / "own.yaml"
    assets = built(profile, seeds, items, contest_standings)
    resources = resources_of(profile, folder / "home")
    assert dg.materialize(assets, resources=resources, tags={RESUME_TAG: "true"}).success
    lake = open_lake(folder / "home")
    names = [key.path[-1] for asset in assets for key in asset.keys]
    return {name: ref.version for name in names if (ref := lake.newest(name))}


def test_a_file_with_every_fault_is_read_and_the_fallen_rows_are_found_by_sql(tmp_path: Path) -> None:
    good = [{"problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(40)]
    write(tmp_path / "seeds.jsonl", *good)
    with (tmp_path / "seeds.jsonl").open("ab") as file:
        for line in (
            b"{not json", b'{"problem": "\xff"}', b'{"problem": "What is NaN?", "answer": NaN}', b'{"problem": " "}',
            rb'{"problem": "Box it.", "answer": "\\boxed{}"}', b'{"problem": "What is 1 + 1?", "answer": "3"}',
            b'{"problem": "Prove it.", "answer": "proof"}', b"[1]",
        ):  # fmt: skip
            file.write(line + b"\n")
    write(tmp_path / "items.jsonl", {"question": "2 + 2?", "answer": 4.0}, {"question": "3 + 3?", "answer": "nan"})
    write(tmp_path / "standings.jsonl", RANKED)
    (tmp_path / "own.yaml").write_text(PROFILE.format(folder=tmp_path))
    resume(tmp_path)
    open_lake(tmp_path / "home").publish()
    fallen = query(tmp_path / "home", "select * from dropped_seed_rows order by source_row").records()
    assert [(row["source"], row["source_row"]) for row in fallen] == [("seeds.jsonl", row) for row in range(41, 49)]
    reasons = ["not JSON", "not UTF-8", "NaN", "empty problem", "empty box", "another answer", "a proof", "a JSON list"]
    assert all(said in row["reason"] for said, row in zip(reasons, fallen, strict=True))
    assert fallen[5]["detail"] == "seeds.jsonl, row 2 says 2, this row 3"
    (kept,) = query(tmp_path / "home", "select count(*) as rows, count(answer) as answers from seed_problems").records()
    assert kept == {"rows": 40, "answers": 40}
    (item,) = query(tmp_path / "home", "select benchmark, source_row, reason from dropped_benchmark_rows").records()
    assert (item["benchmark"], item["source_row"]) == ("own", 2) and "NaN" in item["reason"]
