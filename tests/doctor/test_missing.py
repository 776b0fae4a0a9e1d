"""What a machine lacks for a profile is named, with its mend; no test asks the real hub."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from promptcot_assets.doctor import missing as reports
from promptcot_assets.doctor.estimate import GIB, Device, Estimate, estimate
from promptcot_assets.doctor.finding import Finding
from promptcot_assets.settings import Settings, load_settings

COMMIT = "b" * 40
HUB_MODEL = "base: {{scratch: null, hub_id: {name}, revision: {commit}}}"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An endpoint where nobody listens, an empty cache, no token."""
    import huggingface_hub

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


def settings_with(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "profile.yaml"
    path.write_text(f"extends: demo\n{text}\n")
    return load_settings(str(path))


def hub_profile(tmp_path: Path, name: str = "Qwen/Qwen2.5-32B", commit: str | None = COMMIT) -> Settings:
    return settings_with(tmp_path, HUB_MODEL.format(name=name, commit=commit or "null"))


def on(found: Estimate, count: int) -> Estimate:
    return replace(found, device=Device("H100", 989e12, 80 * GIB, count, count > 0))


def findings(settings: Settings, home: Path, devices: int = 8) -> dict[str, Finding]:
    return {one.name: one for one in reports.missing(settings, on(estimate(settings, home), devices), home)}


def test_nothing_is_missing_for_the_demo(tmp_path: Path) -> None:
    settings = load_settings("demo")
    found = list(reports.missing(settings, estimate(settings, tmp_path), tmp_path))
    assert [(one.name, one.level) for one in found] == [("devices", "ok"), ("room", "ok")]


@pytest.mark.parametrize(("count", "level"), [(0, "fail"), (4, "fail"), (8, "ok")])
def test_devices_are_counted(tmp_path: Path, count: int, level: str) -> None:
    found = findings(hub_profile(tmp_path), tmp_path, count)["devices"]
    assert found.level == level
    assert "8 x H100 of 80 GiB for Qwen/Qwen2.5-32B" in found.found
    assert bool(found.mend) == (level == "fail")


def test_models_that_are_served_elsewhere_still_need_devices_to_be_trained(tmp_path: Path) -> None:
    served = "engine: {name: server, server: {urls: ['http://10.0.0.1/v1']}}"
    text = f"{HUB_MODEL.format(name='Qwen/Qwen2.5-32B', commit=COMMIT)}\n{served}"
    assert "8 x H100" in findings(settings_with(tmp_path, text), tmp_path, 0)["devices"].found


def test_a_model_that_is_not_cached_is_named_with_its_commit_and_the_hub_that_does_not_answer(tmp_path: Path) -> None:
    found = findings(hub_profile(tmp_path), tmp_path)
    assert found["models"].level == "warn" and f"Qwen/Qwen2.5-32B@{COMMIT[:12]}" in found["models"].found
    assert found["hub"].level == "fail" and "127.0.0.1 does not answer" in found["hub"].found
    assert "HF_TOKEN" not in found  # nothing gated


def test_a_cached_commit_needs_no_hub_and_another_commit_does(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--Qwen--Qwen2.5-32B" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(
        '{"hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8,'
        ' "intermediate_size": 27648, "vocab_size": 152064}'
    )
    found = findings(hub_profile(tmp_path), tmp_path)
    assert found["models"].level == found["hub"].level == "ok"
    assert findings(hub_profile(tmp_path, commit="c" * 40), tmp_path)["hub"].level == "fail"


def test_a_hub_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert findings(hub_profile(tmp_path), tmp_path)["hub"].level == "ok"


def test_an_offline_hub_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = findings(hub_profile(tmp_path), tmp_path)["hub"]
    assert (found.level, found.found) == ("fail", "HF_HUB_OFFLINE is set")


def test_an_unpinned_revision_is_named(tmp_path: Path) -> None:
    found = findings(hub_profile(tmp_path, "org/unpinned", None), tmp_path)["revisions"]
    assert found.level == "fail" and "org/unpinned" in found.found and "promptcot pin" in found.mend


def test_a_gated_model_needs_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    gated = hub_profile(tmp_path, "meta-llama/Llama-3.1-70B-Instruct")
    found = findings(gated, tmp_path)["HF_TOKEN"]
    assert found.level == "fail" and "meta-llama/Llama-3.1-70B-Instruct" in found.found
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    assert findings(gated, tmp_path)["HF_TOKEN"].level == "ok"


def test_too_little_disk_is_told_beforehand(tmp_path: Path) -> None:
    settings = hub_profile(tmp_path)
    found = replace(on(estimate(settings, tmp_path), 8), tables=1e18)
    (room,) = (one for one in reports.missing(settings, found, tmp_path) if one.name == "room")
    assert room.level == "fail" and "GiB free" in room.found


def test_a_teachers_server_is_called(tmp_path: Path) -> None:
    text = "teachers: {{one: {{model: {{served: gpt}}, engine: {{name: chat_api, chat_api: {{urls: ['{url}']}}}}}}}}\n"
    text += "labels: {{voter: {{teacher: one, sampling: {{}}}}}}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        settings = settings_with(tmp_path, text.format(url=url))
        found = findings(settings, tmp_path)["teachers"]
        assert (found.level, found.found.endswith("answers, for one")) == ("ok", True)
    away = findings(settings, tmp_path)["teachers"]
    assert away.level == "fail" and "which serves one, does not answer" in away.found and away.mend
