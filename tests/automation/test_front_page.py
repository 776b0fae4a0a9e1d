"""The front page after a run of Dagster's, and what its command line says last when a step failed."""

from __future__ import annotations

from pathlib import Path

from promptcot_assets.automation.front_page import front_page
from tests.assets import arc_runs

SEEDS = "seed_problems,dropped_seed_rows"


def materialize(home: Path, select: str, **more: str) -> tuple[int, str]:
    """Exit code and all that was printed by `dagster asset materialize`."""
    done = arc_runs.run(
        [*arc_runs.DAGSTER, "asset", "materialize", "-m", "promptcot_assets.definitions", "--select", select],
        home, **more,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_run_of_dagsters_leaves_the_front_page_and_a_failure_ends_with_one_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    arc_runs.run([*arc_runs.PROMPTCOT, "init"], home)
    code, printed = materialize(home, "concept_corpus")
    assert code == 1 and not front_page(home).exists() and "no front page: there is no lake" in printed
    sentence = "concept_corpus failed: concept_corpus needs seed_problems, "
    assert printed.strip().splitlines()[-1].startswith(sentence)

    code, printed = materialize(home, SEEDS)
    assert code == 0 and "seed_problems" in front_page(home).read_text()

    code, printed = materialize(home, "seed_triples,base_model", PROMPTCOT_PROFILE=str(broken(tmp_path)))
    assert code == 1 and "base_model failed" in printed.strip().splitlines()[-1]
    page = front_page(home).read_text()
    assert "Newest failures" in page and "base_model" in page and "seed_triples" in page


def broken(folder: Path) -> Path:
    """A profile whose base model is nowhere."""
    profile = folder / "broken.yaml"
    profile.write_text(f"extends: {arc_runs.SMALL}\nbase: {{scratch: null, hub_id: {folder}/no_model}}\n")
    return profile
