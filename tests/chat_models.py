"""Tiny models with chat templates: what the templates of Qwen3, Llama and gpt-oss do, in a few lines each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptcot_assets.stages.base_models import from_scratch, train_tokenizer
from tests.tiny_models import TinySettings, tiny_texts

_CHATML = """
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
"""
CHATML = _CHATML + "{%- endif %}"
# as Qwen3: thoughts can be switched off, which leaves an empty block
SWITCH = (
    _CHATML
    + "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    + "{%- endif %}"
)
THINKING = _CHATML + "{{- '<think>\\n' }}{%- endif %}"  # as Qwen3-*-Thinking-2507: thoughts are begun
LLAMA = """
{{- bos_token }}
{%- set date = strftime_now("%d %b %Y") %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date + '\\n\\n' }}
{%- if messages[0].role == 'system' %}
{{- messages[0].content }}
{%- set messages = messages[1:] %}
{%- endif %}
{{- '<|eot_id|>' }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
HARMONY = """
{%- macro told() -%}
{{- 'Current date: ' + strftime_now("%Y-%m-%d") + '\\n\\nReasoning: ' + (reasoning_effort or 'medium') }}
{%- endmacro -%}
{{- '<|start|>system<|message|>' + told() + '<|end|>' }}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|return|>' }}
{%- else %}
{%- set role = 'developer' if message.role == 'system' else message.role %}
{{- '<|start|>' + role + '<|message|>' + message.content + '<|end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start|>assistant' }}
{%- endif %}
"""
STRICT = "{{ raise_exception('only the user speaks') if messages[0].role == 'system' }}" + CHATML
# template, its special tokens, the one that ends a turn
TEMPLATES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "switch": (SWITCH, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "thinking": (THINKING, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "strict": (STRICT, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "llama": (LLAMA, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>"),
    "harmony": (
        HARMONY, ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"), "<|return|>",
    ),
}  # fmt: skip
MARKERS = ("<think>", "</think>", "\\boxed{", "```python")


def make_chat_model(
    folder: Path, template: str, settings: TinySettings | None = None, texts: Sequence[str] = (), ends: bool = True
) -> Path:
    """An untrained model whose tokenizer carries the template. ends: False leaves its end token another one."""
    settings = settings or TinySettings(vocab_size=400, max_position=512)
    tokenizer: Any = train_tokenizer(texts or tiny_texts(), settings.vocab_size, MARKERS)
    text, special, end = TEMPLATES[template]
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    if ends:
        tokenizer.eos_token = end
    if template == "llama":
        _begins_every_text(tokenizer)
    tokenizer.chat_template = text
    return from_scratch([], settings, folder, tokenizer=tokenizer)


def _begins_every_text(tokenizer: Any) -> None:
    """As Llama's tokenizer: it puts its own first token before a text."""
    from tokenizers import processors

    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", tokenizer.bos_token_id)],
    )  # fmt: skip


def teach_answers(folder: Path, dialogues: Sequence[tuple[str, str]], steps: int, batch: int = 4) -> Path:
    """Train a tiny model in place on (what it reads, what it is to write) by a bare loop; loss on what it writes."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    rows = []
    for prompt, answer in dialogues:
        before, after = tokenizer(prompt)["input_ids"], tokenizer(answer, add_special_tokens=False)["input_ids"]
        rows.append((before, [*after, tokenizer.eos_token_id]))
    for step in range(steps):
        some = [rows[(step * batch + at) % len(rows)] for at in range(batch)]
        longest = max(len(before) + len(after) for before, after in some)
        ids = torch.zeros(batch, longest, dtype=torch.long)
        labels = torch.full((batch, longest), -100)
        for at, (before, after) in enumerate(some):
            ids[at, : len(before) + len(after)] = torch.tensor(before + after)
            labels[at, len(before) : len(before) + len(after)] = torch.tensor(after)
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder
