"""Low-rank adapters: trained beside a frozen base and merged into it, so that what is left is a model like any other.

Merging is done by the first process on the CPU, from the adapter's own files: the same for one process and for weights
that are sharded over many. It needs the base's size in main memory.
"""

import warnings
from pathlib import Path
from typing import Any

from training.child import OutputError, Spec


def peft_config(spec: Spec) -> Any | None:
    """peft's LoraConfig, or None where all weights are trained.

    Seeds torch too: TRL draws the adapter's first weights before it seeds anything itself.
    """
    if spec.lora is None:
        return None
    from peft import LoraConfig
    from transformers import set_seed

    set_seed(spec.seed)
    return LoraConfig(
        r=spec.lora.r,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=spec.lora.target_modules,
        task_type="CAUSAL_LM",
    )


def merge(base: Path, adapter: Path, output: Path, dtype: str) -> None:
    """Write the base with the adapter added to its weights. dtype: of the weights that were trained.

    Raises: OutputError when a module that was trained has no weights in the adapter. peft only warns and merges
    nothing; it saves none where FSDP itself checkpoints activations, which wraps every layer under another name.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys", category=UserWarning)
        try:
            adapted = PeftModel.from_pretrained(model, adapter)
        except UserWarning as error:
            raise OutputError(
                f"the adapter was saved without its weights (FSDP needs fsdp_activation_checkpointing: false): {error}"
            ) from error
    adapted.merge_and_unload().save_pretrained(output)
