"""Machines that estimates are for: measured ones, and those of the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.doctor import devices
from promptcot_assets.doctor.devices import GIB, DeviceError, cores_rate, named
from promptcot_assets.doctor.estimate import as_json, as_text, estimate, needs_gpu
from promptcot_assets.doctor.model_sizes import of_gguf, size_of
from promptcot_assets.settings import Settings, load_settings
from tests.tiny_gguf import tiny_llama, write_gguf

SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def profile(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "profile.yaml"
    path.write_text(f"extends: demo\n{text}\n")
    return load_settings(str(path))


def of_model(tmp_path: Path, name: str, more: str = "") -> Settings:
    return profile(tmp_path, f"base: {{scratch: null, hub_id: {name}, revision: {'a' * 40}}}\n{more}")


# what somebody asks for, its name in the table, GiB, how many
ASKED = [
    ("rtx4090", "RTX 4090", 24, 1),
    ("RTX 4090", "RTX 4090", 24, 1),
    ("4090", "RTX 4090", 24, 1),
    ("a100", "A100", 80, 1),
    ("a100-80", "A100", 80, 1),
    ("a100-40", "A100-40", 40, 1),
    ("l40s", "L40S", 48, 1),
    ("8xh100", "H100", 80, 8),
    ("H200", "H200", 141, 1),
]


@pytest.mark.parametrize(("text", "name", "gib", "count"), ASKED)
def test_a_device_is_asked_for_by_its_name(text: str, name: str, gib: int, count: int) -> None:
    found = named(text)
    assert (found.name, found.memory / GIB, found.count, found.asked_for) == (name, gib, count, True)
    assert found.flops > 5e13 and found.bandwidth > 2e11 and not found.is_cpu


@pytest.mark.parametrize("text", ["tpu", "", "0xh100", "h100x8"])
def test_a_name_that_no_device_has_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(DeviceError, match=r"is no device that is known here; name one of .*a100-40.*rtx4090.*8xh100"):
        named(text)


def test_what_a_core_reaches_is_measured_and_not_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, gain = cores_rate()
    assert 1e8 < rate < 1e13 and 1 <= gain < 100
    monkeypatch.setattr(devices, "_products", lambda kind: 1.0)
    assert cores_rate() == (rate, gain)  # once a process: an estimate does not change while it is made
    cores_rate.cache_clear()
    assert cores_rate() == (1.0, 1.0)
    cores_rate.cache_clear()


def test_a_small_real_model_needs_no_gpu_and_is_estimated_for_this_machines_cores(tmp_path: Path) -> None:
    import torch

    settings = of_model(tmp_path, SMALL)
    assert not needs_gpu(settings)
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, which is what estimates are for then")
    found = estimate(settings, tmp_path)
    assert found.device.is_cpu and found.device.flops == cores_rate()[0]
    text = as_text(found)
    assert "core hours" in text and "one core was measured" in text and "H100" not in text
    assert as_json(found)["wall_hours"] > 0


@pytest.mark.parametrize(("name", "more", "needed"), [
    (SMALL, "engine: {name: vllm}", True),
    ("HuggingFaceTB/SmolLM2-1.7B-Instruct", "", True),
    ("org/unknown", "", True),
    (SMALL, "teachers: {big: {model: {hub_id: Qwen/Qwen2.5-72B-Instruct, revision: " + "a" * 40 + "}}}\n"
            "labels: {voter: {teacher: big, sampling: {}}}", True),
    (SMALL, "teachers: {big: {model: {hub_id: Qwen/Qwen2.5-72B-Instruct, revision: " + "a" * 40 + "}, engine: "
            "{name: server, server: {urls: ['http://10.0.0.1/v1']}}}}\nlabels: {voter: {teacher: big, sampling: {}}}",
     False),
    (SMALL, "teachers: {big: {model: {served: gpt}, engine: {name: chat_api, chat_api: {urls: ['http://10.0.0.1/v1']}}"
            "}}\nlabels: {voter: {teacher: big, sampling: {}}}", False),
])  # fmt: skip
def test_a_gpu_is_needed_for_what_is_large_and_here(tmp_path: Path, name: str, more: str, needed: bool) -> None:
    assert needs_gpu(of_model(tmp_path, name, more)) is needed


def test_models_that_others_serve_cost_no_hour_and_nothing_is_fetched_of_them(tmp_path: Path) -> None:
    more = (
        "teachers: {big: {model: {served: gpt}, engine: {name: chat_api, chat_api: {urls: ['http://10.0.0.1/v1']}}}}\n"
        "labels: {voter: {teacher: big, sampling: {}}}"
    )
    found = estimate(of_model(tmp_path, SMALL, more), tmp_path, named("rtx4090"))
    (votes,) = (one for one in found.work if one.asset == "math_votes")
    assert (votes.model, votes.hours, votes.basis) == ("gpt", 0, "others' machines") and votes.sampled > 0
    assert found.hours == found.hours > 0  # not NaN
    assert "gpt (labels.voter): others serve it" in as_text(found)
    assert found.hub == pytest.approx(0.27e9, rel=0.01)


def test_lanes_and_devices_shorten_the_wall_clock_and_not_the_hours(tmp_path: Path) -> None:
    one = estimate(of_model(tmp_path, SMALL, "lanes: 1"), tmp_path, named("rtx4090"))
    two = estimate(of_model(tmp_path, SMALL, "lanes: 2"), tmp_path, named("2xrtx4090"))
    crowded = estimate(of_model(tmp_path, SMALL, "lanes: 2"), tmp_path, named("rtx4090"))
    assert one.hours == two.hours == crowded.hours == one.wall_hours == crowded.wall_hours
    assert two.wall_hours == pytest.approx(one.hours / 2)


def test_a_faster_device_is_faster(tmp_path: Path) -> None:
    hours = [
        estimate(of_model(tmp_path, SMALL), tmp_path, named(name)).hours for name in ("l4", "rtx4090", "h100", "h200")
    ]
    assert hours == sorted(hours, reverse=True) and len(set(hours)) == 4


def test_the_command_judges_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTCOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = CliRunner().invoke(main, ["doctor", "--profile", "demo", "--for", "rtx4090"])
    assert told.exit_code == 0 and "1 x RTX 4090 (asked for)" in told.output and "sandbox" not in told.output
    paper = CliRunner().invoke(main, ["doctor", "--profile", "paper", "--for", "rtx4090"])
    assert paper.exit_code == 1
    assert "needs 32 x RTX 4090 of 24 GiB for Qwen/Qwen2.5-32B; asked about 1" in paper.output
    assert "ask for 32xrtx4090" in paper.output
    wrong = CliRunner().invoke(main, ["doctor", "--for", "tpu"])
    assert wrong.exit_code != 0 and "is no device that is known here" in wrong.output


def test_a_gguf_files_size_is_in_it_and_before_it_is_fetched_in_the_table(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny_llama(tmp_path / "folder")
    own = of_gguf(write_gguf(folder, tmp_path / "tiny.gguf"))
    real = AutoModelForCausalLM.from_pretrained(folder)
    assert own is not None and own.total == sum(weight.numel() for weight in real.parameters())
    assert (own.layers, own.kv_heads, own.head_dim, own.hidden, own.inner) == (2, 2, 16, 64, 96)
    assert own.vocab == real.config.vocab_size
    settings = load_settings("smollm2_135m")
    listed = size_of(settings.base.model_copy(update={"gguf": "nowhere/SmolLM2-135M-Instruct.Q4_1.gguf"}))
    assert listed is not None and listed.total == 0.135e9
    (tmp_path / "no.gguf").write_bytes(b"no GGUF")
    assert of_gguf(tmp_path / "no.gguf") is None and of_gguf(tmp_path / "nowhere.gguf") is None


def test_a_real_model_on_this_machine_is_never_told_to_need_a_gpu(tmp_path: Path) -> None:
    settings = load_settings("smollm2_135m")
    assert not needs_gpu(settings)
    found = estimate(settings, tmp_path, devices.cpu())
    assert found.hours > 0 and "H100" not in as_text(found)
    assert {phase.model.partition("@")[0] for phase in found.phases} == {f"gguf:{Path(str(settings.base.gguf)).name}"}
