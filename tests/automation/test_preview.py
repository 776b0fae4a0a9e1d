"""`promptcot preview`: the real arc on a handful of rows, shown whole and kept nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from promptcot_assets.automation.preview import small
from promptcot_assets.inference.protocol import Completion, SamplingParams, Usage
from promptcot_assets.inference.transcript import TRANSCRIPT, transcribed
from promptcot_assets.settings import load_settings
from promptcot_assets.settings.loading import PROFILES
from tests.assets.arc_runs import ONE_ROUND
from tests.exact_models import one_of


def test_what_passes_an_engine_is_written_down_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = one_of(lambda _: ["yes"], "?")
    assert transcribed(engine, "m/1") is engine
    monkeypatch.setenv(TRANSCRIPT, str(tmp_path / "t.jsonl"))
    with transcribed(engine, "m/1") as watched:
        drawn = watched.generate(["Is it?", "Again?"], SamplingParams(max_new_tokens=4))
        assert isinstance(watched.usage, Usage) and isinstance(drawn[0][0], Completion)
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [(line["model"], line["prompt"]) for line in lines] == [("m/1", "Is it?"), ("m/1", "Again?")]
    assert [line["completions"][0]["text"] for line in lines] == [one[0].text for one in drawn]


@pytest.mark.parametrize("name", ["demo", "paper", "selfplay_4b", "sft_7b", str(ONE_ROUND)])
def test_every_profile_has_a_small_one(name: str, tmp_path: Path) -> None:
    assert (PROFILES / f"{name}.yaml").exists() or Path(name).exists()
    settings = load_settings(name)
    (tmp_path / "preview.yaml").write_text(yaml.safe_dump({"extends": name} | small(settings, 10)))
    less = load_settings(str(tmp_path / "preview.yaml"))
    assert less.em.rounds == 1 and all(count <= 10 for count in less.synthesis.concept_sets.values())
    assert all(file.limit == 10 for _, file, _ in less.corpus.problem_files())
    assert less.em.sampling == settings.em.sampling and less.engine == settings.engine and less.base == settings.base


@pytest.mark.slow
def test_a_preview_shows_prompts_completions_filters_and_verdicts_and_leaves_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"PROMPTCOT_PROFILE": str(ONE_ROUND), "PROMPTCOT_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "promptcot_assets.cli", "preview", "--rows", "6", "--json"],
        env=environment, capture_output=True, text=True, check=False, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    found = json.loads(done.stdout)
    assert found["error"] is None and found["asked"] and found["filters"] and found["estimate"]
    assert all(one["prompt"] and one["completions"] for one in found["asked"])
    assert not (tmp_path / "home").exists()
