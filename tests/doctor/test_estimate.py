"""Estimates: rows that follow from the settings, sizes that follow from configs, rates that this home measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.doctor import estimate as reports
from promptcot_assets.doctor.estimate import Work, estimate
from promptcot_assets.doctor.model_sizes import costs, of_config, size_of
from promptcot_assets.lake import Provenance
from promptcot_assets.settings import Settings, load_settings
from promptcot_assets.settings.profile import OPTIMISERS, BaseModel, TinyModel
from promptcot_assets.tables.models import MODEL

NOWHERE = Path("/nowhere")


def profile(tmp_path: Path, text: str = "", parent: str = "demo") -> Settings:
    path = tmp_path / "profile.yaml"
    path.write_text(f"extends: {parent}\n{text}\n")
    return load_settings(str(path))


def by_table(settings: Settings, home: Path = NOWHERE) -> dict[str, Work]:
    return {one.asset: one for one in estimate(settings, home).work}


def qwen(width: int, layers: int, heads: int, kv: int, inner: int, words: int = 152_064, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
        "intermediate_size": inner, "vocab_size": words,
    } | more  # fmt: skip


CONFIGS = {  # as in the models' config.json
    "Qwen/Qwen2.5-7B-Instruct": qwen(3584, 28, 28, 4, 18944),
    "Qwen/Qwen2.5-32B": qwen(5120, 64, 40, 8, 27648),
    "Qwen/Qwen2.5-72B-Instruct": qwen(8192, 80, 64, 8, 29568),
    "Qwen/Qwen3-32B": qwen(5120, 64, 64, 8, 25600, 151_936, head_dim=128),
    "Qwen/Qwen3-4B-Thinking-2507": qwen(2560, 36, 32, 8, 9728, 151_936, head_dim=128, tie_word_embeddings=True),
    "Qwen/Qwen3-30B-A3B-Thinking-2507": qwen(2048, 48, 32, 4, 6144, 151_936, head_dim=128, num_experts=128,
                                             num_experts_per_tok=8, moe_intermediate_size=768),
    "meta-llama/Llama-3.1-70B-Instruct": qwen(8192, 80, 64, 8, 28672, 128_256),
    "microsoft/phi-4": qwen(5120, 40, 40, 10, 17920, 100_352),
    "openai/gpt-oss-120b": qwen(2880, 36, 64, 8, 2880, 201_088, head_dim=64, num_local_experts=128,
                                experts_per_token=4, quantization_config={"quant_method": "mxfp4"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_the_table_of_sizes_agrees_with_the_configs(name: str) -> None:
    listed, computed = costs()["models"][name], of_config(CONFIGS[name])
    assert computed.total / 1e9 == pytest.approx(listed["total"], rel=0.02)
    assert computed.active / 1e9 == pytest.approx(listed["active"], rel=0.15)  # cards count the embedding differently
    assert (computed.layers, computed.kv_heads, computed.head_dim) == tuple(
        listed[key] for key in ("layers", "kv_heads", "head_dim")
    )
    assert computed.weight_bytes == listed.get("weight_bytes", 2.0)


def test_a_tiny_models_size_is_that_of_the_real_one(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from promptcot_assets.stages.base_models import from_scratch

    tiny = TinyModel(hidden_size=32, intermediate_size=64, layers=3, heads=4, vocab_size=400)
    folder = from_scratch(["one two three", "four"], tiny, tmp_path / "model")
    real = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(folder).parameters())
    local = size_of(BaseModel(hub_id=str(folder)))
    assert local is not None and local.total == pytest.approx(real, rel=0.02)  # norms are left out
    assert local.weight_bytes == 4


def test_rows_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = profile(tmp_path, "synthesis: {concept_sets: {mini_maths: 30, mini_code: 10}, problems_per_set: 5}")
    found = by_table(settings)
    assert found["raw_problems"].rows == 200
    assert found["em_rationales"].rows == 2400 * 8 * 2  # seeds, candidates, rounds
    unique, labelled = (costs()["yields"][name] for name in ("unique", "labelled"))
    assert found["problems"].rows == pytest.approx(200 * unique)
    assert found["teacher_traces"].rows == pytest.approx(200 * unique * labelled)
    assert found["rollouts"].rows == pytest.approx(200 * unique * labelled * 0.2 * 8)
    assert found["benchmark_generations"].rows == 3 * 4 * (400 + 100)  # stages, generations, items


def test_what_grows_with_a_setting_grows_and_nothing_else(tmp_path: Path) -> None:
    two = by_table(profile(tmp_path))
    four = by_table(profile(tmp_path, "em: {rounds: 4}"))
    for name in ("em_rationales", "rationale_model", "problem_generator", "em_bounds", "control_bounds"):
        assert four[name].tokens == pytest.approx(2 * two[name].tokens)
        assert four[name].hours == pytest.approx(2 * two[name].hours)
    for name in ("cold_rationale_model", "raw_problems", "sft_model"):
        assert four[name] == two[name]
    assert all(one.most >= one.sampled + one.trained for one in two.values() if one.model)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_self_play_is_estimated_by_what_its_optimiser_learns_from(name: str, tmp_path: Path) -> None:
    learning, found = OPTIMISERS[name], by_table(profile(tmp_path, plays_by(name)))
    tables = {one.learns_from for one in OPTIMISERS.values() if not one.online}
    assert found.keys() & tables == (set() if learning.online else {learning.learns_from})
    trained = "rollouts_online" if learning.online else "self_play_model"
    assert (found[trained].scored > 0) is learning.reference


def test_written_judges_cost_what_as_many_tests_do(tmp_path: Path) -> None:
    base = "labels: {teacher: base_model"
    without = by_table(profile(tmp_path, f"{base}}}"))
    found = by_table(profile(tmp_path, f"{base}, validators: 3, checkers: 5, tests_per_problem: 4}}"))
    assert "written_judges" not in without
    assert (
        found["written_judges"].sampled == pytest.approx(2 * found["proposed_tests"].sampled)
        and found["written_judges"].sampled
    )


def plays_by(optimiser: str) -> str:
    big = "students: {big: {base: {scratch: {layers: 9}}, plays: false}}\n"
    teacher = ", teacher: big" if OPTIMISERS[optimiser].teacher else ""
    return f"{big if teacher else ''}self_play: {{optimiser: {optimiser}{teacher}}}"


def test_a_teachers_pass_is_counted_at_the_teachers_size(tmp_path: Path) -> None:
    work = estimate(profile(tmp_path, plays_by("distill")), NOWHERE).work
    sampled, scored = (one for one in work if one.asset == "rollouts_online")
    assert scored.scored == sampled.sampled == sampled.trained > 0
    assert sampled.model != scored.model and sampled.hours > scored.hours > 0


def test_the_papers_evaluation_is_counted_from_its_table(tmp_path: Path) -> None:
    text = """
benchmarks:
  files:
    maths: {aime24: x, aime25: x, hmmt25: x}
    code: {livecodebench_v5: x, livecodebench_v6: x, codeforces: x}
corpus: {procedural: null, files: {maths: [x], code: [x]}}
synthesis: {concept_sets: {mini_maths: null, mini_code: null, maths: 10}}
evaluation: {generations: 16, generations_of: {livecodebench_v5: 1, livecodebench_v6: 1, codeforces: 8}}
"""
    assert reports.attempts(profile(tmp_path, text)) == 90 * 16 + 279 + 131 + 408 * 8


def test_seeds_of_a_local_file_are_counted(tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").write_text('{"problem": "?"}\n' * 40)
    text = f"corpus: {{procedural: null, files: {{maths: [{tmp_path}/seeds.jsonl]}}, held_out_share: 0.25}}"
    assert (
        reports.seeds(
            profile(tmp_path, text + "\nsynthesis: {concept_sets: {mini_maths: null, mini_code: null, maths: 1}}")
        )
        == 30
    )


def test_a_generator_says_its_own_size(tmp_path: Path) -> None:
    text = (
        "corpus: {procedural: null, files: {maths: ['gym:gsm_symbolic?seed=1&size=600']}, held_out_share: 0}\n"
        "synthesis: {concept_sets: {mini_maths: null, mini_code: null, maths: 1}}"
    )
    assert reports.seeds(profile(tmp_path, text)) == 600
    assert reports.seeds(profile(tmp_path, text.replace("&size=600", ""))) == costs()["seeds_of_a_source"]


def large(tmp_path: Path, more: str = "") -> Settings:
    return profile(tmp_path, f"base: {{scratch: null, hub_id: Qwen/Qwen2.5-32B, revision: {'a' * 40}}}\n{more}")


def without_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, which is what estimates are for then")


def test_a_large_model_is_estimated_for_an_assumed_device(tmp_path: Path) -> None:
    without_gpu()
    found = estimate(large(tmp_path), NOWHERE)
    assert (found.device.name, found.device.present) == ("H100", False)
    need = {one.model: one for one in found.needs}["Qwen/Qwen2.5-32B"]
    assert (need.to_sample, need.to_train) == (1, 8)  # 66 GB of weights; 525 GB with gradients and optimiser
    assert found.hub == pytest.approx(65.6e9, rel=0.01)
    assert found.checkpoints > (2 + 4 * 2) * 65e9  # cold start, two rounds and their control


def test_adapters_take_fewer_devices(tmp_path: Path) -> None:
    without_gpu()
    adapted = large(tmp_path, "em: {cold_start: {lora: {r: 16}}}")
    assert estimate(adapted, NOWHERE).needs[0].to_train == 2


def test_a_model_that_nobody_knows_has_no_hours(tmp_path: Path) -> None:
    unknown = profile(tmp_path, f"base: {{scratch: null, hub_id: org/unknown, revision: {'a' * 40}}}")
    found = estimate(unknown, NOWHERE)
    assert math.isnan(found.hours)
    assert "org/unknown" in reports.as_text(found) and "its size is not known here" in reports.as_text(found)
    document = reports.as_json(found)
    assert document["totals"]["hours"] is None
    assert json.loads(json.dumps(document, allow_nan=False))["profile"] == "profile"


def measured_home(home: Path, width: int, rows: int, tokens: int, seconds: float) -> Path:
    """A home whose one batch of raw problems was written by a model of that width."""
    from promptcot_assets.tables import open_lake
    from tests.small_home import Home

    lake, small = open_lake(home), Home(home)
    config = qwen(width, 2, 4, 4, 384, 512, tie_word_embeddings=True)
    made = Provenance("1", "", 0)
    work = lake.work_folder("problem_generator", made.fingerprint)
    (work / "config.json").write_text(json.dumps(config))
    (work / "model.safetensors").write_text("weights")
    about = {"base": None, "examples": 1, "steps": 1, "tokens": 1, "loss": 0.1}
    small.refs["problem_generator"] = model = lake.commit_checkpoint("problem_generator", work, MODEL, about, made)

    import pyarrow as pa

    from promptcot_assets.tables import SCHEMAS
    from tests.small_home import row

    content = pa.Table.from_pylist(
        [row("raw_problems", raw_problem_id=str(n)) for n in range(rows)], SCHEMAS["raw_problems"]
    )
    spent = Provenance("1", "", 0, inputs=(model,), tokens=tokens, seconds=seconds)
    lake.commit("raw_problems", [content], SCHEMAS["raw_problems"], spent, "first")
    return home


def test_what_this_home_measured_takes_the_assumptions_place(tmp_path: Path) -> None:
    settings = profile(tmp_path)
    assumed = by_table(settings)["raw_problems"]
    own = by_table(settings, measured_home(tmp_path / "home", 128, rows=50, tokens=50 * 30, seconds=10.0))
    measured = own.pop("raw_problems")
    assert measured.basis == "measured in this home" != assumed.basis
    assert measured.tokens == pytest.approx(assumed.rows * 30)
    assert measured.hours == pytest.approx(assumed.rows * 30 / 150 / 3600)
    assert {one.basis for one in own.values()} <= {"assumed", "no model"}


@pytest.mark.parametrize(("width", "seconds"), [(1024, 10.0), (128, 0.5)])
def test_a_rate_of_another_size_or_of_a_moment_does_not_count(tmp_path: Path, width: int, seconds: float) -> None:
    home = measured_home(tmp_path / "home", width, rows=50, tokens=1500, seconds=seconds)
    assert by_table(profile(tmp_path), home)["raw_problems"].basis == "assumed"


@pytest.mark.parametrize("name", ["demo", "ablations"])
def test_every_profile_has_an_estimate(name: str) -> None:
    found = estimate(load_settings(name), NOWHERE)
    text = reports.as_text(found)
    assert f"estimate of {name}" in text and "in all" in text
    assert 0 < found.hours < 24
    assert json.dumps(reports.as_json(found), allow_nan=False)


def test_teachers_are_asked_for_what_their_roles_say(tmp_path: Path) -> None:
    text = f"""
teachers:
  small: {{model: {{hub_id: Qwen/Qwen3-4B-Thinking-2507, revision: {"a" * 40}}}}}
  large: {{model: {{hub_id: openai/gpt-oss-120b, revision: {"b" * 40}}}}}
annotation:
  annotators:
    - {{teacher: small, sampling: {{max_new_tokens: 100}}}}
    - {{teacher: large, sampling: {{max_new_tokens: 100}}}}
labels: {{voter: {{teacher: small, sampling: {{max_new_tokens: 1000}}}}}}
distillation: {{teacher: {{teacher: large, sampling: {{max_new_tokens: 16384}}}}}}
zero_shot:
  problems: 50
  solver: {{teacher: small, sampling: {{max_new_tokens: 10}}}}
  reference: {{teacher: large, sampling: {{max_new_tokens: 10}}}}
"""
    without_gpu()
    found = estimate(profile(tmp_path, text), NOWHERE)
    asked = {(one.asset, one.model): one for one in found.work}
    for name in ("Qwen/Qwen3-4B-Thinking-2507", "openai/gpt-oss-120b"):
        assert asked["seed_annotations", name].rows == 2 * 2400  # concepts, then a rationale
        assert asked["zero_shot_difficulty", name].rows == 50
    traces = asked["teacher_traces", "openai/gpt-oss-120b"]
    assert traces.sampled / traces.rows == pytest.approx(7351, rel=0.01)  # the paper's mean
    assert ("math_votes", "Qwen/Qwen3-4B-Thinking-2507") in asked
    assert found.hub == pytest.approx(8.04e9 + 117e9 * 0.56)


@pytest.mark.parametrize(("name", "table", "rows"), [
    ("selfplay_4b", "rollouts", 48_113 * 8),  # method section 6
    ("selfplay_30b", "rollouts", 11_209 * 8),
    ("sft_7b", "raw_problems", 416_000 * 64),  # sections 4 and 7
    ("sft_7b", "sft_examples", 4_766_890),
    ("sft_7b", "benchmark_generations", 2 * (3 * 30 * 16 + 279 + 131 + 408 * 8 + 500 * 4 + 1319)),  # 8, and two of ours
])  # fmt: skip
def test_the_papers_volumes_come_out_of_its_profiles(name: str, table: str, rows: int) -> None:
    assert by_table(load_settings(name))[table].rows == pytest.approx(rows, rel=0.01)


def test_the_papers_traces_have_the_papers_length() -> None:
    found = by_table(load_settings("sft_7b"))
    assert found["sft_model"].trained / found["sft_examples"].rows == pytest.approx(7_351, rel=0.01)
    assert not found.keys() & {"rollouts", "self_play_model", "math_votes"}  # it does not play, nobody votes


def test_what_a_profile_leaves_out_costs_nothing() -> None:
    assert not by_table(load_settings("selfplay_4b")).keys() & {"teacher_traces", "sft_model", "sft_examples"}
