"""The real TRL trainers on a tiny model: what they compute, what they leave, and that a kill changes nothing."""

import json
import math
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.training.runs import continued, hashes, run, start, until_checkpoint, write_spec
from training import sft
from training.child import CHILD_ENVIRONMENT, Spec
from training.launch import command
from training.loop import trainer_arguments
from training.rows import length_grouped_order, sft_rows


def test_sft_lowers_the_loss_and_leaves_a_whole_model(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("sft", write_spec(tmp_path, tiny_model), capsys)
    assert result["steps"] == len(result["loss_curve"]) == 3 * math.ceil(60 / 8)
    assert result["loss"] < result["loss_curve"][0][1] - 0.5
    assert (result["rows"], result["dropped"], result["trainer"]) == (60, {}, "sft")

    files = hashes(tmp_path / "model")
    written = json.loads((tmp_path / "model" / "training.json").read_text())
    assert written == {name: value for name, value in result.items() if name != "figures"}
    assert {name: digest for name, digest in files.items() if name != "training.json"} == result["files"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert "training_args.bin" not in files
    assert not (tmp_path / "ck").exists()
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for file in (tmp_path / "model").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()

    again = run("sft", tmp_path / "spec.json", capsys)  # as after a kill between the rename and the report
    assert again == {**result, "figures": {}}


def test_the_first_sft_loss_is_the_mean_over_completion_tokens(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("sft", write_spec(tmp_path, tiny_model, arguments={"max_steps": 1}, seed=3), capsys)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    columns = sft_rows(tmp_path / "data.parquet", tokenizer, 96, tmp_path / "rows").data.to_dict()
    lengths = [len(ids) for ids in columns["input_ids"]]
    batch = length_grouped_order(lengths, 8, seed=3, epoch=0)[:8]
    losses = []
    for row in batch:
        ids, labels = (torch.tensor(columns[name][row]) for name in ("input_ids", "labels"))
        with torch.inference_mode():
            table = model(ids[None]).logits[0].log_softmax(-1)
        losses += [-table[at - 1, ids[at]].item() for at in range(1, len(ids)) if labels[at] != -100]
    assert result["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert result["tokens"] == sum(lengths[row] for row in batch)


def test_dpo_starts_at_log_two_and_prefers_the_chosen(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("dpo", write_spec(tmp_path, tiny_model, arguments={"beta": 0.1}), capsys)
    curve = result["loss_curve"]
    assert curve[0][1] == pytest.approx(math.log(2), abs=1e-5)  # policy and reference are one model still
    assert sum(loss for _, loss in curve[-4:]) / 4 < 0.6
    assert "training_args.bin" not in hashes(tmp_path / "model")


WRONG_RUNS = [
    ({"arguments": {"learning_rat": 1}}, "learning_rat: SFTConfig has no such argument; is it learning_rate?"),
    ({"arguments": {"output_dir": "x"}}, "arguments.output_dir cannot be set; set the spec's field 'output'"),
    ({"arguments": {"warmup_ratio": 0.1}}, "give warmup_ratio or warmup_steps, not both"),
    ({"arguments": {"packing_strategy": "wrapped"}}, "arguments.packing_strategy cannot be set"),
    ({"arguments": {"packing": True, "max_length": None}}, "arguments.packing needs arguments.max_length"),
    ({"arguments": {"max_length": 3}}, "no row to train on (60 longer_than_max_length; max_length 3)"),
    ({"base": "nowhere/at/all"}, "base: nowhere/at/all is neither a model folder (with a config.json) nor a hub id"),
    ({"data": "nowhere.parquet"}, "data: nowhere.parquet: no such file"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG_RUNS)
def test_what_cannot_be_trained_is_named_in_one_line(
    fields: dict, message: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        sft.main(["sft", str(write_spec(tmp_path, tiny_model, **fields))])
    assert error.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last
    assert not (tmp_path / "model").exists()


def test_a_warm_up_may_be_a_share_of_the_steps(tmp_path: Path) -> None:
    from trl import SFTConfig

    spec = Spec("base", tmp_path, tmp_path, tmp_path, arguments={"warmup_ratio": 0.1})
    assert trainer_arguments(SFTConfig, spec).get_warmup_steps(200) == 20


def test_another_runs_output_or_checkpoints_are_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("sft", write_spec(tmp_path, tiny_model, arguments={"max_steps": 1}), capsys)
    with pytest.raises(SystemExit):
        sft.main(["sft", str(write_spec(tmp_path, tiny_model, arguments={"max_steps": 2}))])
    assert "exists and is not this run's: remove it" in capsys.readouterr().err
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "run.json").write_text(json.dumps({"seed": 5}))
    with pytest.raises(SystemExit):
        sft.main(["sft", str(write_spec(tmp_path, tiny_model, output=str(tmp_path / "other")))])
    assert "ck holds those of another run" in capsys.readouterr().err


DROPOUT = {"lora": {"r": 4, "dropout": 0.2}}  # so that the random states matter
KILLED = [
    ("sft", 5, {}),
    ("sft", 16, {"arguments": {"packing": True, "per_device_train_batch_size": 2}}),
    ("dpo", 10, {}),
    ("sft", 6, DROPOUT | {"arguments": {"bf16": True, "gradient_checkpointing": True}}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kill_at", "fields"), KILLED, ids=["sft", "packed", "dpo", "bf16 adapter"])
def test_a_killed_run_continues_to_the_same_bytes(
    kind: str, kill_at: int, fields: dict, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(kind, write_spec(tmp_path / "whole", tiny_model, **fields), capsys)
    assert whole["steps"] > kill_at + 2

    spec, log = write_spec(tmp_path / "killed", tiny_model, save_steps=kill_at, **fields), tmp_path / "log"
    child = start(command(kind, spec), log)
    until_checkpoint(child, tmp_path / "killed" / "ck", log)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed" / "model").exists()

    continued(command(kind, spec), tmp_path / "killed" / "ck", log)
    assert hashes(tmp_path / "killed" / "model") == hashes(tmp_path / "whole" / "model")


@pytest.mark.parametrize("arguments", [{"bf16": True}, {"gradient_checkpointing": True}], ids=["bf16", "recomputing"])
def test_cheaper_training_learns_nearly_the_same(
    arguments: dict, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"max_steps": 8, "warmup_steps": 0}
    curves = []
    for name, more in (("plain", {}), ("cheaper", arguments)):
        result = run("sft", write_spec(tmp_path / name, tiny_model, arguments=few | more), capsys)
        curves.append([loss for _, loss in result["loss_curve"]])
    plain, cheaper = curves
    assert cheaper == pytest.approx(plain, rel=0.01)
    assert (cheaper != plain) == ("bf16" in arguments)  # fewer bits are another sum, recomputing is the same one


def test_a_run_is_reported_to_tensorboard(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (`make setup` does)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "boards"))
    spec = write_spec(tmp_path / "run", tiny_model, arguments={"max_steps": 4, "report_to": "tensorboard"})
    result = run("sft", spec, capsys)
    events = EventAccumulator(str(tmp_path / "boards"))
    events.Reload()
    logged = [[one.step, pytest.approx(one.value)] for one in events.Scalars("train/loss")]
    assert result["loss_curve"] == logged and len(logged) == 4


@pytest.mark.slow
def test_progress_and_result_go_through_pipes(tiny_model: Path, tmp_path: Path) -> None:
    import dagster as dg

    spec = write_spec(tmp_path, tiny_model, arguments={"max_steps": 4})
    messages = []

    @dg.asset
    def model(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> dg.MaterializeResult:
        invocation = pipes.run(context=context, command=command("sft", spec), env=CHILD_ENVIRONMENT)
        messages.extend(invocation.get_custom_messages())
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([model], resources={"pipes": dg.PipesSubprocessClient()}, instance=instance)
        assert result.success
        logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("4 of 4 steps to go" in line for line in logged)
    points, (message,) = (
        [one["point"] for one in messages if "point" in one],
        [one for one in messages if "figures" in one],
    )
    assert [one["step"] for one in points] == [1, 2, 3, 4] and {one["of"] for one in points} == {4}
    assert [[one["step"], one["loss"]] for one in points] == message["loss_curve"]
    assert (message["steps"], message["rows"]) == (4, 60)
    figures = message["figures"]
    assert figures["accelerator_seconds"] == figures["seconds"] * figures["processes"] > 0
    assert figures["tokens_per_second"] > 0 and 0 < figures["padded_share"] < 1
