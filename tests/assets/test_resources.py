"""What an engine did is on the page of the asset that used it, and in no row."""

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.resources import ROWS_A_TABLE, EngineResource, LakeResource, SettingsResource
from promptcot_assets.inference import SamplingParams
from promptcot_assets.lake import Lake, Provenance
from promptcot_assets.lake.schemas import MODEL
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one real, tiny checkpoint."""
    home = tmp_path_factory.mktemp("home")
    lake, made = Lake(home), Provenance("1", "{}", 0, "run", ())
    folder = make_tiny_model(lake.work_folder("base_model", made.fingerprint) / "model")
    about = {"base": None, "examples": 0, "steps": 0, "tokens": 0, "loss": None}
    lake.commit_checkpoint("base_model", folder, MODEL, about, made)
    return home


@dg.asset(code_version="1")
def concept_corpus(
    context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource
) -> dg.MaterializeResult:
    """Uses two engines, one after the other, as an E-step does."""
    step = lake.step(context, "concept_corpus", "base_model")
    with engine.load(step, "base_model") as q:
        q.generate(["let A", "find B"], SamplingParams(max_new_tokens=4, n=3))
    with engine.load(step, "base_model") as p:
        p.score(["let A"] * 4, [" be", " is", " be the", " of"])
    return step.commit([])


def test_the_page_shows_rates_and_shares_of_all_engines_of_a_step(home: Path, tmp_path: Path) -> None:
    profile = tmp_path / "one_process.yaml"
    profile.write_text("extends: demo\nengine: {workers: 1}\n")
    settings = SettingsResource(profile=str(profile))
    resources = {
        "lake": LakeResource(home=str(home), settings=settings),
        "engine": EngineResource(settings=settings),
        "settings": settings,
    }
    with dg.instance_for_test() as instance:
        result = dg.materialize([concept_corpus], instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node("concept_corpus")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert shown["sampled_tokens_per_second"] > 0 and shown["scored_tokens_per_second"] > 0
    assert 0 <= shown["padded_share"] < 1 and 0 < shown["shared_prompt_share"] < 1


def test_a_step_holds_neither_its_shards_nor_the_rows_it_commits(home: Path) -> None:
    """Only as many rows as a shard, or a table of a commit, are alive at a time."""
    alive: set[int] = set()
    most = 0

    class Counted(dict):  # type: ignore[type-arg]
        def __init__(self, **row: object) -> None:
            nonlocal most
            super().__init__(**row)
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    @dg.asset(name="concept_corpus", code_version="1")
    def many_rows(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        step = lake.step(context, "concept_corpus")
        rows = step.map(
            "write", [{"n": n} for n in range(8 * ROWS_A_TABLE)],
            lambda some: [Counted(concept_id=f"{row['n']:08d}", concept="c", domain="d", problems=1) for row in some],
            256,
        )  # fmt: skip
        assert len(rows) == 8 * ROWS_A_TABLE
        return step.commit(Counted(**row) for row in rows)

    resources = {"lake": LakeResource(home=str(home), settings=SettingsResource(profile="demo"))}
    with dg.instance_for_test() as instance:
        dg.materialize([many_rows], instance=instance, resources=resources)
    ref = Lake(home).newest("concept_corpus")
    assert ref and ref.rows == 8 * ROWS_A_TABLE
    assert ROWS_A_TABLE <= most <= 2 * ROWS_A_TABLE
