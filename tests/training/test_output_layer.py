"""The output layer of a large vocabulary on a CPU against TRL's own: log-probabilities, measures and gradients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Cohere2Config, Gemma2Config, LlamaConfig
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import utils

from tests.training.runs import run, write_spec
from training.output_layer import LARGE, CompletionLogProbs, use_on_cpu

SMALL = {
    "vocab_size": LARGE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "gemma2, capped logits": Gemma2Config(**SMALL, final_logit_softcapping=5.0),
    "cohere2, scaled logits": Cohere2Config(**SMALL, logit_scale=0.25),
}
CPU, GPU = SimpleNamespace(use_cpu=True), SimpleNamespace(use_cpu=False)  # of a trainer's arguments
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")


@pytest.fixture(autouse=True)
def _patched_for_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_use_triton", "_ChunkedLogProbFunction"):
        monkeypatch.setattr(utils, name, getattr(utils, name))


def fused(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).train()
    utils.add_fused_lm_head(model, outputs=OUTPUTS)
    return model


def ours(config: Any, folder: Path, args: Any = CPU) -> bool:
    config.save_pretrained(folder)
    return use_on_cpu(args, folder)


def learned(model: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Outputs and gradients of a batch whose prompts and padding are no labels; one row has none at all."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, LARGE, (3, 12), generator=generator)
    labels = ids.clone()
    labels[0, :5] = labels[1, 9:] = labels[2] = -100
    model.zero_grad()
    found = model(input_ids=ids, labels=labels, fused_lm_head=True)
    (found.loss + 0.1 * (found.log_probs**2).sum()).backward()  # a loss in which tokens count differently
    return found, {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_losses_measures_and_gradients_are_trls(config: Any, tmp_path: Path) -> None:
    model = fused(config)
    expected, gradients = learned(model)
    assert ours(config, tmp_path) and ours(config, tmp_path)
    found, own = learned(model)
    assert utils._ChunkedLogProbFunction is CompletionLogProbs
    for name in ("loss", *OUTPUTS):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-5, rtol=1e-4)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, atol=2e-5, rtol=1e-3)


def test_more_logits_than_fit_are_computed_by_trls_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fused(CONFIGS["llama"])
    assert ours(CONFIGS["llama"], tmp_path)
    tiled: list[int] = []

    class Tiles:
        @staticmethod
        def apply(hidden: torch.Tensor, *rest: Any) -> Any:
            tiled.append(len(hidden))
            return trls.apply(hidden, *rest)

    trls = CompletionLogProbs.tiled
    monkeypatch.setattr(CompletionLogProbs, "tiled", Tiles)
    small, _ = learned(model)
    assert not tiled
    monkeypatch.setattr("training.output_layer.MOST", 14 * LARGE)
    large, _ = learned(model)
    assert tiled == [15]  # what is learned of three rows of 12 tokens
    torch.testing.assert_close(large.loss, small.loss)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_log_probabilities_of_bfloat16_products_are_computed_in_float32(
    temperature: float, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(2)
    hidden, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((7, 32), (LARGE, 32), (LARGE,)))
    targets = torch.randint(LARGE, (7,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        found, *_ = CompletionLogProbs.apply(hidden, weight, bias, targets, temperature, 0, softcap, 0.5, ())
        products = torch.nn.functional.linear(hidden, weight, bias)
    assert found is not None and products.dtype == torch.bfloat16
    logits = products.double() * 0.5
    logits = (logits if softcap is None else softcap * torch.tanh(logits / softcap)) / temperature
    exact = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-6)


def test_other_trainings_and_another_trl_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trls = utils._ChunkedLogProbFunction
    assert not ours(LlamaConfig(**(SMALL | {"vocab_size": LARGE - 1})), tmp_path / "small")
    assert not ours(CONFIGS["llama"], tmp_path / "large", GPU)  # sharded weights lie on the CPU until they are placed
    monkeypatch.delattr(utils, "_use_triton")
    assert not ours(CONFIGS["llama"], tmp_path / "large")
    assert utils._ChunkedLogProbFunction is trls


def counted(forward: Any, calls: list[int]) -> Any:
    def counting(context: Any, hidden: torch.Tensor, *rest: Any) -> Any:
        calls.append(len(hidden))
        return forward(context, hidden, *rest)

    return staticmethod(counting)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_training_learns_the_same_by_either(
    kind: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    large = AutoModelForCausalLM.from_config(CONFIGS["llama"])
    large.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "base")
    trls_calls: list[int] = []
    monkeypatch.setattr(ChunkedLogProbFunction, "forward", counted(ChunkedLogProbFunction.forward, trls_calls))
    curves = []
    for folder, least in (("ours", LARGE), ("trls", LARGE + 1)):
        monkeypatch.setattr("training.output_layer.LARGE", least)
        (tmp_path / folder).mkdir()
        spec = write_spec(tmp_path / folder, tmp_path / "base", arguments={"num_train_epochs": 1})
        trls_calls.clear()
        curves.append([loss for _, loss in run(kind, spec, capsys)["loss_curve"]])
        assert bool(trls_calls) == (folder == "trls")  # DPO's reference model is scored by ours, too
        monkeypatch.setattr(utils, "_ChunkedLogProbFunction", CompletionLogProbs.tiled)
        monkeypatch.setattr(utils, "_use_triton", lambda device: False)
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
