"""Key-value caches: one with room to grow for sampling, and rows that several continuations share for scoring."""

from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache


def growing_cache(config: Any) -> "DynamicCache":
    """An empty cache for a model with this config; layers that keep everything get room to grow.

    transformers' own `DynamicCache` copies all it holds at every token.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=config)
    cache.layers = [_growing_layer()() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def rows_of(whole: "DynamicCache", rows: "torch.Tensor") -> "DynamicCache":
    """A cache of these rows of `whole` (each as often as it is named); `whole` stays as it is."""
    selected = copy(whole)
    selected.layers = [copy(layer) for layer in whole.layers]
    selected.batch_select_indices(rows)  # a plain dynamic layer gets new tensors
    return selected


def keeps_everything(cache: "DynamicCache") -> bool:
    """Whether every layer attends to all that came before: no sliding window, no recurrent state."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in cache.layers)


@cache
def _growing_layer() -> type:
    """The class, made on first use because its base class comes with torch."""
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):
        """`keys` and `values` ([rows, heads, length, head_dim]) are views of the filled part of two larger buffers."""

        keys: "torch.Tensor"
        values: "torch.Tensor"
        key_buffer: "torch.Tensor"
        value_buffer: "torch.Tensor"

        def update(
            self, key_states: "torch.Tensor", value_states: "torch.Tensor", *args: Any, **kwargs: Any
        ) -> tuple["torch.Tensor", "torch.Tensor"]:
            start = self.get_seq_length()
            end = start + key_states.shape[-2]
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.key_buffer = _room(key_states, end)
                self.value_buffer = _room(value_states, end)
            elif end > self.key_buffer.shape[-2]:
                self.key_buffer = _copied(self.keys, end)
                self.value_buffer = _copied(self.values, end)
            self.key_buffer[:, :, start:end] = key_states
            self.value_buffer[:, :, start:end] = value_states
            self.keys = self.key_buffer[:, :, :end]
            self.values = self.value_buffer[:, :, :end]
            return self.keys, self.values

        def batch_select_indices(self, indices: "torch.Tensor") -> None:
            """Keep (or repeat) these rows. Fewer rows stay where they are: only those that change place are copied."""
            length = self.get_seq_length()
            if len(indices) <= len(self.keys):
                self.key_buffer = _moved(self.key_buffer, length, indices)
                self.value_buffer = _moved(self.value_buffer, length, indices)
            else:
                self.key_buffer = _copied(self.keys[indices], length)
                self.value_buffer = _copied(self.values[indices], length)
            self.keys = self.key_buffer[:, :, :length]
            self.values = self.value_buffer[:, :, :length]

    return GrowingLayer


def _room(states: "torch.Tensor", length: int) -> "torch.Tensor":
    """An empty buffer like `states`, half as long again as needed."""
    rows, heads, _, width = states.shape
    return states.new_empty(rows, heads, length + max(32, length // 2), width)


def _copied(states: "torch.Tensor", length: int) -> "torch.Tensor":
    buffer = _room(states, length)
    buffer[:, :, : states.shape[-2]] = states
    return buffer


def _moved(buffer: "torch.Tensor", length: int, indices: "torch.Tensor") -> "torch.Tensor":
    import torch

    places = torch.arange(len(indices), device=indices.device)
    moving = indices != places
    buffer[places[moving], :, :length] = buffer[indices[moving], :, :length]  # the right side is a copy: no overlap
    return buffer[: len(indices)]
