"""How a trainer is started, and that accelerate itself accepts the configurations of the package."""

import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

from training.child import SpecError
from training.launch import CONFIGS, command

LAUNCH = ["accelerate", "launch", "--config_file"]
KINDS = {
    "one_gpu.yaml": (DistributedType.NO, 1),
    "fsdp_8.yaml": (DistributedType.FSDP, 8),
    "zero3_8.yaml": (DistributedType.DEEPSPEED, 8),
    "cpu_2.yaml": (DistributedType.MULTI_GPU, 2),
}


def test_a_trainer_alone_is_a_module_of_this_python() -> None:
    assert command("sft", Path("spec.json")) == [sys.executable, "-m", "training.sft", "spec.json"]


def test_a_launcher_is_the_one_beside_this_python_and_its_file_that_of_the_package() -> None:
    program, *words = command(
        "dpo", Path("spec.json"), [*LAUNCH, "training/configs/fsdp_8.yaml", "--num_processes", "4"]
    )
    assert program == str(Path(sys.executable).parent / "accelerate")
    assert words == ["launch", "--config_file", str(CONFIGS / "fsdp_8.yaml"), "--num_processes", "4", "-m",
                     "training.dpo", "spec.json"]  # fmt: skip


def test_a_file_of_ones_own_is_left_as_it_is() -> None:
    assert "mine/fsdp.yaml" in command("sft", Path("spec.json"), [*LAUNCH, "mine/fsdp.yaml"])


def test_what_is_not_there_is_named_with_what_is() -> None:
    with pytest.raises(SpecError, match=r"no training/configs/fsdp.yaml; known: training/configs/cpu_2.yaml, .*fsdp_8"):
        command("sft", Path("spec.json"), [*LAUNCH, "training/configs/fsdp.yaml"])
    with pytest.raises(SpecError, match="there is no program 'accelerator', neither beside"):
        command("sft", Path("spec.json"), ["accelerator", "launch"])


def test_every_configuration_is_known_here() -> None:
    assert {path.name for path in CONFIGS.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_the_configuration_as_it_is_meant(name: str) -> None:
    config = load_config_from_file(str(CONFIGS / name))  # refuses a key of the first level that it does not know
    assert isinstance(config, ClusterConfig)
    assert (config.distributed_type, config.num_processes) == KINDS[name]

    parser = launch_command_parser()
    args = parser.parse_args(["--config_file", str(CONFIGS / name), "-m", "training.sft", "spec.json"])
    known = set(vars(args))
    args, _, _ = _validate_launch_command(args)
    kind = config.distributed_type
    assert args.use_fsdp == (kind is DistributedType.FSDP)
    assert args.use_deepspeed == (kind is DistributedType.DEEPSPEED)
    assert (args.num_processes, args.mixed_precision) == (config.num_processes, config.mixed_precision)
    for section in ("fsdp_config", "deepspeed_config"):  # a key that is not an option of `launch` would do nothing
        content = yaml.safe_load((CONFIGS / name).read_text()).get(section, {})
        assert set(content) <= known
        assert {key: getattr(args, key) for key in content} == content


def test_sharded_runs_leave_one_whole_model() -> None:
    """What the last saving relies on; a gathered model is what the lake and every engine read."""
    fsdp, zero3 = (yaml.safe_load((CONFIGS / name).read_text()) for name in ("fsdp_8.yaml", "zero3_8.yaml"))
    assert fsdp["fsdp_config"]["fsdp_version"] == 2
    assert fsdp["fsdp_config"]["fsdp_activation_checkpointing"] is False  # see training/lora.py
    assert zero3["deepspeed_config"]["zero3_save_16bit_model"] is True
