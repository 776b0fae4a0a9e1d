"""`promptcot improve` on a real small arc: failures, batch, labels, play, training, gate; again, and with a budget."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptcot_assets.automation import improve as loop
from promptcot_assets.automation.arc import ArcError
from promptcot_assets.lake import Lake, LakeError
from promptcot_assets.lineage.history import History
from promptcot_assets.settings import SettingsError, load_settings
from promptcot_assets.stages.statistics import Interval
from promptcot_assets.stages.students.self_play import gate_difference
from promptcot_assets.tables import open_lake
from tests.assets import arc_runs
from tests.small_home import Home

PLAYS = """
extends: {small}
self_play: {{pool_share: 0.7, held_out_share: 0.5, rollouts: 2, optimiser: sft,
            training: {{arguments: {{learning_rate: 1.0e-3, num_train_epochs: 2, beta: null}}}}}}
prices: {{machine_hour: 2.0, currency: EUR}}
"""


@pytest.fixture(scope="module")
def played(finished_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A finished home whose student has played, with held-out problems, and its profile."""
    folder = tmp_path_factory.mktemp("improve")
    profile, home = folder / "plays.yaml", folder / "home"
    profile.write_text(PLAYS.format(small=arc_runs.SMALL))
    shutil.copytree(finished_home, home)
    done = arc_runs.run(
        [*arc_runs.PROMPTCOT, "run", "--until", "tiny: self-play"], home, PROMPTCOT_PROFILE=str(profile), within_s=1500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    yield profile, home


def command(home: Path, profile: Path, *arguments: str) -> dict[str, object]:
    done = arc_runs.run(
        [*arc_runs.PROMPTCOT, "improve", *arguments, "--json"], home, PROMPTCOT_PROFILE=str(profile), within_s=1500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)  # an arc and a round: minutes of CPU, long on a busy machine
def test_a_round_is_ordinary_partitions_and_the_same_command_makes_nothing_anew(played: tuple[Path, Path]) -> None:
    profile, home = played
    stopped = command(home, profile, "tiny", "--budget", "1")
    assert stopped["rounds"] == [] and "the budget of 1 tokens is spent" in str(stopped["stopped"])
    lake = open_lake(home)
    assert lake.newest("math_answers", "tiny_1") and not lake.newest("self_play_model", "tiny_1")

    found = command(home, profile, "tiny")
    (one,) = found["rounds"]  # type: ignore[misc]
    gain = gate_difference(_rows(lake, "self_play_gate", "tiny_1"))
    assert gain and one["gain"]["estimate"] == gain.estimate and one["significant"] is (gain.low > 0)
    made = lake.newest("concept_sets", "tiny_1")
    assert made
    inputs = [str(ref) for ref in lake.commit_of(made).provenance.inputs]
    assert str(lake.newest("self_play_gate", "tiny")) in inputs
    assert not any(name.startswith("benchmark") for name in inputs)
    own = [entry for (_, partition), entry in History(home).newest.items() if partition == "tiny_1"]
    assert one["tokens"] == sum(entry.commit.provenance.tokens for entry in own) > 0
    assert one["money"] == pytest.approx(2 * sum(entry.commit.provenance.seconds for entry in own) / 3600)

    before = {place: entry.ref for place, entry in History(home).newest.items()}
    assert command(home, profile, "tiny")["rounds"] == found["rounds"]
    assert {place: entry.ref for place, entry in History(home).newest.items()} == before
    settings = load_settings(str(found["profile"]))
    assert settings.students["tiny_1"].continues == "tiny" and settings.synthesis.focus["tiny_1"].student == "tiny"


def _rows(lake: Lake, asset: str, partition: str) -> list[dict[str, object]]:
    ref = lake.newest(asset, partition)
    return lake.table(ref).to_pylist() if ref else []


def test_a_student_without_held_out_problems_or_that_is_none_says_so(tmp_path: Path) -> None:
    def never() -> object:
        raise AssertionError("nothing is run")

    with pytest.raises(ArcError, match="no student 'nobody' in profile demo; it has tiny"):
        loop.improve("demo", tmp_path, never, "nobody", 1)  # type: ignore[arg-type]
    with pytest.raises(LakeError, match="there is no lake"):
        loop.improve("demo", tmp_path, never, "tiny", 1)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir()), "who refuses has written nothing"
    seed = {"problem_id": "s1", "domain": "maths", "problem": "1?", "answer": "1", "split": "train"}
    Home(tmp_path).commit("seed_problems", [seed])
    with pytest.raises(ArcError, match=r"set self_play\.held_out_share above 0"):
        loop.improve("demo", tmp_path, never, "tiny", 1)  # type: ignore[arg-type]


def test_a_focus_needs_a_student_with_held_out_problems(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    for students in ("tiny", "nobody"):
        profile.write_text(f"extends: demo\nsynthesis: {{focus: {{second: {{student: {students}}}}}}}\n")
        with pytest.raises(SettingsError, match="held_out_share above 0"):
            load_settings(str(profile))


def test_the_price_of_a_point() -> None:
    def one(low: float, estimate: float, money: float | None) -> loop.Round:
        return loop.Round("s_1", "s_1", Interval(estimate, low, 0.2, 0.01, 40), 5000, 90.0, money, "EUR")

    good, bad = one(0.05, 0.1, 1.5), one(-0.2, -0.05, None)
    assert "+10.0 points [+5.0, +20.0] on 40 held-out problems, significant" in loop._line(good)
    assert "5,000 tokens, 90 s, 1.50 EUR; a point cost 500 tokens, 9 s, 0.15 EUR" in loop._line(good)
    assert loop._line(bad).endswith("not significant; 5,000 tokens, 90 s, for no point")
    found = loop.Improved("s", Path("p.yaml"), [good, bad], "the gain of s_1 is not significant")
    assert "in all 10.0 significant points; 10,000 tokens, 180 s, 1.50 EUR; a point cost 1,000 tokens" in loop.as_text(
        found
    )
