"""One setting switches the engine of a whole arc, seeds to scores: under Dagster, by the real command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from promptcot_assets.lake import Lake
from promptcot_assets.tables import open_lake
from tests.assets import arc_runs
from tests.vllm.conftest import FAST

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ON_RAY = {"engine": "transformers", "actors": 2, "gpus_an_actor": 0.0, "placement_s": 300.0}


def arc(folder: Path, **settings: dict[str, Any]) -> Lake:
    """The lake of a finished arc with one EM round."""
    profile, home = folder / "profile.yaml", folder / "home"
    profile.write_text(yaml.safe_dump({"extends": str(arc_runs.ONE_ROUND), **settings}))
    done = arc_runs.run([*arc_runs.PROMPTCOT, "run"], home, within_s=3000, PROMPTCOT_PROFILE=str(profile))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return open_lake(home)


def versions(lake: Lake) -> dict[tuple[str, str], str]:
    """By asset and partition, the hash of the content."""
    return {(commit.ref.asset, commit.ref.partition): commit.ref.data_version for commit in lake.lineage()}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    return versions(arc(tmp_path_factory.mktemp("embedded")))


def test_actors_of_a_ray_cluster_give_the_same_bytes(embedded: dict[tuple[str, str], str], tmp_path: Path) -> None:
    """Sampling, scoring and the sandbox."""
    assert versions(arc(tmp_path, engine={"name": "ray", "ray": ON_RAY}, sandbox={"ray": {}})) == embedded


@pytest.mark.parametrize("name", ["vllm", "server"])
def test_vllm_makes_every_table(name: str, embedded: dict[tuple[str, str], str], tmp_path: Path) -> None:
    """In a child process of each step, and as a server that each step starts and ends."""
    lake = arc(tmp_path, engine={"name": name, "vllm": FAST})
    made = versions(lake)
    assert made.keys() == embedded.keys()
    alike = {asset for asset, partition in made if made[asset, partition] == embedded[asset, partition]}
    assert {"seed_problems", "base_model", "cold_problem_generator"} <= alike  # nothing was sampled for them
    assert not alike & {"em_rationales", "raw_problems", "benchmark_generations"}
    scores = lake.table(lake.newest("benchmark_scores", "tiny")).to_pylist()
    assert {row["stage"] for row in scores} == {"base", "sft", "self_play"}
    assert sum(row["infrastructure_failures"] for row in scores) == 0
