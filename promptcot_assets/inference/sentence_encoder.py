"""Sentence models in the layout of sentence-transformers, such as all-MiniLM-L6-v2: a text becomes one unit vector.

Read with transformers alone: a Transformer, then mean or first-token pooling. What else such a folder may ask for (a
dense layer, weighted pooling, prompts) is refused, not left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from promptcot_assets.inference.protocol import EngineError

POOLING = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls"}
LONGEST = 512  # tokens, where the folder names no limit


class Embedder(Protocol):
    """What turns texts into vectors: a sentence model, or an engine with a causal model."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, hidden] float32, of unit length."""
        ...


class SentenceEncoder:
    """The sentence model in `folder`, on the CPU. Raises: EngineError naming the file that cannot be used."""

    def __init__(self, folder: Path, batch_size: int = 64) -> None:
        transformer, self._pooling = _layout(folder)
        self._batch_size = batch_size
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(transformer, local_files_only=True)
            self._model = AutoModel.from_pretrained(transformer, local_files_only=True).eval()
        except (OSError, ValueError) as error:
            raise EngineError(f"{transformer} is no model that transformers can load: {error}") from error
        limits = _json(folder / "sentence_bert_config.json") or {}
        self._longest = limits.get("max_seq_length") or min(LONGEST, self._tokenizer.model_max_length)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, hidden] float32, of unit length. A text is cut at the model's limit, as sentence-transformers does."""
        batches = [texts[at : at + self._batch_size] for at in range(0, len(texts), self._batch_size)]
        width = self._model.config.hidden_size
        return np.concatenate([np.zeros((0, width), np.float32), *(self._embed(list(batch)) for batch in batches)])

    def _embed(self, texts: list[str]) -> np.ndarray:
        import torch

        batch = self._tokenizer(
            texts, padding=True, padding_side="right", truncation=True, max_length=self._longest, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**batch).last_hidden_state
        if self._pooling == "cls":
            vectors = states[:, 0]
        else:
            mask = batch["attention_mask"].unsqueeze(-1)
            vectors = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return np.asarray(torch.nn.functional.normalize(vectors.float(), dim=-1))


def folder_version(folder: Path) -> str:
    """Hash of a folder's files: what a local model is, wherever it lies."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _layout(folder: Path) -> tuple[Path, str]:
    """Where the transformer is, and how its states are pooled; without modules.json the folder itself, and the mean."""
    modules = _json(folder / "modules.json")
    if modules is None:
        return folder, "mean"
    places = {module["type"].rpartition(".")[2]: folder / module["path"] for module in modules}
    unknown = sorted(places.keys() - {"Transformer", "Pooling", "Normalize"})
    if unknown or "Transformer" not in places or "Pooling" not in places:
        raise EngineError(
            f"{folder / 'modules.json'}: a Transformer, Pooling and perhaps Normalize can be read, not "
            f"{', '.join(unknown) or 'a model without one of the first two'}; name another sentence model"
        )
    config = _json(places["Pooling"] / "config.json") or {}
    named = [config["pooling_mode"]] if "pooling_mode" in config else [
        name.removeprefix("pooling_mode_") for name, value in config.items() if value is True and "_mode_" in name
    ]  # fmt: skip
    if len(named) != 1 or named[0] not in POOLING:
        raise EngineError(
            f"{places['Pooling'] / 'config.json'}: pooling {', '.join(map(str, named)) or 'without a mode'} is not "
            "read; mean_tokens and cls_token are. Name another sentence model"
        )
    return places["Transformer"], POOLING[named[0]]


def _json(path: Path):  # type: ignore[no-untyped-def]
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise EngineError(f"{path}: not JSON ({error}); download the model again") from error
