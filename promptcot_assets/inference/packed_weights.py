"""Weights in the order in which a CPU multiplies them in bfloat16, brought there once. torch only inside functions.

torch's `linear` reorders a weight at every call. For few rows, as in the last tokens of a sampled batch, this takes
longer than the product itself. Products are the same to the bit.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def pack(model: Any) -> bool:
    """Pack the linear layers of a bfloat16 model on the CPU, for inference only; says whether it is packed now.

    The operators are private to torch, which has them for its compiler. Where they are missing, or where the packed
    model computes anything else than before (a family may read a layer's weight itself), the model stays as it was.
    """
    import torch

    linears = list(_linears(model))
    if not linears:
        return False
    weights = [layer.weight for layer in linears]
    probe = torch.arange(2, device=model.device)[None]
    with torch.inference_mode():
        try:
            before = model(input_ids=probe, use_cache=False).logits
            for layer in linears:
                _pack(layer, keep=layer is model.get_output_embeddings())
            if torch.equal(model(input_ids=probe, use_cache=False).logits, before):
                return True
        except (AttributeError, RuntimeError, TypeError):
            pass  # no such operator, or none for this CPU or this model
        for layer, weight in zip(linears, weights, strict=True):
            layer.weight = weight
            layer.__dict__.pop("forward", None)
    return False


def _linears(model: Any) -> Iterator["torch.nn.Linear"]:
    import torch

    for layer in model.modules():
        weight = layer.weight if type(layer) is torch.nn.Linear else None
        if weight is not None and weight.dtype == torch.bfloat16 and weight.device.type == "cpu":
            yield layer


def _pack(layer: "torch.nn.Linear", keep: bool) -> None:
    """keep: leave the weight as well, since a table of embeddings may be the same one."""
    import torch

    operators = torch.ops.mkldnn
    packed = operators._reorder_linear_weight(layer.weight.detach(), None)
    layer.forward = partial(_product, operators._linear_pointwise, packed, layer.bias)
    if not keep:
        layer.weight = torch.nn.Parameter(packed, requires_grad=False)


def _product(operator: Any, packed: "torch.Tensor", bias: "torch.Tensor | None", rows: "torch.Tensor") -> Any:
    return operator(rows, packed, bias, "none", [], "")
