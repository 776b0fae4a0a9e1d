"""Low-rank adapters: trained beside a frozen base and merged into it, so that what is left is a model like any other.

Merging is done by the first process on the CPU, from the adapter's own files: the same for one process and for weights
that are sharded over many. It needs the base's size in main memory.
"""

from pathlib import Path
from typing import Any

from training.child import Spec


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
    """Write the base with the adapter added to its weights. dtype: of the weights that were trained."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(output)
