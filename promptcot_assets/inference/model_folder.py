"""A checkpoint's folder as an engine meets it: config, tokenizer, end tokens, and the base below an adapter.

Belongs here: reading a folder and saying what is wrong with it. Does not belong here: weights.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from promptcot_assets.inference.protocol import EngineError

ADAPTER = "adapter_config.json"  # peft's; it marks a folder that holds a LoRA adapter and no whole model


@dataclass(frozen=True)
class ModelFolder:
    """A Hugging Face folder, or a peft adapter over one."""

    path: Path
    base: Path  # config and weights; `path` itself unless that is an adapter
    config: Any
    tokenizer: Any  # the adapter's own where it has one

    @property
    def is_adapter(self) -> bool:
        return self.base != self.path

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Every id that ends a text: the generation config's (else the config's) and the tokenizer's."""
        own = self.base / "generation_config.json"
        config = json.loads(own.read_text()) if own.is_file() else {}
        return end_tokens(
            config.get("eos_token_id", self.config.get_text_config().eos_token_id), self.tokenizer.eos_token_id
        )

    def text_of(self, sampled: list[int], stop: tuple[str, ...]) -> str:
        """The text of a completion's tokens, without the end token and before the first of the stop strings."""
        ids = sampled[:-1] if sampled and sampled[-1] in self.end_tokens else sampled
        text: str = self.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=True)
        return text[: min((at for at in map(text.find, stop) if at >= 0), default=None)]

    def max_len(self, max_model_len: int | None, stretch: float = 1.0) -> int:
        """Tokens of prompt and completion together: as set, else what the model was made for times `stretch`."""
        made_for = getattr(self.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
        return max_model_len or int(made_for * stretch)


def read_model_folder(path: Path) -> ModelFolder:
    """Raises: EngineError when it is no model folder, cannot be read, or its tokenizer gives no offsets."""
    from transformers import AutoConfig, AutoTokenizer

    base = base_of(path)
    if not (base / "config.json").is_file():
        raise EngineError(f"{base} is not a model folder: it has no config.json")
    has_tokenizer = (path / "tokenizer_config.json").is_file()
    try:
        config = AutoConfig.from_pretrained(base)
        tokenizer = AutoTokenizer.from_pretrained(path if has_tokenizer else base)
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot read {path}: {error}") from error
    if not tokenizer.is_fast:
        raise EngineError(f"{path}: the engine needs a fast tokenizer (tokenizer.json), for offsets")
    return ModelFolder(path, base, config, tokenizer)


def base_of(path: Path) -> Path:
    """The folder with the whole model's weights: that of an adapter's base, else `path` itself.

    A relative base is looked for from the adapter's folder. Raises: EngineError when there is no such folder.
    """
    if not (path / ADAPTER).is_file():
        return path
    name = json.loads((path / ADAPTER).read_text()).get("base_model_name_or_path")
    if not name or not (base := path / name).is_dir():
        raise EngineError(f"{path} is an adapter whose base_model_name_or_path {name!r} is no folder")
    return base


def end_tokens(*ids: int | list[int] | None) -> frozenset[int]:
    return frozenset(i for some in ids if some is not None for i in ([some] if isinstance(some, int) else some))
