"""Tiny stand-ins for profile `one_gpu`: models of Qwen3's architecture with its chat template, and files in the shapes
of its data sets. They know just enough that every stage has rows: the base writes rationales and problems in their
blocks and answers in a turn, the teacher names concepts, thinks and boxes an answer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

NUMBERS = list(range(2, 26))
CONCEPTS = ["ratio", "sum", "length", "fraction", "rate"]
RATIONALE = "Begin with lengths."
WORDS = ("rope", "road", "wall", "pipe", "wire", "fence")
GENERAL = {"maths": "mathematics"}

# over the profile: what a machine without a GPU does in minutes. `{folder}` is where the files are.
OVERLAY = """
extends: one_gpu
corpus:
  files: {{maths: [{folder}/gsm8k.jsonl, {{source: {folder}/deepscaler.jsonl, limit: 8}}]}}
  held_out_share: 0.2
benchmarks:
  files: {{maths: {{gsm8k: {folder}/gsm8k_test.jsonl, math500: {folder}/math500.jsonl}}}}
  limit: 3
annotation: {{annotators: [{{teacher: served, sampling: {{temperature: 0, max_new_tokens: 64}}}}], shard_rows: 8}}
em:
  rounds: 1
  candidates: 2
  # all winners are one text, and nothing is learned that a gate could like
  gate: {{min_usable_share: 0.0, min_distinct_share: 0.0, max_repeated_share: 1.0, standard_errors: 50}}
  sampling: {{max_new_tokens: 32}}
  problem_sampling: {{max_new_tokens: 96}}
  cold_start: &adapters
    arguments: &training
      per_device_train_batch_size: 4
      gradient_accumulation_steps: 1
      num_train_epochs: 1
      max_length: 700
      bf16: false
      gradient_checkpointing: false
  e_step: *adapters
  m_step_training: *adapters
  held_out: {{proposals: 2, samples: 1, training_seeds: 2, large_pool: 4, large_pool_problems: 2}}
synthesis: {{concept_sets: {{maths: 12}}, problems_per_set: 2, sampling: {{max_new_tokens: 96}}}}
labels: {{voter: {{teacher: served, sampling: {{temperature: 0.6, max_new_tokens: 24}}}}, votes: 3, min_votes: 2}}
distillation: {{teacher: {{teacher: served, sampling: {{temperature: 0.6, max_new_tokens: 24}}}}}}
students: {{qwen3: {{sft: {{arguments: *training}}}}}}
self_play:
  rollouts: 4
  max_pass_rate: 1.0
  sampling: {{max_new_tokens: 24}}
  training: {{arguments: *training}}
evaluation: {{generations: 1, sampling: {{max_new_tokens: 24}}}}
engine: {engine}
sandbox: {{workers: 1, cpu_s: 1.0, wall_s: 4.0, memory_mb: 256}}
"""
ON_THIS_CPU = "{name: transformers, dtype: float32, batch_size: 64, max_model_len: 700}"


def problem(first: int, second: int) -> str:
    word = WORDS[(first + second) % len(WORDS)]
    return f"A {word} of {first} m and a {word} of {second} m lie end to end. Find their length."


def write_profile(folder: Path, engine: str = ON_THIS_CPU) -> Path:
    """Files of seeds and benchmarks in `folder`, and the profile over `one_gpu` that reads them; its path."""
    files = {
        "gsm8k": [{"question": problem(n, n + 1), "answer": f"Add them.\n#### {2 * n + 1}"} for n in NUMBERS],
        "deepscaler": [{"problem": problem(n, n + 3), "answer": f"{2 * n + 3}", "solution": "Add them."}
                       for n in NUMBERS],
        "gsm8k_test": [{"question": f"{n} birds sit and {n} fly. How many are there?", "answer": f"All.\n#### {2 * n}"}
                       for n in range(2, 8)],
        "math500": [{"problem": f"What is ${n} \\cdot 2$?", "answer": str(2 * n), "solution": f"$\\boxed{{{2 * n}}}$",
                     "subject": "Algebra", "level": 1, "unique_id": f"test/{n}"} for n in range(2, 8)],
    }  # fmt: skip
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "one_gpu_tiny.yaml"
    path.write_text(OVERLAY.format(folder=folder, engine=engine))
    return path


def make_standins(folder: Path, heads: int = 4) -> tuple[Path, Path]:
    """The base model of q, p and student, and the teacher that others serve."""
    from promptcot_assets.domains import domain_named
    from promptcot_assets.domains.layout import END_RATIONALE, generator_completion
    from promptcot_assets.stages.corpus.annotation import concepts_prompt, explanation_prompt

    maths, rng = domain_named("maths"), random.Random(0)
    texts = [problem(rng.randrange(2, 60), rng.randrange(2, 60)) for _ in range(120)]
    levels = [*LEVELS]

    def shuffled() -> list[str]:
        return rng.sample(CONCEPTS, len(CONCEPTS))

    base: list[tuple[str, str]] = []
    for at, text in enumerate(texts):
        concepts, level = shuffled(), levels[at % len(levels)]
        base.append((maths.generator_prompt(concepts, level), generator_completion(RATIONALE, text)))
        base.append((maths.rationale_prompt(concepts, level, text), RATIONALE + END_RATIONALE))
    answers = [(maths.solve_prompt(text), f"So \\boxed{{{4 + at % 2}}}.") for at, text in enumerate(texts)]
    listed = "```python\n" + json.dumps(CONCEPTS) + "\n```"
    teacher = [(concepts_prompt("maths", text, 5), listed) for text in texts]
    teacher += [
        (explanation_prompt("maths", CONCEPTS, level, text), RATIONALE) for text in texts for level in levels[:1]
    ]
    teacher += [(maths.solve_prompt(text), "<think>\nso\n</think>\n\n\\boxed{4}") for text in texts]
    every = [part for pair in [*base[:80], *answers[:20], *teacher[:40], *teacher[-20:]] for part in pair]
    return (
        _taught(folder / "base", every, base, answers, {"enable_thinking": False}, heads, 400),
        _taught(folder / "teacher", every, [], teacher, {}, heads, 200),
    )


LEVELS = ("standard",)


def _taught(
    folder: Path,
    texts: Sequence[str],
    plain: Sequence[tuple[str, str]],
    turns: Sequence[tuple[str, str]],
    arguments: dict[str, bool],
    heads: int,
    steps: int,
) -> Path:
    from promptcot_assets.inference.chat import ChatTemplate
    from promptcot_assets.settings.profile import Chat
    from tests.chat_families import FAMILIES, make_family
    from tests.chat_models import teach_answers
    from tests.tiny_models import TinySettings

    sizes = TinySettings(vocab_size=900, max_position=1024, hidden_size=64, intermediate_size=128, heads=heads)
    model = make_family(folder, FAMILIES["qwen3"], sizes, texts)
    template = ChatTemplate(model, Chat(arguments=arguments))
    dialogues = [*plain, *((template.turn(prompt).prompt, answer) for prompt, answer in turns)]
    random.Random(1).shuffle(dialogues)
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two threads wait for each other
    try:
        return teach_answers(model, dialogues, steps)
    finally:
        torch.set_num_threads(threads)
