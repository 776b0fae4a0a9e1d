"""The GPU run's profile and what it writes down; the run itself is tried by hand (docs/scale.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import device, report, table
from promptcot_assets.doctor.model_sizes import size_of
from promptcot_assets.settings import load_settings
from promptcot_assets.tables import open_lake
from tests.small_home import Home, whole_arc

SMALL = str(Path(__file__).parents[2] / "benchmarks" / "gpu" / "small_on_cpu.yaml")


@pytest.fixture(scope="module")
def arc(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return whole_arc(tmp_path_factory.mktemp("gpu") / "home")


def test_the_profile_is_of_the_size_it_says() -> None:
    settings = load_settings("mini_world_large")
    for model in (settings.base, settings.students["tiny"].base):
        size = size_of(model)
        assert size is not None and 50e6 < size.total < 100e6
    assert sum(sizes.seeds for sizes in settings.corpus.procedural.values()) == 100_000
    assert sum(settings.synthesis.concept_sets.values()) * settings.synthesis.problems_per_set == 100_000
    assert (settings.em.rounds, settings.engine.name, settings.engine.dtype) == (3, "vllm", "bfloat16")
    assert all(training.arguments["bf16"] for training in (settings.em.cold_start, settings.em.e_step))


def test_its_world_has_that_many_problems() -> None:
    """Of the small one; mini_maths' would take a minute."""
    from promptcot_assets.domains import procedural_domain

    sizes = load_settings("mini_world_large").corpus.procedural["mini_code"]
    held_out = sizes.held_out + sizes.benchmark
    written = procedural_domain("mini_code").write_seeds(sizes.seeds, held_out, sizes.annotators, 0)
    assert len(written.train) == sizes.seeds


def test_the_small_profile_is_the_large_one_but_for_its_sizes() -> None:
    small, large = load_settings(SMALL), load_settings("mini_world_large")
    assert small.domains == large.domains
    assert small.em.m_step == large.em.m_step
    assert (small.engine.name, small.engine.dtype) == ("transformers", "float32")  # no GPU, no vLLM


def test_without_a_gpu_the_script_says_what_to_do() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit, match="no CUDA device here; --on-cpu"):
        device(load_settings("mini_world_large"), on_cpu=False)
    assert device(load_settings(SMALL), on_cpu=True).startswith("CPU")


def test_every_commit_of_the_lake_is_in_the_table(arc: Home) -> None:
    commits = open_lake(arc.path).lineage()
    lines = table(commits).splitlines()[2:]
    named = {line.split("|")[1].strip(): line.split("|") for line in lines}
    assert set(named) == {commit.ref.asset for commit in commits} | {"in all"}
    assert sum(int(cells[2]) for name, cells in named.items() if name != "in all") == len(commits)
    tokens = {name: int(cells[4].replace(",", "")) for name, cells in named.items()}
    assert tokens.pop("in all") == sum(tokens.values()) > 0
    rates = {name: cells[6].strip() for name, cells in named.items() if name != "in all"}
    assert all(bool(rate) == bool(tokens[name]) for name, rate in rates.items())


def test_the_results_file_has_the_table_and_the_scores(arc: Home) -> None:
    text = report(arc.path, load_settings(SMALL), "a machine", 90.0)
    assert "# small_on_cpu on a machine" in text and "1.5 minutes" in text
    assert "| sft_model |" in text and "avg@" in text
    assert re.search(r"estimate of small_on_cpu on \d+ x", text)
