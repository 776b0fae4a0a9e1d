from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.tiny_models import tiny_texts
from training.child import SpecError
from training.loop import tokens_seen
from training.rows import LengthGroupedSampler, dpo_rows, length_grouped_order, positions, prompt_rows, sft_rows


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def write(folder: Path, **columns: list) -> Path:
    path = folder / "data.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_sft_rows_learn_the_completion_and_its_end_only(tmp_path: Path, tokenizer: Any) -> None:
    rows = sft_rows(write(tmp_path, prompt=["let A"], completion=[" be 12"], id=["x"]), tokenizer, None, tmp_path)
    prompt, completion = tokenizer("let A")["input_ids"], tokenizer(" be 12")["input_ids"]
    assert list(rows.data["input_ids"]) == [[*prompt, *completion, tokenizer.eos_token_id]]
    assert list(rows.data["labels"]) == [[-100] * len(prompt) + [*completion, tokenizer.eos_token_id]]
    assert (rows.read, rows.dropped) == (1, {})


def test_an_end_token_that_is_there_is_not_doubled(tmp_path: Path, tokenizer: Any) -> None:
    rows = sft_rows(write(tmp_path, prompt=["a", "a"], completion=[" b", " b<eos>"]), tokenizer, None, tmp_path)
    assert rows.data["input_ids"][0] == rows.data["input_ids"][1]


def test_long_rows_are_dropped_whole_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    data = write(tmp_path, prompt=["let A", "let A", "let A"], completion=[" be", " be" * 50, " be" * 60])
    exact = len(tokenizer("let A be")["input_ids"]) + 1
    rows = sft_rows(data, tokenizer, exact, tmp_path / "some")
    assert (len(rows.data), rows.read, rows.dropped) == (1, 3, {"longer_than_max_length": 2})
    with pytest.raises(SpecError, match=r"no row to train on \(3 longer_than_max_length; max_length 2\)"):
        sft_rows(data, tokenizer, 2, tmp_path / "none")


def test_a_prompt_that_leaves_no_room_to_sample_is_dropped_and_counted(tmp_path: Path, tokenizer: Any) -> None:
    data = write(tmp_path, prompt=["let A", "let" * 90, "let B"], completion=["1", "2", "3"])
    rows, lengths = prompt_rows(data, tokenizer, 20)
    assert rows.data.to_dict() == {"prompt": ["let A", "let B"], "label": ["1", "3"]}
    assert (rows.read, rows.dropped) == (3, {"prompt_leaves_no_room": 1})
    assert lengths == [len(tokenizer(prompt)["input_ids"]) for prompt in ("let A", "let B")]
    with pytest.raises(SpecError, match="no prompt has 0 tokens or fewer"):
        prompt_rows(data, tokenizer, 0)


def test_the_longest_row_of_a_model_is_what_it_has_positions_for(tiny_model: Path) -> None:
    assert positions(tiny_model) == 256


def test_dpo_rows_and_their_drops(tmp_path: Path, tokenizer: Any) -> None:
    data = write(
        tmp_path,
        prompt=["let A", "let A", "let A"],
        chosen=[" be 1", " be 1", " be 1"],
        rejected=[" be 2", " be 1", " be" * 50],
    )
    rows = dpo_rows(data, tokenizer, 20, tmp_path)
    end = tokenizer.eos_token_id
    assert rows.data.to_dict() == {
        "prompt_ids": [tokenizer("let A")["input_ids"]],
        "chosen_ids": [[*tokenizer(" be 1")["input_ids"], end]],
        "rejected_ids": [[*tokenizer(" be 2")["input_ids"], end]],
    }
    assert rows.dropped == {"chosen_equals_rejected": 1, "longer_than_max_length": 1}


def test_rows_are_written_once_and_batches_and_a_kill_in_between_change_nothing(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = tiny_texts(50)
    data = write(tmp_path, prompt=texts, completion=[f" {text}" for text in texts])
    whole = sft_rows(data, tokenizer, 24, tmp_path / "whole")
    monkeypatch.setattr("training.rows.TEXTS_AT_ONCE", 7)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/rows.arrow").write_bytes(b"cut short")  # without its counts
    parts = sft_rows(data, tokenizer, 24, tmp_path / "parts")
    assert parts.data.to_dict() == whole.data.to_dict() and 0 < len(whole.data) < 50
    assert (
        (parts.read, parts.dropped)
        == (whole.read, whole.dropped)
        == (50, {"longer_than_max_length": 50 - len(whole.data)})
    )
    assert whole.lengths("input_ids") == [len(ids) for ids in whole.data["input_ids"]]
    assert whole.lengths("input_ids", "labels") == [2 * length for length in whole.lengths("input_ids")]
    data.unlink()
    assert sft_rows(data, tokenizer, 24, tmp_path / "whole").data.to_dict() == whole.data.to_dict()


WRONG_DATA = [
    ({"prompt": ["a"]}, r"has no column 'completion'; it has prompt"),
    ({"prompt": ["a"], "completion": [3]}, r"column 'completion' must hold strings; it holds int64"),
    ({"prompt": ["a", "b"], "completion": ["x", None]}, r"row 1 has no 'completion'"),
    ({"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())}, r"the file is empty"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG_DATA)
def test_wrong_data_is_named(columns: dict, message: str, tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(SpecError, match=rf"data\.parquet: .*{message}"):
        sft_rows(write(tmp_path, **columns), tokenizer, 64, tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "data.parquet").write_text("prompt,completion")
    with pytest.raises(SpecError, match=r"data\.parquet: not a parquet file"):
        sft_rows(tmp_path / "data.parquet", tokenizer, 64, tmp_path)


order_inputs = {
    "lengths": st.lists(st.integers(1, 500), min_size=1, max_size=300),
    "batch_size": st.integers(1, 20),
    "seed": st.integers(0, 2**32),
    "epoch": st.integers(0, 50),
}


@given(**order_inputs)
def test_the_order_is_a_permutation_and_repeats(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    order = length_grouped_order(lengths, batch_size, seed, epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == length_grouped_order(lengths, batch_size, seed, epoch)
    sampler = LengthGroupedSampler(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    assert list(sampler) == order and len(sampler) == len(lengths)


def test_the_order_changes_with_seed_and_epoch_and_groups_lengths() -> None:
    lengths = [(7 * i) % 101 for i in range(640)]
    orders = [length_grouped_order(lengths, 16, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    for order in orders:
        batches = [[lengths[row] for row in order[start : start + 16]] for start in range(0, 640, 16)]
        padding = sum(max(batch) * 16 - sum(batch) for batch in batches) / sum(lengths)
        assert padding < 0.1  # in random order: about 0.9
        assert [min(batch) for batch in batches] != sorted(min(batch) for batch in batches)


@given(**order_inputs, steps=st.integers(0, 60))
def test_tokens_seen_are_those_of_the_batches(
    lengths: list[int], batch_size: int, seed: int, epoch: int, steps: int
) -> None:
    taken, rows = 0, []
    for number in range(1000):
        order = length_grouped_order(lengths, batch_size, seed, number)
        for start in range(0, len(order), batch_size):
            if taken < steps:
                taken += 1
                rows += order[start : start + batch_size]
        if taken == steps:
            break
    assert tokens_seen(lengths, batch_size, seed, steps) == sum(lengths[row] for row in rows)
