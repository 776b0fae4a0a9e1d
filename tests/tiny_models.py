"""Real, tiny models for tests: a byte-level tokenizer and a Qwen3 of some 60 thousand random weights, made in a moment.

Use the fixtures (import them in a conftest) or `make_tiny_model(folder)` for one of your own. `tiny_model` is untrained
and samples nearly uniformly; `taught_model` has seen enough of `tiny_texts` to write words and numbers.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

MARKERS = ("<!-- BEGIN PROBLEM -->", "<!-- END PROBLEM -->")
WORDS = ["let", "A", "be", "the", "root", "of", "and", "find", "sum", "average", "share", "percent", "ratio", "when"]


@dataclass(frozen=True)
class TinySettings:
    hidden_size: int = 48
    intermediate_size: int = 96
    layers: int = 2
    heads: int = 4
    vocab_size: int = 320
    max_position: int = 256
    seed: int = 0


def tiny_texts(count: int = 200, seed: int = 0, shortest: int = 3, longest: int = 20) -> list[str]:
    """Texts of `shortest` to `longest` words and numbers."""
    rng = random.Random(seed)
    return [
        " ".join(rng.choice([*WORDS, str(rng.randrange(99))]) for _ in range(rng.randint(shortest, longest)))
        for _ in range(count)
    ]


def make_tiny_model(folder: Path, settings: TinySettings | None = None) -> Path:
    """A complete Hugging Face folder. Untrained, so it samples nearly at random."""
    from promptcot_assets.stages.base_models import from_scratch

    return from_scratch(tiny_texts(), settings or TinySettings(), folder, markers=MARKERS)


def teach(folder: Path, steps: int = 80) -> Path:
    """Train a tiny model in place on `tiny_texts` by a bare loop."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        batch = tokenizer([text + tokenizer.eos_token for text in tiny_texts(32, seed=step)], padding=True)
        ids, mask = torch.tensor(batch["input_ids"]), torch.tensor(batch["attention_mask"])
        model(input_ids=ids, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads that wait by spinning make a tiny model up to ten times slower on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def taught_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(make_tiny_model(tmp_path_factory.mktemp("models") / "taught"))
