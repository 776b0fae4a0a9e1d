"""`promptcot recall --apply` on a real home: nothing but the row's own table before its source is mended, all after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptcot_assets.domains import procedural_domain
from promptcot_assets.lake import Ref
from promptcot_assets.lineage.ancestry import stale
from promptcot_assets.lineage.history import History
from promptcot_assets.tables import MODEL_ROLES, TABLES, open_lake
from promptcot_assets.tables.references import id_column
from tests.assets.arc_runs import ONE_ROUND, PROMPTCOT, run
from tests.lineage.test_recall import AGGREGATES, by_brute_force
from tests.small_home import Home

pytestmark = pytest.mark.slow

BAD, GOOD = "What is 2 + 2, roughly?", "What is 2 + 2?"
PROFILE = """
extends: real_seeds
benchmarks: {{files: {{maths: {{own: "{benchmark}", aime24: null, aime25: null, hmmt25: null, gsm8k: null}}}}}}
corpus: {{files: {{maths: ["{seeds}"], code: null}}}}
synthesis: {{concept_sets: {{code: null}}}}
"""


OPTIONAL = {name for name, table in TABLES.items() if table.optional}


def corpus_of_files(folder: Path) -> tuple[Path, Path, dict[str, str]]:
    """A home's place, its file of seeds, still to be written, and the environment of commands on it."""
    home, seeds, benchmark, profile = (folder / name for name in ("home", "seeds.jsonl", "items.jsonl", "own.yaml"))
    write(benchmark, "What is 8 - 4?")
    profile.write_text(PROFILE.format(seeds=seeds, benchmark=benchmark))
    return home, seeds, {"PROMPTCOT_PROFILE": str(profile), "SEEDS": "-", "BENCHMARKS": "-"}


def id_of(home: Path, asset: str, **known: str) -> str:
    """The id of the one row with this value."""
    ((column, value),) = known.items()
    ref = open_lake(home).newest(asset)
    assert ref
    (row,) = (row for row in open_lake(home).table(ref).to_pylist() if row[column] == value)
    return str(row[id_column(asset)])


def write(path: Path, *problems: str, concept: str = "sums") -> None:
    about = {"answer": "4", "concepts": [concept], "rationale": "small", "level": "easy"}
    rows = [{"problem": one, **about} for one in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def versions(home: Path) -> dict[str, int]:
    return {asset: ref.version for asset in ("seed_problems", "concept_corpus", "seed_triples", "benchmark_items")
            if (ref := open_lake(home).newest(asset))}  # fmt: skip


def test_a_bad_seed_is_healed_once_its_source_is_mended(tmp_path: Path) -> None:
    home, seeds, settings = corpus_of_files(tmp_path)
    write(seeds, BAD, "What is 3 + 1?", "What is 1 + 3?")
    done = run([*PROMPTCOT, "run", "--until", "corpus"], home, **settings)
    assert done.returncode == 0, done.stderr
    first = versions(home)
    bad = id_of(home, "seed_problems", problem=BAD)
    heal = [*PROMPTCOT, "recall", bad, "--apply", "--json"]

    another_world = run(heal, home, **settings, PROMPTCOT_SEED="7")
    assert another_world.returncode == 1 and "set PROMPTCOT_SEED=0" in another_world.stderr
    assert versions(home) == first
    refused = run(heal, home, **settings)
    assert refused.returncode == 1
    assert f"{bad} came out again just as it was" in refused.stderr and "row 1 of seeds.jsonl" in refused.stderr
    assert versions(home) == first | {"seed_problems": first["seed_problems"] + 1}

    write(seeds, GOOD, "What is 3 + 1?", "What is 1 + 3?")
    healed = run(heal, home, **settings)
    assert healed.returncode == 0, healed.stderr
    commands = json.loads(healed.stdout)["runs"]
    assert len(commands) == 2 and commands[0].endswith("--select seed_problems,dropped_seed_rows")
    texts = {row["problem"] for row in open_lake(home).table(open_lake(home).newest("seed_triples")).to_pylist()}
    assert GOOD in texts and BAD not in texts
    # no row of these came of the bad seed: they are out of date, not wrong
    assert {ref.asset for ref in stale(History(home))} == {
        "concept_corpus",
        "benchmark_items",
        "dropped_benchmark_rows",
    }

    again = run(heal, home, **settings)
    assert json.loads(again.stdout)["runs"] == []


def test_a_bad_concept_is_healed_once_its_seeds_are_mended(tmp_path: Path) -> None:
    home, seeds, settings = corpus_of_files(tmp_path)
    write(seeds, "What is 3 + 1?", "What is 1 + 3?", concept="smus")
    assert run([*PROMPTCOT, "run", "--until", "corpus"], home, **settings).returncode == 0
    bad = id_of(home, "concept_corpus", concept="smus")
    heal = [*PROMPTCOT, "recall", bad, "--apply", "--json"]
    assert f"{bad} came out again just as it was" in run(heal, home, **settings).stderr

    write(seeds, "What is 3 + 1?", "What is 1 + 3?", concept="sums")
    healed = run(heal, home, **settings)
    assert healed.returncode == 0, healed.stderr
    concepts = open_lake(home).table(open_lake(home).newest("concept_corpus"))["concept"].to_pylist()
    assert "sums" in concepts and "smus" not in concepts
    assert json.loads(run(heal, home, **settings).stdout)["runs"] == []


def test_a_bad_seed_under_trained_models_is_found_whole_and_healed_whole(tmp_path: Path) -> None:
    """A file of seeds beside the procedural ones, an arc up to the scores, one line of the file deleted, healed."""
    home, seeds, profile = tmp_path / "home", tmp_path / "seeds.jsonl", tmp_path / "own.yaml"
    written = write_mini_seeds(seeds)
    profile.write_text(f"extends: {ONE_ROUND}\ncorpus: {{files: {{mini_maths: ['{seeds}']}}}}\n")
    settings = {"PROMPTCOT_PROFILE": str(profile)}
    done = run([*PROMPTCOT, "run", "--until", "tiny: evaluation"], home, **settings)
    assert done.returncode == 0, done.stderr[-4000:]
    rows = {
        asset: open_lake(home).table(open_lake(home).newest(asset)).to_pylist()
        for asset in ("seed_problems", "seed_triples")
    }
    trained = {row["problem_id"] for row in rows["seed_triples"]}
    bad, text = next(
        (row["problem_id"], row["problem"])
        for row in rows["seed_problems"]
        if row["source"] == "seeds.jsonl" and row["problem_id"] in trained
    )

    found = json.loads(run([*PROMPTCOT, "recall", bad, "--json"], home, **settings).stdout)
    named = {one["ref"]["asset"]: set(one["rows"][: one["named"]]) for one in found["tables"] if one["named"]}
    by_hand = by_brute_force(Home(home), bad)
    assert {asset: rows for asset, rows in named.items() if asset not in AGGREGATES} == by_hand
    assert {"seed_triples", "em_rationales", "em_m_step"} <= by_hand.keys()
    models = models_that_learned(home, bad)
    assert {one["model_id"] for one in found["models"]} == models
    control = {"control_rationale_model", "control_problem_generator"}  # which this arc has not come to
    assert {name.partition("/")[0] for name in models} == set(MODEL_ROLES) - control - {
        name for name, table in TABLES.items() if table.optional
    }
    learned = {one["ref"]["asset"]: one["learned"] for one in found["tables"] if one["learned"]}
    assert learned["benchmark_generations"] == 3 * 6 * 2  # every stage's: all three students are bad

    assert text in written
    write_mini_seeds(seeds, without=text)
    healed = run([*PROMPTCOT, "recall", bad, "--apply", "--json"], home, **settings)
    assert healed.returncode == 0, healed.stderr[-4000:]
    assert json.loads(healed.stdout)["runs"]
    assert by_brute_force(Home(home), bad) == {}
    assert models_that_learned(home, bad) == set()
    after = json.loads(run([*PROMPTCOT, "recall", bad, "--json"], home, **settings).stdout)
    assert after["tables"] == [] and after["backfill"] == [] and not any(one["newest"] for one in after["models"])


def write_mini_seeds(path: Path, without: str | None = None) -> list[str]:
    """Four seeds of the maths mini world that the profile does not write itself, less one; their problems."""
    written = procedural_domain("mini_maths").write_seeds(4, 0, {"planner": 1.0}, seed=20_261_126).train
    kept = [one for one in written if one.problem != without]
    rows = [
        {"problem": one.problem, "answer": one.answer, "solution": one.solution, "concepts": one.concepts,
         "rationale": one.rationale, "level": one.level}
        for one in kept
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [one.problem for one in kept]


def models_that_learned(home: Path, bad: str) -> set[str]:
    """The newest models of which a training table has the id in any column, or that start from such a model."""
    lake = open_lake(home)

    def learned(model: Ref) -> bool:
        given = lake.commit_of(model).provenance.inputs
        tables = (one for one in given if one.asset not in MODEL_ROLES)
        seen = any(bad in json.dumps(lake.table(one).to_pylist(), default=str) for one in tables)
        return seen or any(learned(one) for one in given if one.asset in MODEL_ROLES)

    newest = (lake.newest(role, partition) for role in MODEL_ROLES for partition in lake.partitions(role))
    return {lake.table(ref)["model_id"][0].as_py() for ref in newest if ref and learned(ref)}
