"""The usual chat families as tiny models: their real templates, special tokens and end tokens over random weights.

Templates are those of their checkpoints: TRL ships most of them, the others are in tests/inference/chat_templates. What
a family's tokenizer begins and ends a text with, and what its generation config stops at, is as in the checkpoint's
files; vocabulary and weights are of a tiny Qwen3.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from promptcot_assets.stages.base_models import from_scratch, train_tokenizer
from tests.chat_models import MARKERS
from tests.tiny_models import TinySettings, tiny_texts

OWN = Path(__file__).parent / "inference" / "chat_templates"
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
QWEN_SYSTEM = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
SMOL_SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
SMOL3 = (
    "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 01 September 2025\n"
    "Reasoning Mode: "
)
LLAMA = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")
LLAMA_DAY = (
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 01 Sep 2025\n\n"
)
LLAMA_ASKED = (
    "<|start_header_id|>user<|end_header_id|>\n\nFind it.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
GEMMA = ("<bos>", "<start_of_turn>", "<end_of_turn>")
GEMMA_ASKED = "<start_of_turn>user\n{}Find it.<end_of_turn>\n<start_of_turn>model\n"
HARMONY = (
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
)
HARMONY_SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
    "Current date: 2025-09-01\n\nReasoning: {}\n\n# Valid channels: analysis, commentary, final. Channel must be "
    "included for every message.<|end|>"
)
HARMONY_ASKED = "<|start|>user<|message|>Find it.<|end|><|start|>assistant"
CHATML_ASKED = "<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Family:
    """prompt: what a model reads of the user's "Find it.", without the token that the tokenizer begins texts with.
    with_system: the same with the system turn "Be brief."; None where the family refuses one. special: all tokens that
    its template or its generation config knows. turn_end: what a turn ends with."""

    template: str
    special: tuple[str, ...]
    eos: str
    stops: tuple[str, ...]  # of the generation config
    turn_end: str
    prompt: str
    with_system: str | None
    begins: str = ""  # what the tokenizer puts before a text
    arguments: dict[str, Any] = field(default_factory=dict)
    opened: str = ""
    closed: bool = False

    @property
    def has_channels(self) -> bool:
        return "<|channel|>" in self.special

    def text(self) -> str:
        own = OWN / f"{self.template}.jinja"
        if own.is_file():
            return own.read_text().rstrip("\n")
        return (files("trl") / "chat_templates" / f"{self.template}.jinja").read_text()


FAMILIES: dict[str, Family] = {
    "qwen2.5": Family(
        "qwen2_5", CHATML, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), "<|im_end|>", QWEN_SYSTEM + CHATML_ASKED,
        "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_ASKED,
    ),
    "qwen3": Family(
        "qwen3", CHATML, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), "<|im_end|>", CHATML_ASKED,
        "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_ASKED,
    ),
    "qwen3, not thinking": Family(
        "qwen3", CHATML, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), "<|im_end|>",
        CHATML_ASKED + "<think>\n\n</think>\n\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_ASKED + "<think>\n\n</think>\n\n",
        arguments={"enable_thinking": False}, closed=True,
    ),
    "qwen3-instruct-2507": Family(
        "qwen3_instruct_2507", CHATML, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), "<|im_end|>", CHATML_ASKED,
        "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_ASKED,
    ),
    "qwen3-thinking-2507": Family(
        "qwen3_thinking_2507", CHATML, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), "<|im_end|>",
        CHATML_ASKED + "<think>\n", "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_ASKED + "<think>\n",
        opened="<think>\n",
    ),
    "qwen3.5": Family(
        "qwen3_5_think", CHATML, "<|im_end|>", ("<|im_end|>", "<|endoftext|>"), "<|im_end|>",
        CHATML_ASKED + "<think>\n", "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_ASKED + "<think>\n",
        opened="<think>\n",
    ),
    "llama-3": Family(
        "llama3", LLAMA, "<|eot_id|>", ("<|end_of_text|>", "<|eot_id|>"), "<|eot_id|>", LLAMA_ASKED,
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>" + LLAMA_ASKED, begins="<|begin_of_text|>",
    ),
    "llama-3.2": Family(
        "llama3_2", LLAMA, "<|eot_id|>", ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"), "<|eot_id|>",
        LLAMA_DAY + "<|eot_id|>" + LLAMA_ASKED, LLAMA_DAY + "Be brief.<|eot_id|>" + LLAMA_ASKED,
        begins="<|begin_of_text|>",
    ),
    "gemma-2": Family(
        "gemma", GEMMA, "<eos>", ("<eos>", "<end_of_turn>"), "<end_of_turn>", GEMMA_ASKED.format(""), None,
        begins="<bos>",
    ),
    "gemma-3": Family(
        "gemma3", GEMMA, "<eos>", ("<eos>", "<end_of_turn>"), "<end_of_turn>", GEMMA_ASKED.format(""),
        GEMMA_ASKED.format("Be brief.\n\n"), begins="<bos>",
    ),
    "phi-4": Family(
        "phi4", (*CHATML, "<|im_sep|>"), "<|im_end|>", ("<|endoftext|>", "<|im_end|>"), "<|im_end|>",
        "<|im_start|>user<|im_sep|>Find it.<|im_end|><|im_start|>assistant<|im_sep|>",
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|>"
        "<|im_start|>user<|im_sep|>Find it.<|im_end|><|im_start|>assistant<|im_sep|>",
    ),
    "deepseek-r1-distill": Family(
        "deepseek_r1_distill", ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
        "<｜end▁of▁sentence｜>", ("<｜end▁of▁sentence｜>",), "<｜end▁of▁sentence｜>",
        "<｜User｜>Find it.<｜Assistant｜><think>\n", "Be brief.<｜User｜>Find it.<｜Assistant｜><think>\n",
        begins="<｜begin▁of▁sentence｜>", opened="<think>\n",
    ),
    "gpt-oss": Family(
        "gptoss", HARMONY, "<|return|>", ("<|return|>", "<|endoftext|>", "<|call|>"), "<|return|>",
        HARMONY_SYSTEM.format("high") + HARMONY_ASKED,
        HARMONY_SYSTEM.format("high")
        + "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n<|end|>" + HARMONY_ASKED,
        arguments={"reasoning_effort": "high"},
    ),
    "smollm2": Family(
        "smollm2", CHATML, "<|im_end|>", ("<|im_end|>",), "<|im_end|>", SMOL_SYSTEM + CHATML_ASKED,
        "<|im_start|>system\nBe brief.<|im_end|>\n" + CHATML_ASKED,
    ),
    "smollm3": Family(
        "smollm3", CHATML, "<|im_end|>", ("<|im_end|>",), "<|im_end|>",
        SMOL3 + "/think\n\n## Custom Instructions\n\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face. Your role as an assistant involves thoroughly exploring questions through a systematic thinking process "
        "before providing the final precise and accurate solutions.\n\n" + CHATML_ASKED,
        SMOL3 + "/think\n\n## Custom Instructions\n\nBe brief.\n\n" + CHATML_ASKED,
    ),
    "smollm3, not thinking": Family(
        "smollm3", CHATML, "<|im_end|>", ("<|im_end|>",), "<|im_end|>",
        SMOL3 + "/no_think\n\n## Custom Instructions\n\nYou are a helpful AI assistant named SmolLM, trained by "
        "Hugging Face.\n\n" + CHATML_ASKED + "<think>\n\n</think>\n",
        SMOL3 + "/no_think\n\n## Custom Instructions\n\nBe brief.\n\n" + CHATML_ASKED + "<think>\n\n</think>\n",
        arguments={"enable_thinking": False}, closed=True,
    ),
}  # fmt: skip


def make_family(folder: Path, family: Family, settings: TinySettings | None = None, texts: Sequence[str] = ()) -> Path:
    """An untrained model of the family in `folder`. texts: what its tokenizer learns words from."""
    settings = settings or TinySettings(vocab_size=400, max_position=512)
    tokenizer: Any = train_tokenizer(texts or tiny_texts(), settings.vocab_size, MARKERS)
    tokenizer.add_special_tokens({"additional_special_tokens": list(family.special)})
    tokenizer.eos_token = family.eos
    if family.begins:
        _begins_with(tokenizer, family.begins)
    tokenizer.chat_template = family.text()
    from_scratch([], settings, folder, tokenizer=tokenizer)
    stops = tokenizer.convert_tokens_to_ids(list(family.stops))
    config = folder / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": stops}))
    return folder


def _begins_with(tokenizer: Any, token: str) -> None:
    from tokenizers import processors

    tokenizer.bos_token = token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, tokenizer.bos_token_id)]
    )
