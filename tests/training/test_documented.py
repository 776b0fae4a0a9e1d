"""The arguments of docs/architecture/training.md are such as TRL takes, its configurations are those that exist."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import DistillationConfig, DPOConfig, GRPOConfig, SFTConfig

from promptcot_assets.settings.profile import Training
from promptcot_assets.settings.section import is_secret
from training.child import Spec
from training.launch import CONFIGS, command
from training.loop import trainer_arguments

PAGE = (Path(__file__).parents[2] / "docs" / "architecture" / "training.md").read_text()
EXAMPLES = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
ARGUMENTS = [example["arguments"] for example in EXAMPLES if "arguments" in example]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda one: str(one.get("vllm_mode", "packing")))
def test_documented_arguments_reach_the_trainer(arguments: dict[str, Any], tmp_path: Path) -> None:
    spec = Spec("base", tmp_path, tmp_path, tmp_path, arguments=arguments)
    config = trainer_arguments(GRPOConfig if "num_generations" in arguments else SFTConfig, spec)
    assert {name: getattr(config, name) for name in arguments} == arguments


def test_documented_arguments_of_distillation_reach_the_trainer(tmp_path: Path) -> None:
    (own,) = (example["self_play"] for example in EXAMPLES if "self_play" in example)
    arguments = own["training"]["arguments"]
    config = trainer_arguments(DistillationConfig, Spec("base", tmp_path, tmp_path, tmp_path, arguments=arguments))
    assert own["optimiser"] == "distill" and {name: getattr(config, name) for name in arguments} == arguments


def test_a_documented_launcher_starts() -> None:
    (student,) = (example["students"]["large"]["sft"] for example in EXAMPLES if "students" in example)
    words = command("sft", Path("spec.json"), Training.model_validate(student).launcher)
    assert str(CONFIGS / "fsdp_8.yaml") in words


def test_the_table_names_every_configuration() -> None:
    assert set(re.findall(r"^\| `(\w+\.yaml)` \|", PAGE, re.MULTILINE)) == {path.name for path in CONFIGS.iterdir()}


@pytest.mark.parametrize("config", [SFTConfig, DPOConfig, GRPOConfig, DistillationConfig])
def test_of_a_trainers_arguments_only_the_hubs_token_is_refused_as_a_secret(config: type) -> None:
    assert [one.name for one in dataclasses.fields(config) if is_secret(one.name)] == ["hub_token"]
