"""The log-probabilities of a large vocabulary on a CPU, where TRL's own take a large part of a step.

TRL folds tiles of the logits in a kernel of the GPU. Without one it does so in a dozen passes of float32, multiplies
their gradients in float32, and scores prompts and padding too. Here a CPU scores what is learned, with torch's own
log-softmax, and multiplies in the training's dtype.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LARGE = 8192  # tokens of a vocabulary: below it the layer takes little time whoever computes it
MOST = 1 << 27  # logits at once, 512 MB in float32, of which three copies are held; TRL's tiles are for more


def use_on_cpu(args: Any, base: Path) -> bool:
    """Give TRL's fused output layer its log-probabilities by `CompletionLogProbs`; says whether it has them now.

    Only for a training on the CPU (`args`: the trainer's) of a model with a large vocabulary, and for the rest of this
    process; before the trainer is made, since DPO's scores its reference model then. TRL has no argument for it: where
    its two names are others, training is as slow as it was and learns the same.
    """
    from transformers import AutoConfig
    from trl.trainer import utils

    vocabulary = AutoConfig.from_pretrained(base).get_text_config().vocab_size
    names = ("_use_triton", "_ChunkedLogProbFunction")
    if not args.use_cpu or vocabulary < LARGE or not all(hasattr(utils, name) for name in names):
        return False
    if utils._ChunkedLogProbFunction is not CompletionLogProbs:
        CompletionLogProbs.tiled = utils._ChunkedLogProbFunction
        utils._ChunkedLogProbFunction = CompletionLogProbs
        utils._use_triton = lambda device: True  # in this module it says only whether masked positions are left out
    return True


class CompletionLogProbs:
    """What TRL calls in the place of its autograd function, with its arguments and results."""

    tiled: Any = None  # TRL's own

    @classmethod
    def apply(
        cls,
        hidden: torch.Tensor,  # [N, H]
        weight: torch.Tensor,  # [V, H]
        bias: torch.Tensor | None,  # [V]
        targets: torch.Tensor,  # [N]
        temperature: float,
        chunk_size: int,
        softcap: float | None,
        scale: float,
        outputs: tuple[str, ...],
    ) -> tuple[torch.Tensor | None, ...]:
        """Per token the log-probability and, as measures without a gradient, those of `outputs`; others are None."""
        import torch

        if hidden.shape[0] * weight.shape[0] > MOST:
            return cls.tiled.apply(hidden, weight, bias, targets, temperature, chunk_size, softcap, scale, outputs)
        logits = torch.nn.functional.linear(hidden, weight.to(hidden.dtype), bias)
        if softcap is not None or scale != 1 or temperature != 1:
            logits = logits.float() * scale
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            logits = logits / temperature
        logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
        measures = dict[str, torch.Tensor]()
        with torch.no_grad():
            if "entropy" in outputs:
                measures["entropy"] = -logprobs.exp().mul_(logprobs).sum(-1)
            if "log_sum_sq_probs" in outputs:
                measures["log_sum_sq_probs"] = (2 * logprobs).logsumexp(-1)
            if "mean_logits" in outputs:
                measures["mean_logits"] = logits.mean(-1, dtype=torch.float32)
            if "is_top1" in outputs:
                measures["is_top1"] = logprobs.argmax(-1) == targets
        names = ("entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
        return logprobs.gather(-1, targets[:, None])[:, 0], *(measures.get(name) for name in names)
