"""What `auto` in a profile stands for: numbers that share a machine's cores, bfloat16 where it is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.settings import SettingsError, load_settings, machine
from promptcot_assets.settings.machine import Machine, cores, fitted, this_machine


@pytest.mark.parametrize(
    ("written", "of_two", "of_sixteen"),
    [
        ({"lanes": "auto"}, {"lanes": 2}, {"lanes": 2}),
        ({"lanes": 3}, {"lanes": 3}, {"lanes": 3}),
        ({"sft": {"threads": "auto"}}, {"sft": {"threads": 2}}, {"sft": {"threads": 16}}),
        ({"lanes": 2, "sft": {"threads": "auto"}},
         {"lanes": 2, "sft": {"threads": 1}}, {"lanes": 2, "sft": {"threads": 8}}),
        ({"lanes": 5, "sft": {"threads": "auto"}},
         {"lanes": 5, "sft": {"threads": 1}}, {"lanes": 5, "sft": {"threads": 3}}),
        ({"engine": {"workers": "auto"}}, {"engine": {"workers": 2}}, {"engine": {"workers": 16}}),
        ({"engine": {"workers": "auto", "threads": "auto"}}, {"engine": {"workers": 2, "threads": 1}},
         {"engine": {"workers": 16, "threads": 1}}),
        ({"engine": {"workers": 4, "threads": "auto"}}, {"engine": {"workers": 4, "threads": 1}},
         {"engine": {"workers": 4, "threads": 4}}),
        ({"engine": {"workers": "auto", "threads": 4}}, {"engine": {"workers": 1, "threads": 4}},
         {"engine": {"workers": 4, "threads": 4}}),
        # an overlay has the rest from the profile's engine
        ({"engine": {"threads": 4}, "students": {"s": {"engine": {"workers": "auto"}}}},
         {"engine": {"threads": 4}, "students": {"s": {"engine": {"workers": 1}}}},
         {"engine": {"threads": 4}, "students": {"s": {"engine": {"workers": 4}}}}),
        # of others, `auto` is what it was
        ({"engine": {"dtype": "auto"}, "arms": [{"threads": "auto"}]},
         {"engine": {"dtype": "auto"}, "arms": [{"threads": 2}]},
         {"engine": {"dtype": "auto"}, "arms": [{"threads": 16}]}),
        ({"arguments": {"bf16": "auto"}}, {"arguments": {"bf16": True}}, {"arguments": {"bf16": False}}),
        ({"engine": {"dtype": "fastest"}}, {"engine": {"dtype": "bfloat16"}}, {"engine": {"dtype": "float32"}}),
        # what cannot be is left for the settings to refuse
        ({"lanes": 0, "engine": "auto"}, {"lanes": 0, "engine": "auto"}, {"lanes": 0, "engine": "auto"}),
    ],
)  # fmt: skip
def test_cores_are_shared(written: dict[str, Any], of_two: dict[str, Any], of_sixteen: dict[str, Any]) -> None:
    assert (fitted(written, Machine(2, True)), fitted(written, Machine(16, False))) == (of_two, of_sixteen)


def test_a_profile_may_say_auto_and_has_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "auto.yaml"
    profile.write_text(
        "extends: demo\nlanes: auto\nengine: {workers: auto, threads: auto}\nsandbox: {workers: auto}\n"
        "em: {cold_start: {threads: auto}}\nself_play: {training: {threads: auto}}\n"
    )
    monkeypatch.setattr(machine, "this_machine", lambda: Machine(8, False))
    settings = load_settings(str(profile))
    assert settings.lanes == 2 and settings.sandbox.workers == 4
    assert (settings.engine.workers, settings.engine.threads) == (4, 1)
    assert settings.em.cold_start.threads == settings.self_play.training.threads == 4
    monkeypatch.setattr(machine, "this_machine", lambda: Machine(2, True))
    two = load_settings("smollm2_135m_small")
    assert (two.lanes, two.engine.workers, two.em.cold_start.threads, two.sandbox.workers) == (1, 2, 2, 2)
    assert two.engine.dtype == "bfloat16" and two.em.e_step.arguments["bf16"] is True
    monkeypatch.setattr(machine, "this_machine", lambda: Machine(2, False))
    old = load_settings("smollm2_135m_small")
    assert old.engine.dtype == "float32" and old.self_play.training.arguments["bf16"] is False


@pytest.mark.parametrize("wrong", ["lanes: all", "engine: {threads: automatic}", "lanes: 0"])
def test_another_word_is_refused_by_name(wrong: str, tmp_path: Path) -> None:
    profile = tmp_path / "wrong.yaml"
    profile.write_text(f"extends: demo\n{wrong}\n")
    with pytest.raises(SettingsError, match=wrong.split(":")[0]):
        load_settings(str(profile))


@pytest.mark.parametrize(
    ("said", "granted"), [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), ("", None)]
)
def test_a_control_group_may_grant_fewer_cores(
    said: str, granted: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    bound = cores()
    (tmp_path / "cpu.max").write_text(said)
    assert cores() == (granted or bound)


def test_a_system_that_binds_nobody_to_cores_has_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr(machine, "QUOTA", Path("not there"))
    assert cores() == 3


@pytest.mark.parametrize(
    ("said", "multiplies"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw\n", False),
        ("Features\t: fp asimd sve bf16 i8mm\n", True),
        ("", False),
    ],
)
def test_bfloat16_is_for_processors_that_multiply_in_it(
    said: str, multiplies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "ACCELERATORS", (tmp_path / "nvidiactl",))
    assert not this_machine().bf16  # nothing is known of it
    (tmp_path / "cpuinfo").write_text(said)
    assert this_machine() == Machine(cores(), multiplies)
    (tmp_path / "nvidiactl").touch()
    assert this_machine().bf16
