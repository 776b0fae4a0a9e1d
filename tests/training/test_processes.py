"""Trainers on two processes (gloo), by the package's own launch configuration: they learn as one does, a kill changes
nothing, one that dies ends all, and sharded weights come out as one model."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.runs import children, continued, hashes, run, start, trained, until_checkpoint, write_spec
from tests.training.test_child import gone
from training.launch import CONFIGS, command

pytestmark = pytest.mark.slow
LAUNCHER = ["accelerate", "launch", "--config_file", "training/configs/cpu_2.yaml"]
SHARDED = ["accelerate", "launch", "--config_file", "training/configs/fsdp_8.yaml", "--num_processes", "2",
           "--mixed_precision", "no"]  # fmt: skip
ONE_BATCH = {"per_device_train_batch_size": 16}  # what a step of two processes has together


def sharded(spec: Path) -> list[str]:
    """`fsdp_8` on two CPUs: see fsdp_on_cpu.py."""
    whole = command("sft", spec, SHARDED)
    return [*whole[: whole.index("-m")], "-m", "tests.training.fsdp_on_cpu", "sft", str(spec)]


def result(folder: Path) -> dict:
    return json.loads((folder / "model" / "training.json").read_text())


def losses(made: dict) -> list[float]:
    return [loss for _, loss in made["loss_curve"]]


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SFT run of two processes that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    said = trained(command("sft", write_spec(folder, tiny_model), LAUNCHER), folder / "log")
    results = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert len(results) == 1  # the first process speaks for both
    figures = results[0]["figures"]
    assert figures["processes"] == 2 and figures["accelerator_seconds"] == 2 * figures["seconds"]
    return folder


def test_two_processes_train_as_one_does(
    whole: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run("sft", write_spec(tmp_path, tiny_model, arguments=ONE_BATCH), capsys)
    two = result(whole)
    # up to the end of the epoch: accelerate fills up its last short batch with repeated rows
    assert losses(two)[:3] == pytest.approx(losses(one)[:3], abs=1e-4)
    assert losses(two) == pytest.approx(losses(one), rel=0.02)
    assert (two["steps"], two["tokens"], two["rows"]) == (one["steps"], one["tokens"], one["rows"])


def test_a_process_that_dies_ends_the_run_and_the_same_command_makes_the_same_bytes(
    whole: Path, tiny_model: Path, tmp_path: Path
) -> None:
    spec, log = write_spec(tmp_path / "run", tiny_model, save_steps=5), tmp_path / "log"
    launcher = start(command("sft", spec, LAUNCHER), log)
    until_checkpoint(launcher, tmp_path / "run" / "ck", log)
    first, second = children(launcher.pid)
    os.kill(second, signal.SIGKILL)
    assert launcher.wait(timeout=120) == 1
    assert f"exitcode : -9 (pid: {second})" in " ".join(log.read_text().split())
    assert gone(first)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"data.parquet", "spec.json", "ck"}

    continued(command("sft", spec, LAUNCHER), tmp_path / "run" / "ck", log)
    assert hashes(tmp_path / "run" / "model") == hashes(whole / "model")


def test_a_killed_launcher_takes_its_processes_along_and_the_same_command_makes_the_same_bytes(
    tiny_model: Path, tmp_path: Path
) -> None:
    trained(command("dpo", write_spec(tmp_path / "whole", tiny_model), LAUNCHER), tmp_path / "log")

    spec, log = write_spec(tmp_path / "killed", tiny_model, save_steps=5), tmp_path / "log"
    launcher = start(command("dpo", spec, LAUNCHER), log)
    until_checkpoint(launcher, tmp_path / "killed" / "ck", log)
    processes = children(launcher.pid)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    assert len(processes) == 2 and all(map(gone, processes))
    assert not (tmp_path / "killed" / "model").exists()

    continued(command("dpo", spec, LAUNCHER), tmp_path / "killed" / "ck", log)
    assert hashes(tmp_path / "killed" / "model") == hashes(tmp_path / "whole" / "model")


def test_checkpoints_of_two_processes_are_not_for_one(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write_spec(tmp_path, tiny_model, arguments={"max_steps": 1})
    run("sft", spec, capsys)
    identity = {name: result(tmp_path)[name] for name in ("trainer", "base", "data", "seed", "arguments")}
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "run.json").write_text(json.dumps(identity | {"processes": 2, "sharding": "none"}))
    with pytest.raises(SystemExit):
        run("sft", spec, capsys)
    said = capsys.readouterr().err
    assert "was begun with {'processes': 2, 'sharding': 'none'}, this run has {'processes': 1" in said


def test_sharded_weights_are_gathered_and_a_kill_changes_no_byte(whole: Path, tiny_model: Path, tmp_path: Path) -> None:
    trained(sharded(write_spec(tmp_path / "whole", tiny_model)), tmp_path / "log")
    assert losses(result(tmp_path / "whole")) == pytest.approx(losses(result(whole)), abs=1e-4)
    replicated, gathered = (load_file(one / "model" / "model.safetensors") for one in (whole, tmp_path / "whole"))
    assert replicated.keys() == gathered.keys()
    assert all(torch.allclose(replicated[name], gathered[name], atol=1e-4) for name in replicated)
    assert set(hashes(tmp_path / "whole" / "model")) == set(hashes(whole / "model"))

    spec, log = write_spec(tmp_path / "killed", tiny_model, save_steps=5), tmp_path / "log"
    launcher = start(sharded(spec), log)
    until_checkpoint(launcher, tmp_path / "killed" / "ck", log)
    assert (tmp_path / "killed" / "ck" / "checkpoint-5" / "pytorch_model_fsdp_0").is_dir()  # in parts
    processes = children(launcher.pid)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    assert all(map(gone, processes))
    continued(sharded(spec), tmp_path / "killed" / "ck", log)
    assert hashes(tmp_path / "killed" / "model") == hashes(tmp_path / "whole" / "model")


def test_an_adapter_beside_sharded_weights_is_merged(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"lora": {"r": 4}, "arguments": {"gradient_checkpointing": True}}
    trained(sharded(write_spec(tmp_path / "two", tiny_model, **fields)), tmp_path / "log")
    fields["arguments"] |= ONE_BATCH
    run("sft", write_spec(tmp_path / "one", tiny_model, **fields), capsys)
    base, two, one = (
        load_file(folder / "model.safetensors")
        for folder in (tiny_model, tmp_path / "two/model", tmp_path / "one/model")
    )
    assert base.keys() == two.keys() == one.keys()
    name = "model.layers.1.mlp.down_proj.weight"
    moved = (one[name] - base[name]).norm()
    assert moved > 0.1 and (two[name] - one[name]).norm() < 0.2 * moved


def test_the_configuration_that_is_sharded_here_is_the_packages() -> None:
    assert (CONFIGS / "fsdp_8.yaml").is_file() and str(CONFIGS / "fsdp_8.yaml") in command("sft", Path("x"), SHARDED)
