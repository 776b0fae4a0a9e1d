"""Wrappers of prompts as a table."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.text.wrappers import LAYERS, strip_wrapper

WRAPPERS = json.loads(Path(__file__).with_name("wrappers.json").read_text())


@pytest.mark.parametrize("case", WRAPPERS, ids=lambda case: case["why"])
def test_strip_wrapper(case):
    assert strip_wrapper(case["text"]) == case["bare"]


def test_heads_without_end_cost_some_passes_and_no_more() -> None:
    assert strip_wrapper("Question: " * 20_000 + "x") == "Question: " * (20_000 - LAYERS) + "x"


PIECES = [case["text"] for case in WRAPPERS] + ["[INST]", "<|user|>", "Question:", "\n", "x"]


@given(st.lists(st.sampled_from(PIECES), max_size=4))
def test_strip_wrapper_is_idempotent(pieces):
    once = strip_wrapper("".join(pieces))
    assert strip_wrapper(once) == once
