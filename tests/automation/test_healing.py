"""`promptcot recall --apply` on a real home: nothing but the row's own table before its source is mended, all after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptcot_assets.lake import Lake
from promptcot_assets.reports.history import History
from promptcot_assets.reports.lineage import stale
from tests.assets.arc_runs import PROMPTCOT, run

pytestmark = pytest.mark.slow

BAD, GOOD = "What is 2 + 2, roughly?", "What is 2 + 2?"
PROFILE = """
extends: real_seeds
benchmarks: {{files: {{maths: {{own: "{benchmark}", aime24: null, aime25: null, hmmt25: null, gsm8k: null}}}}}}
corpus: {{files: {{maths: ["{seeds}"]}}}}
"""


def write(path: Path, *problems: str) -> None:
    rows = [
        {"problem": one, "answer": "4", "concepts": ["sums"], "rationale": "small", "level": "easy"} for one in problems
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def versions(home: Path) -> dict[str, int]:
    return {asset: ref.version for asset in ("seed_problems", "concept_corpus", "seed_triples", "benchmark_items")
            if (ref := Lake(home).newest(asset))}  # fmt: skip


def test_a_bad_seed_is_healed_once_its_source_is_mended(tmp_path: Path) -> None:
    home, seeds, benchmark, profile = (tmp_path / name for name in ("home", "seeds.jsonl", "items.jsonl", "own.yaml"))
    write(seeds, BAD, "What is 3 + 1?", "What is 1 + 3?")
    write(benchmark, "What is 8 - 4?")
    profile.write_text(PROFILE.format(seeds=seeds, benchmark=benchmark))
    settings = {"PROMPTCOT_PROFILE": str(profile), "SEEDS": "-", "BENCHMARKS": "-"}
    done = run([*PROMPTCOT, "run", "--until", "corpus"], home, **settings)
    assert done.returncode == 0, done.stderr
    first = versions(home)
    (bad,) = (
        row["problem_id"]
        for row in Lake(home).table(Lake(home).newest("seed_problems")).to_pylist()
        if row["problem"] == BAD
    )
    heal = [*PROMPTCOT, "recall", bad, "--apply", "--json"]

    refused = run(heal, home, **settings)
    assert refused.returncode == 1
    assert f"{bad} came out again just as it was" in refused.stderr and "row 1 of seeds.jsonl" in refused.stderr
    assert versions(home) == first | {"seed_problems": first["seed_problems"] + 1}

    write(seeds, GOOD, "What is 3 + 1?", "What is 1 + 3?")
    healed = run(heal, home, **settings)
    assert healed.returncode == 0, healed.stderr
    commands = json.loads(healed.stdout)["runs"]
    assert len(commands) == 2 and commands[0].endswith("--select seed_problems")
    texts = {row["problem"] for row in Lake(home).table(Lake(home).newest("seed_triples")).to_pylist()}
    assert GOOD in texts and BAD not in texts
    # no row of these came of the bad seed: they are out of date, not wrong
    assert {ref.asset for ref in stale(History(home))} == {"concept_corpus", "benchmark_items"}

    again = run(heal, home, **settings)
    assert json.loads(again.stdout)["runs"] == []
