"""A training that cannot fit says so before it starts, with a setting that would."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from tests.training.runs import run, write_spec
from training import dpo, memory
from training.child import Spec, SpecError
from training.memory import GIB, Shape, available_bytes, needed, refuse_what_cannot_fit, shape_of

SMOLLM2 = Shape(weights=134_515_008, hidden=576, mlp=1536, layers=30, vocabulary=49_152)


def arguments(**given: Any) -> Any:
    ours = {"world_size": 1, "use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    return SimpleNamespace(**ours | {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1} | given)


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return Spec("base", tmp_path, tmp_path, tmp_path)


@pytest.fixture
def of_smollm2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "shape_of", lambda _: SMOLLM2)


def test_every_part_counts_what_it_is_of() -> None:
    def total(positions: int = 2048, trained: int = SMOLLM2.weights, half: bool = False, again: bool = False) -> float:
        return sum(needed(SMOLLM2, positions, trained, half, again).values())

    assert total(4096) > total() > total(half=True) > total(half=True, again=True)
    assert total() - total(trained=1_000_000) == pytest.approx(3 * 4 * (SMOLLM2.weights - 1_000_000))


def test_what_fits_is_let_through(spec: Spec, of_smollm2: None, tmp_path: Path) -> None:
    refuse_what_cannot_fit(spec, arguments(), tmp_path, [512] * 20, available=64 * GIB)
    for elsewhere in ({"use_cpu": False}, {"world_size": 2}):
        refuse_what_cannot_fit(spec, arguments(**elsewhere), tmp_path, [512] * 20, available=1)


@pytest.mark.parametrize("free", [7.0, 4.5, 3.8])
def test_the_mend_that_is_named_fits(spec: Spec, of_smollm2: None, tmp_path: Path, free: float) -> None:
    with pytest.raises(SpecError, match=r"^does not fit into memory: needs about [\d.]+ GiB \(weights 0.5") as error:
        refuse_what_cannot_fit(spec, arguments(), tmp_path, [100, 700], available=int(free * GIB))
    said = str(error.value)
    assert f"{free:.1f} free" in said
    mended: dict[str, Any] = {}
    if batch := re.search(r"batch_size (\d+) with gradient_accumulation_steps (\d+)", said):
        mended = {"per_device_train_batch_size": int(batch[1]), "gradient_accumulation_steps": int(batch[2])}
        assert int(batch[1]) * int(batch[2]) == 8
    if "gradient_checkpointing true" in said:
        mended["gradient_checkpointing"] = True
    assert mended
    refuse_what_cannot_fit(spec, arguments(**mended), tmp_path, [100, 700], available=int(free * GIB))


def test_where_no_batch_fits_rows_must_be_shorter(spec: Spec, of_smollm2: None, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"smaller arguments.max_length \(the longest row has 700 tokens\).*lora"):
        refuse_what_cannot_fit(spec, arguments(), tmp_path, [700], available=GIB)


def test_of_a_pair_both_sides_count_as_the_longer_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"prompt": ["let"], "chosen": [" A"], "rejected": [" let B be the root of 27 and C of 64"]})
    asked: list[list[int]] = []

    def refused(spec: Spec, args: Any, base: Path, lengths: list[int]) -> None:
        asked.append(lengths)
        raise SpecError("enough")

    monkeypatch.setattr(memory, "refuse_what_cannot_fit", refused)
    spec = write_spec(tmp_path, tiny_model)
    pq.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(SystemExit):
        dpo.main(["dpo", str(spec)])
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    longer = len(tokenizer("let")["input_ids"]) + len(tokenizer(table["rejected"][0].as_py())["input_ids"]) + 1
    assert asked == [[2 * longer]]


def test_the_shape_is_that_of_the_folder(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    shape, model = shape_of(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    assert shape is not None
    assert shape.weights == sum(one.numel() for one in model.parameters())  # the tied head once
    assert (shape.hidden, shape.layers) == (48, 2)


def test_this_machine_says_what_it_has() -> None:
    free = available_bytes()
    assert free is not None and free > 1 << 26


def test_a_trainer_ends_with_the_sentence_before_a_model_is_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: GIB)
    words = tmp_path / "last_words"
    monkeypatch.setenv("PROMPTCOT_TRAINER_LAST_WORDS", str(words))
    with pytest.raises(SystemExit) as ended:
        run("sft", write_spec(tmp_path, tiny_model), capsys)
    assert ended.value.code == 2
    assert words.read_text().startswith("does not fit into memory: needs about 1.0 GiB")
    assert not (tmp_path / "model").exists()
