import subprocess
import sys
from dataclasses import asdict

import pytest

from promptcot_assets.domains import procedural_domain
from promptcot_assets.domains.annotators import LABELS
from promptcot_assets.domains.mini_code import LARGEST_EXAMPLE
from promptcot_assets.domains.procedural import SHARE_OF_SEEN_CONCEPT_SETS, level_of

WORLDS = ["mini_maths", "mini_code"]
WEIGHTS = dict.fromkeys(LABELS.values(), 1.0)


@pytest.mark.parametrize("name", WORLDS)
def test_no_text_is_twice_among_seeds_held_out_and_benchmark(name: str) -> None:
    world = procedural_domain(name)
    seeds = world.write_seeds(400, 60, WEIGHTS, seed=0)
    known = [one.problem for one in (*seeds.train, *seeds.held_out)]
    benchmark = world.write_benchmark(200, 0, set(known))
    texts = [*known, *(one.problem for one in benchmark)]
    assert (len(seeds.train), len(seeds.held_out), len(benchmark)) == (400, 60, 200)
    assert len(set(texts)) == len(texts)
    assert all(world.well_posed(text) for text in texts)


@pytest.mark.parametrize("name", WORLDS)
def test_seeds_and_held_out_share_their_concept_sets_and_the_benchmark_asks_for_more(name: str) -> None:
    world = procedural_domain(name)
    every = {frozenset(enumerate(sorted(one))) for one in world.concept_sets()}
    seeds = world.write_seeds(1500, 100, WEIGHTS, seed=2)
    seen = {frozenset(enumerate(sorted(one.concepts))) for one in seeds.train}
    held_out = {frozenset(enumerate(sorted(one.concepts))) for one in seeds.held_out}
    asked = {frozenset(enumerate(sorted(one.concepts))) for one in world.write_benchmark(600, 2, set())}
    assert held_out <= seen
    assert len(seen) <= round(SHARE_OF_SEEN_CONCEPT_SETS * len(world.concept_sets())) < len(world.concept_sets())
    assert asked - seen and asked <= every


@pytest.mark.parametrize("name", WORLDS)
def test_a_seed_names_the_concepts_of_its_problem_and_its_annotator(name: str) -> None:
    world = procedural_domain(name)
    for one in world.write_seeds(100, 0, WEIGHTS, seed=3).train:
        assert world.style(one.rationale or "") == one.annotator
        assert one.level == level_of(one.concepts)


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_seed_writes_the_same_and_another_writes_others(name: str) -> None:
    world = procedural_domain(name)
    first, again, other = (world.write_seeds(50, 5, WEIGHTS, seed=seed) for seed in (7, 7, 8))
    assert asdict(first) == asdict(again)
    assert [one.problem for one in first.train] != [one.problem for one in other.train]


def test_a_seed_means_the_same_in_another_process() -> None:
    code = (
        "from promptcot_assets.domains import procedural_domain;"
        "print([s.problem for n in ('mini_maths', 'mini_code')"
        " for s in procedural_domain(n).write_seeds(5, 1, {'chatty': 1}, 11).train])"
    )
    said = set()
    for hash_seed in "12":
        environment = {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        said.add(done.stdout.strip())
    here = [s.problem for n in WORLDS for s in procedural_domain(n).write_seeds(5, 1, {"chatty": 1}, 11).train]
    assert said == {str(here)}


def test_an_exhausted_world_says_so_and_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    world = procedural_domain("mini_code")
    most = 2 * LARGEST_EXAMPLE**2  # variables, examples; a square has no constant
    monkeypatch.setattr(world, "concept_sets", lambda: [["loops", "squares"]])
    monkeypatch.setattr("promptcot_assets.domains.procedural.SHARE_OF_SEEN_CONCEPT_SETS", 1.0)
    assert len(world.write_seeds(most // 2, 0, WEIGHTS, 0).train) == most // 2
    with pytest.raises(ValueError, match=rf"mini_code has no new problem after {most}: lower seeds, .*mini_code"):
        world.write_seeds(most + 1, 0, WEIGHTS, 0)
