"""Several rows in one sequence, so that no position is spent on padding (`arguments.packing` of SFT).

Rows of a sequence see nothing of each other: positions begin at 0 with every row, and transformers makes the mask (or,
for flash attention, the varlen bounds) from that. It does so for the attention implementations it knows a mask
function of; TRL does not check, so `refuse_mixing` does.
"""

from pathlib import Path
from typing import Any

from training.child import SpecError
from training.rows import Rows

MASKED_LAYERS = {"full_attention", "sliding_attention"}  # tests/training/test_packing.py holds both


def packed(rows: Rows, max_length: int | None) -> Any:
    """A data set of sequences of at most `max_length` tokens: best fit, longest rows first, no row is cut.

    Columns: input_ids, labels, seq_lengths (tokens of every row inside). A pure function of the rows.
    Raises: SpecError without a `max_length`.
    """
    if max_length is None:
        raise SpecError("arguments.packing needs arguments.max_length, the tokens of a sequence")
    from trl import pack_dataset

    return pack_dataset(rows.data, max_length, "bfd")


def refuse_mixing(model: Any) -> None:
    """Raises: SpecError when the model's attention would let a row see the one before it."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention not in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys():
        known = ", ".join(sorted(ALL_MASK_ATTENTION_FUNCTIONS.valid_keys()))
        raise SpecError(
            f"arguments.packing: attention {attention!r} does not keep packed rows apart; set "
            f"arguments.model_init_kwargs.attn_implementation to one of {known}"
        )
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if other := sorted(layers - MASKED_LAYERS):
        raise SpecError(
            f"arguments.packing: {Path(config.name_or_path).name} has layers of {', '.join(other)}, which are not "
            "known to keep packed rows apart; train it with packing: false"
        )
