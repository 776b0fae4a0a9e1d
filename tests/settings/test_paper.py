"""The paper's numbers, one a line of paper_numbers.txt, against the profiles that claim to have them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from promptcot_assets.settings import load_settings, pins
from promptcot_assets.settings.loading import PROFILES as SETTINGS
from promptcot_assets.settings.profile import Asked, Evaluation, Settings, Training

RUNS = ("selfplay_4b", "selfplay_30b", "sft_7b")
PROFILES = {name: load_settings(name) for name in (*RUNS, "paper")}
LINES = [
    [part.strip() for part in line.split("|")]
    for line in Path(__file__).with_name("paper_numbers.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]
NUMBERS = [
    (profile, setting, value, f"method {section}: {what}")
    for names, setting, value, section, what in LINES
    for profile in (RUNS if names == "all" else (names,))
]


def value_at(settings: Settings, path: str) -> Any:
    """The setting at a dotted path; a few names stand for what several settings come to."""
    value: Any = settings
    for name in path.split("."):
        if name == "batch" and isinstance(value, Training):
            value = batch_of(value)
        elif name == "teacher" and isinstance(value, Asked):
            value = settings.teachers[value.teacher]
        elif name == "hub_id" and hasattr(value, "model") and not hasattr(value, "hub_id"):
            value = value.model.hub_id
        elif name == "reasoning_effort":
            value = value.chat.arguments[name]
        elif name == "attempts" and isinstance(value, Evaluation):
            value = _Attempts(value)
        elif name == "total":
            value = sum(value.values())
        elif isinstance(value, list):
            value = value[int(name)]
        else:
            value = value[name] if isinstance(value, dict | _Attempts) else getattr(value, name)
    return value


class _Attempts:
    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    def __getitem__(self, benchmark: str) -> int:
        return self._evaluation.attempts(benchmark)


def batch_of(training: Training) -> int:
    """Examples of one optimiser step, over all processes of the launcher."""
    config = yaml.safe_load(Path(training.launcher[training.launcher.index("--config_file") + 1]).read_text())
    given = training.arguments
    return int(
        config["num_processes"] * given["per_device_train_batch_size"] * given.get("gradient_accumulation_steps", 1)
    )


@pytest.mark.parametrize(("profile", "setting", "value", "source"), NUMBERS)
def test_a_profile_has_the_paper_s_number(profile: str, setting: str, value: str, source: str) -> None:
    found = value_at(PROFILES[profile], setting)
    expected: Any = value
    if isinstance(found, bool):
        expected = value == "True"
    elif isinstance(found, int | float):
        expected = float(value)
    assert found == expected, source


CHOICES = [(line[0], line[1], line[2]) for line in LINES if line[4].endswith("(choice)")]


@pytest.mark.parametrize(("names", "setting", "value"), CHOICES)
def test_a_number_that_is_not_the_paper_s_is_marked_as_ours(names: str, setting: str, value: str) -> None:
    """On its line or on the line above ("ours, like ...")."""
    text = "".join(
        (SETTINGS / f"{name}.yaml").read_text() for name in {"paper", *(RUNS if names == "all" else [names])}
    )
    lines = text.splitlines()
    key = re.compile(rf"\b{setting.rpartition('.')[2]}: {re.escape(value)}\b")
    said = [
        " ".join(lines[max(0, at - 1) : at + 1]) for at, line in enumerate(lines) if key.search(line.partition("#")[0])
    ]
    assert said and all("ours" in one for one in said), f"{setting} is a choice of ours; say so beside it"


def test_what_the_paper_leaves_open_about_em_is_listed_as_a_choice() -> None:
    open_ = {"em.rounds", "em.patience", "em.gate.standard_errors", "labels.min_votes", "labels.ties",
             "synthesis.concept_temperature", "deduplication.threshold", "self_play.training.arguments.beta",
             "self_play.training.arguments.num_train_epochs"}  # fmt: skip
    assert {setting for _, setting, _ in CHOICES} == open_


def test_qwen3_is_stretched_where_benchmarks_are_asked_and_nowhere_else() -> None:
    for profile, student in (("selfplay_4b", "qwen3_4b"), ("selfplay_30b", "qwen3_30b")):
        settings = PROFILES[profile]
        assert settings.engine_of_evaluation(student).vllm.yarn_factor == 1.75
        assert settings.engine_of_student(student).vllm.yarn_factor is None
        assert settings.engine_of_evaluation(student).max_model_len == settings.engine_of_student(student).max_model_len
    seven = PROFILES["sft_7b"]
    assert seven.engine_of_evaluation("qwen2_5_7b") == seven.engine_of_student("qwen2_5_7b")


def test_the_mixes_are_as_large_as_the_paper_says() -> None:
    for profile, total in (("selfplay_4b", 48_113), ("selfplay_30b", 11_209)):
        play = PROFILES[profile].self_play
        assert sum(play.synthetic_problems.values()) + sum(play.real_problems.values()) == total
        assert play.pool_share == 1.0 and play.held_out_share == 0.0  # nothing is taught, all may be played on
        assert not any(student.taught for student in PROFILES[profile].students.values())
    assert sum(value for line in LINES if line[0] == "selfplay_4b" and ".maths" in line[1]
               for value in [int(line[2])]) == 43_406  # fmt: skip


@pytest.mark.parametrize("profile", [*RUNS, "paper"])
def test_everything_from_the_hub_is_pinned_and_fits_its_engine(profile: str) -> None:
    settings = PROFILES[profile]
    assert pins.unpinned(settings.model_dump()) == []
    rooms = {where: (settings.engine_of(role.teacher), role.sampling) for where, role in settings.roles().items()}
    rooms |= {
        f"students.{name}": (settings.engine_of_student(name), settings.evaluation.sampling)
        for name in settings.students
    }
    rooms["em"] = (settings.engine, settings.em.sampling)
    for where, (engine, sampling) in rooms.items():
        assert (engine.name, engine.dtype) == ("vllm", "bfloat16"), where
        assert engine.max_model_len and engine.max_model_len >= sampling.max_new_tokens + 4096, where
    assert all(teacher.chat and teacher.chat.required for teacher in settings.teachers.values())
    assert all(student.chat and student.chat.required for student in settings.students.values())


def test_a_student_made_for_shorter_texts_is_stretched_where_it_is_asked() -> None:
    settings = PROFILES["sft_7b"]
    assert settings.engine_of_student("qwen2_5_7b").vllm.yarn_factor == 4.0 and settings.engine.vllm.yarn_factor is None
    assert all(PROFILES[name].engine_of_student(one).vllm.yarn_factor is None
               for name in RUNS[:2] for one in PROFILES[name].students)  # fmt: skip


def test_launchers_name_files_of_ours() -> None:
    for settings in PROFILES.values():
        trainings = [
            settings.em.cold_start,
            settings.em.e_step,
            settings.em.m_step_training,
            settings.self_play.training,
        ]
        trainings += [student.sft for student in settings.students.values() if student.taught]
        for training in trainings:
            assert training.launcher[:3] == ["accelerate", "launch", "--config_file"] and training.lora is None
            assert Path(training.launcher[3]).is_file()


def test_arguments_are_known_to_their_trainers() -> None:
    from trl import DPOConfig, SFTConfig

    for settings in PROFILES.values():
        taught = [settings.em.cold_start, settings.em.e_step, settings.em.m_step_training]
        taught += [student.sft for student in settings.students.values()]
        for config, trainings in ((SFTConfig, taught), (DPOConfig, [settings.self_play.training])):
            known = {*config.__dataclass_fields__, "warmup_ratio"}  # which training/loop.py translates
            assert all(set(training.arguments) <= known for training in trainings)


def test_the_examples_of_the_manual_are_profiles(tmp_path: Path) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
    roles, served, chat_api = re.findall(r"```yaml\n(.*?)```", manual, re.DOTALL)
    (tmp_path / "roles.yaml").write_text(f"extends: demo\n{roles}")
    settings = load_settings(str(tmp_path / "roles.yaml"))
    assert set(settings.roles()) == {"labels.voter", "labels.test_writer", "distillation.teacher"}
    (tmp_path / "served.yaml").write_text(served)
    settings = load_settings(str(tmp_path / "served.yaml"))
    engines = {name: settings.engine_of(name) for name in settings.teachers}
    assert {name for name, engine in engines.items() if engine.name == "server"} == {
        "gpt_oss_high", "gpt_oss_medium", "llama_3_1_70b",
    }  # fmt: skip
    assert engines["gpt_oss_high"].max_model_len == 131072 and len(engines["gpt_oss_high"].server.urls) == 2
    (tmp_path / "chat_api.yaml").write_text(chat_api)
    settings = load_settings(str(tmp_path / "chat_api.yaml"))
    assert settings.engine_of("gpt_oss_medium").chat_api.arguments == {"reasoning_effort": "medium"}
    missing = {path.stem for path in SETTINGS.glob("*.yaml") if f"| `{path.stem}` |" not in manual}
    assert not missing, f"give {missing} a row in docs/profiles.md"
