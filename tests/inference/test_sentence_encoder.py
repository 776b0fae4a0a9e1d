"""Sentence models against transformers by hand, on a tiny model of random weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from promptcot_assets.inference import EngineError
from promptcot_assets.inference.sentence_encoder import SentenceEncoder, folder_version
from promptcot_assets.inference.transformers_engine import TransformersEngine
from tests.tiny_models import tiny_texts

TEXTS = tiny_texts(9, seed=3)


def sentence_model(model: Path, folder: Path, pooling: dict[str, object], *more: str, longest: int = 256) -> Path:
    """A folder as sentence-transformers writes it, around an existing transformer."""
    shutil.copytree(model, folder)
    names = [("", "Transformer"), ("1_Pooling", "Pooling"), *((name, name) for name in more)]
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def states(model: Path, text: str) -> np.ndarray:
    """[tokens, hidden]: the last hidden states of one text."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    with torch.inference_mode():
        ids = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
        return np.asarray(AutoModel.from_pretrained(model)(**ids).last_hidden_state[0])


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


MEAN = {"word_embedding_dimension": 48, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
CLS = {"word_embedding_dimension": 48, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [(MEAN, lambda s: s.mean(axis=0)), (CLS, lambda s: s[0]), ({"pooling_mode": "mean"}, lambda s: s.mean(axis=0))],
    ids=["mean", "first token", "newer layout"],
)
def test_a_text_is_its_pooled_hidden_states(tiny_model: Path, tmp_path: Path, pooling, pooled) -> None:  # type: ignore[no-untyped-def]
    folder = sentence_model(tiny_model, tmp_path / "model", pooling, "Normalize")
    vectors = SentenceEncoder(folder, batch_size=4).embed(TEXTS)
    expected = np.stack([unit(pooled(states(tiny_model, text))) for text in TEXTS])
    assert vectors.dtype == np.float32 and vectors == pytest.approx(expected, abs=1e-5)


def test_a_plain_model_is_pooled_as_the_engine_does(tiny_model: Path) -> None:
    encoder = SentenceEncoder(tiny_model)
    with TransformersEngine(tiny_model) as engine:
        assert encoder.embed(TEXTS) == pytest.approx(engine.embed(TEXTS), abs=1e-5)
    assert encoder.embed([]).shape == (0, 48)


def test_a_long_text_is_cut_at_the_models_limit(tiny_model: Path, tmp_path: Path) -> None:
    encoder = SentenceEncoder(sentence_model(tiny_model, tmp_path / "model", MEAN, longest=3))
    one, same, other = encoder.embed(["1234567", "1239999", "1299999"])
    assert one == pytest.approx(same, abs=1e-6) and abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("pooling", "more", "says"),
    [
        ({"pooling_mode_max_tokens": True}, (), "1_Pooling/config.json: pooling max_tokens is not read"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, (), "pooling mean_tokens, cls_token"),
        ({}, (), "pooling without a mode"),
        (MEAN, ("Dense",), "modules.json: .* not Dense; name another"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tiny_model: Path, tmp_path: Path, pooling: dict[str, object], more: tuple[str, ...], says: str
) -> None:
    with pytest.raises(EngineError, match=says):
        SentenceEncoder(sentence_model(tiny_model, tmp_path / "model", pooling, *more))


def test_a_damaged_or_empty_folder_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = sentence_model(tiny_model, tmp_path / "model", MEAN)
    (folder / "modules.json").write_text("[{")
    with pytest.raises(EngineError, match=r"modules.json: not JSON"):
        SentenceEncoder(folder)
    with pytest.raises(EngineError, match="is no model that transformers can load"):
        SentenceEncoder(tmp_path)


def test_a_folder_is_what_is_in_it(tiny_model: Path, tmp_path: Path) -> None:
    copies = [sentence_model(tiny_model, tmp_path / name, MEAN) for name in "ab"]
    before = folder_version(copies[0])
    assert before == folder_version(copies[1]) != folder_version(tiny_model)
    (copies[0] / "1_Pooling" / "config.json").write_text(json.dumps(CLS))
    assert folder_version(copies[0]) != before
