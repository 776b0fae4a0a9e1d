"""Attention of models whose query heads share keys (grouped-query attention), fast on a CPU that computes in bfloat16.

torch's kernel for CPUs goes through the keys once a query head. Here the heads of a group stand as further queries of
the one head whose keys they read, so that these are read once: five times as fast for a sampled token. The products
are the same; their sums are rounded otherwise, so models in float32, whose digits are pinned, keep torch's way.
"""

from functools import cache
from typing import Any

NAME = "grouped_sdpa"


def group_queries(model: Any) -> None:
    """Let a model attend this way where it can: in bfloat16, on the CPU, by torch's kernel, with shared keys."""
    import torch

    if model.device.type == "cpu" and model.dtype == torch.bfloat16 and model.config._attn_implementation == "sdpa":
        _register()
        model.set_attn_implementation(NAME)


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **more: Any
) -> tuple[Any, None]:
    """What transformers asks of an attention. query: [rows, heads, width, size]; key, value: [rows, fewer heads,
    length, size]; attention_mask: [rows, 1, width, length], or None for a causal pass or a single query."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    groups = query.shape[1] // key.shape[1]
    told = query.shape[2] == 1 if attention_mask is None else attention_mask.shape[1] == 1
    if groups == 1 or not told or more.get("dropout"):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
    queries = query.reshape(len(query), key.shape[1], -1, query.shape[-1])  # a group's heads, one after another
    mask = None if attention_mask is None else attention_mask.repeat(1, 1, groups, 1)
    attended = torch.nn.functional.scaled_dot_product_attention(queries, key, value, attn_mask=mask, scale=scaling)
    return attended.reshape(query.shape).transpose(1, 2).contiguous(), None
