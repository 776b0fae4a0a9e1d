"""What an engine did is on the page of the asset that used it, and in no row."""

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.resources import EngineResource, LakeResource, SettingsResource
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
