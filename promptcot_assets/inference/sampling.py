"""From logits to a token: counter-based noise and inverse-CDF sampling. torch only inside functions."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
LARGE, BLOCK = 8192, 128  # tokens of a vocabulary that is summed up in blocks, if it is a multiple of one


def uniforms(seeds: np.ndarray, position: int) -> np.ndarray:
    """One uniform in [0, 1) a row: output `position` of SplitMix64 (Steele, Lea, Flood 2014) keyed by the row's seed.

    seeds: uint64 [rows]. Counter-based, so a row's noise depends on nothing but its own seed and position.
    """
    key = _mix(seeds)  # neighbouring seeds must not give neighbouring streams
    step = np.uint64((position + 1) * int(_GAMMA) & (1 << 64) - 1)
    # 52 bits: at most 1 - 2^-52, which times a float64 total never rounds up to the total
    return (_mix(key + step) >> np.uint64(12)).astype(np.float64) * 2.0**-52


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def choose(
    logits: "torch.Tensor", noise: "torch.Tensor", temperature: float, top_p: float
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The next token of every row and its raw log-probability.

    logits: float32 [rows, vocabulary]; noise: float64 [rows] in [0, 1), not read when temperature is 0.
    """
    import torch

    top = logits.max(-1, keepdim=True).values
    shifted = logits - top
    if temperature == 0:
        token = logits.argmax(-1)
    else:
        weights = (shifted if temperature == 1 else shifted / temperature).exp()
        token = _nucleus(weights, noise, top_p) if top_p < 1 else _inverse_cdf(weights, noise)
    total = weights.sum(-1) if temperature == 1 else shifted.exp().sum(-1)
    return token, torch.gather(shifted, -1, token[:, None])[:, 0] - total.log()


def _inverse_cdf(weights: "torch.Tensor", noise: "torch.Tensor") -> "torch.Tensor":
    """The first index whose cumulative weight exceeds noise times the total; its own weight is then positive.

    Of a large vocabulary only blocks are summed up at first, and then the one block that the index is in: adding up
    every weight in float64 would take longer than the rest of sampling.
    """
    import torch

    if weights.shape[-1] < LARGE or weights.shape[-1] % BLOCK:
        cumulative = weights.cumsum(-1, dtype=torch.float64)
        return _first_above(cumulative, noise * cumulative[:, -1])
    blocks = weights.unflatten(-1, (-1, BLOCK))
    upto = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    threshold = noise * upto[:, -1]
    block = _first_above(upto, threshold)
    before = torch.nn.functional.pad(upto, (1, 0)).gather(-1, block[:, None])[:, 0]
    inside = blocks[torch.arange(len(block), device=block.device), block].cumsum(-1, dtype=torch.float64)
    # the block's weights may add up to a last digit less here than there
    rest = torch.minimum(threshold - before, torch.nextafter(inside[:, -1], inside.new_zeros(())))
    return block * BLOCK + _first_above(inside, rest)


def _first_above(cumulative: "torch.Tensor", threshold: "torch.Tensor") -> "torch.Tensor":
    """By row, the first index whose value exceeds the threshold."""
    import torch

    # a row of NaN has no such index; any other will do, since its log-probability is NaN and refuses the row
    found = torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]
    return found.clamp(max=cumulative.shape[-1] - 1)


def _nucleus(weights: "torch.Tensor", noise: "torch.Tensor", top_p: float) -> "torch.Tensor":
    """Inverse CDF over the smallest set of likeliest tokens that holds at least `top_p` of the mass."""
    import torch

    ordered, index = torch.sort(weights, dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1, dtype=torch.float64) - ordered
    total = weights.sum(-1, keepdim=True, dtype=torch.float64)
    kept = ordered.masked_fill(before >= top_p * total, 0)
    return index.gather(-1, _inverse_cdf(kept, noise)[:, None])[:, 0]
