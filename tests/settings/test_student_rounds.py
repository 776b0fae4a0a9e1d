"""`self_play.rounds`: every round after the first is a student that continues the one before."""

from pathlib import Path

import dagster as dg
import pytest

from promptcot_assets.assets.everything import ASSETS
from promptcot_assets.assets.partitions import keys_of
from promptcot_assets.automation.arc import legs
from promptcot_assets.settings import Settings, SettingsError, load_settings
from promptcot_assets.tables import Unit


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "own.yaml"
    path.write_text(f"extends: demo\n{text}\n")
    return load_settings(str(path))


def chain(settings: Settings) -> dict[str, str | None]:
    return {name: student.continues for name, student in settings.students.items()}


def test_rounds_are_students_one_after_another(tmp_path: Path) -> None:
    one, three = loaded(tmp_path, ""), loaded(tmp_path, "self_play: {rounds: 3}")
    assert chain(one) == {"tiny": None}
    assert chain(three) == {"tiny": None, "tiny_round_02": "tiny", "tiny_round_03": "tiny_round_02"}
    first, *later = three.students.values()
    assert all(student.model_copy(update={"continues": None}) == first for student in later)
    assert keys_of(Unit.STUDENT, three) == ["tiny", "tiny_round_02", "tiny_round_03"]


def test_legs_follow_the_rounds(tmp_path: Path) -> None:
    three = loaded(tmp_path, "self_play: {rounds: 3}")
    names = [leg.name for leg in legs(three)]
    order = [names.index(f"{name}self-play") for name in ("tiny: ", "tiny_round_02: ", "tiny_round_03: ")]
    assert order == sorted(order)
    asset = ASSETS["sft_model"]
    assert "self_play_model[tiny_round_02]" in asset.read(three, "tiny_round_03")
    assert list(ASSETS["student_base"].read(three, "tiny_round_03")) == [
        "student_base[tiny_round_02]"
    ]  # not trained again


def test_a_round_may_have_settings_of_its_own(tmp_path: Path) -> None:
    own = "students: {tiny_round_02: {continues: tiny, base: {scratch: {layers: 3}}}}\nself_play: {rounds: 3}"
    settings = loaded(tmp_path, own)
    assert chain(settings) == {"tiny": None, "tiny_round_02": "tiny", "tiny_round_03": "tiny_round_02"}
    assert settings.students["tiny_round_02"].base != settings.students["tiny"].base


def test_who_does_not_play_or_is_a_round_already_has_no_further_ones(tmp_path: Path) -> None:
    base = "base: {scratch: {layers: 1}}"
    settings = loaded(
        tmp_path,
        f"students: {{tiny: {{plays: false}}, one: {{{base}}}, two: {{continues: one, {base}}}}}\n"
        "self_play: {rounds: 2}",
    )
    assert chain(settings) == {"tiny": None, "one": None, "two": "one", "one_round_02": "one"}


def test_a_name_that_is_taken_is_named_with_its_mend(tmp_path: Path) -> None:
    taken = "students: {tiny_round_02: {base: {scratch: {layers: 1}}}}\nself_play: {rounds: 2}"
    with pytest.raises(SettingsError, match=r"own\.yaml.*students\.tiny_round_02 is the name of round 2 of tiny"):
        loaded(tmp_path, taken)


@pytest.mark.parametrize("rounds", ["0", "-1", "100", "two", "1.5", "null", "[]"])
def test_rounds_that_cannot_be_counted_are_refused(tmp_path: Path, rounds: str) -> None:
    with pytest.raises(SettingsError, match=r"own\.yaml.*self_play\.rounds"):
        loaded(tmp_path, f"self_play: {{rounds: {rounds}}}")


def test_a_mix_of_a_domain_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"band_mix: maths is no domain of this profile, which has mini_code, mini"):
        loaded(tmp_path, "self_play: {band_mix: {maths: {hard: 1}}}")


def test_the_first_round_is_what_it_was_without_further_ones(tmp_path: Path) -> None:
    one, three = loaded(tmp_path, ""), loaded(tmp_path, "self_play: {rounds: 3}")
    for name in ("sft_model", "rollouts", "verdicts", "preference_pairs", "self_play_model", "self_play_gate"):
        asset = ASSETS[name]
        inputs = asset.read(one, "tiny")
        assert inputs == asset.read(three, "tiny")
        assert asset.recorded(one, "tiny", inputs) == asset.recorded(three, "tiny", inputs)


def test_the_graph_has_the_rounds_as_partitions(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "self_play: {rounds: 2}")
    built = ASSETS["self_play_model"].build(settings)
    assert isinstance(built, dg.AssetsDefinition) and built.partitions_def
    assert built.partitions_def.get_partition_keys() == ["tiny", "tiny_round_02"]
