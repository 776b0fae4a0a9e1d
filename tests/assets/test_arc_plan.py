"""The plan of the arc: what `promptcot run --until` takes, and that every asset is in it."""

from pathlib import Path

import pytest

from promptcot_assets.assets.everything import ASSETS
from promptcot_assets.assets.inputs import split
from promptcot_assets.automation import arc
from promptcot_assets.automation.arc import ArcError, Board, Leg, legs, until
from promptcot_assets.definitions import build_definitions
from promptcot_assets.lake.ref import UNPARTITIONED
from promptcot_assets.settings import load_settings


def test_every_asset_is_made_by_one_leg_after_what_it_needs() -> None:
    plan = legs(load_settings("demo"))
    made = [(asset, leg.partition) for leg in plan for asset in leg.assets]
    assert len(made) == len(set(made))
    graph = build_definitions("demo").resolve_asset_graph()
    assert {asset for asset, _ in made} == {key.to_user_string() for key in graph.materializable_asset_keys}
    done: set[str] = set()
    for leg in plan:
        assert done.issuperset(leg.after), leg.name
        done.add(leg.name)


def test_until_takes_a_leg_and_what_it_needs() -> None:
    plan = legs(load_settings("demo"))
    assert [leg.name for leg in until(plan, "EM round_01")] == [
        "corpus", "base model", "cold start q", "cold start p", "cold start bounds", "EM round_01",
    ]  # fmt: skip
    assert until(plan, "corpus") == plan[:1]
    with pytest.raises(ArcError, match=r"no leg 'EM round_99'; the legs of this profile are corpus, base model"):
        until(plan, "EM round_99")


def test_a_leg_waits_for_whatever_its_assets_read(tmp_path: Path) -> None:
    """A voter, no test writer, and the base model for what nobody else does: the batch needs the student's base."""
    (tmp_path / "own.yaml").write_text(
        "extends: demo\nlanes: 1\n"
        f"teachers: {{voter: {{model: {{hub_id: a/b, revision: '{'a' * 40}'}}}}}}\n"
        "labels: {teacher: base_model, voter: {teacher: voter, sampling: {}}}\n"
    )
    plan = legs(load_settings(str(tmp_path / "own.yaml")))
    after = {leg.name: set(leg.after) for leg in plan}
    assert {"teacher voter", "tiny: base", "EM round_02", "corpus"} <= after["batch first"]
    done: set[str] = set()
    waiting = list(plan)
    while waiting:  # one lane takes the first leg that is ready
        leg = next(one for one in waiting if done.issuperset(one.after))
        waiting.remove(leg)
        done.add(leg.name)


@pytest.mark.parametrize(
    "profile", ["demo", "selfplay_4b", "selfplay_30b", "sft_7b", "mini_world_large", "demo with judges"]
)
def test_every_input_of_a_leg_is_made_by_it_or_before_it(profile: str, tmp_path: Path) -> None:
    (tmp_path / "judges.yaml").write_text("extends: demo\nlabels: {validators: 1, checkers: 1}\n")
    settings = load_settings(str(tmp_path / "judges.yaml") if profile == "demo with judges" else profile)
    plan = {leg.name: leg for leg in legs(settings)}
    made = {(asset, leg.partition or UNPARTITIONED): leg for leg in plan.values() for asset in leg.assets}
    for leg in plan.values():
        before, ahead = {leg.name}, [leg.name]
        while ahead:
            above = plan[ahead.pop()].after
            ahead += [name for name in above if name not in before]
            before |= set(above)
        for asset in leg.assets:
            for name in ASSETS[asset].read(settings, leg.partition or UNPARTITIONED):
                read, of = split(name)
                makers = [one for (what, at), one in made.items() if what == read and of in (at, "*", None)]
                assert makers and {one.name for one in makers} <= before, f"{leg.name} reads {name}"


def test_a_profile_says_what_its_legs_take(tmp_path: Path) -> None:
    """The ETA of a real model is not the demo's."""
    own = tmp_path / "own.yaml"
    own.write_text("extends: demo\nleg_seconds: {SFT: 3600, EM: 1200}\n")
    seconds = {leg.name: leg.weight for leg in legs(load_settings(str(own)))}
    usual = {leg.name: leg.weight for leg in legs(load_settings("demo"))}
    changed = {"tiny: SFT": 3600, "EM round_01": 1200, "EM round_02": 1200}
    assert seconds == usual | changed
    own.write_text("extends: demo\nleg_seconds: {SFTs: 3600}\n")
    with pytest.raises(ArcError, match=r"leg_seconds.SFTs: there is no such leg; there are teacher, .*SFT"):
        legs(load_settings(str(own)))


def test_what_was_there_already_makes_no_eta_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A continued arc passes over its finished legs in seconds; the rest takes as long as it ever did."""
    clock = [0.0]
    monkeypatch.setattr(arc.time, "monotonic", lambda: clock[0])
    plan = [Leg("first", (), None, (), 600.0), Leg("second", (), None, (), 400.0), Leg("third", (), None, (), 800.0)]
    board = Board(plan)
    for leg, seconds in zip(plan[:2], (2.0, 400.0), strict=True):
        board.start(leg)
        clock[0] += seconds
        board.finish(leg)
    last = capsys.readouterr().err.splitlines()[-1]
    minutes, seconds = map(int, last.split("ETA ")[1].split("]")[0].split(":"))
    assert 700 < 60 * minutes + seconds < 800  # 800 seconds are left, at a speed between 1 and the prior's 1.5
