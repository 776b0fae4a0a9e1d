"""Concepts and rationales that people add to a public shape, under our own names, are read whatever the shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptcot_assets.stages.corpus.reading import read_seeds

SHAPES = {
    "MATH": {"problem": "What is 1 + 1?", "level": "Level 1", "solution": "It is \\boxed{2}."},
    "GSM8K": {"question": "What is 1 + 1?", "answer": "One and one.\n#### 2"},
    "columns by name": {"problem": "What is 1 + 1?", "answer": "2"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_annotations_beside_a_public_shape_are_read(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(json.dumps(SHAPES[shape] | {"concepts": ["sums"], "rationale": "Start from sums."}) + "\n")
    (row,) = read_seeds(path)[0]
    assert (row["concepts"], row["rationale"]) == (["sums"], "Start from sums.")


def test_an_answer_added_to_a_shape_without_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    chat = [{"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "Two."}]
    row = {"source": "olympiads", "problem": "What is 1 + 1?", "solution": "Two.", "messages": chat, "answer": 0}
    path.write_text(json.dumps(row | {"level": "easy"}) + "\n")
    ((found,), dropped) = read_seeds(path)
    assert (found["answer"], found["level"], found["domain"], dropped) == ("0", "easy", "maths", [])
