"""Where models come from: a tiny one made here (the demo), a pinned one of the Hugging Face hub, or a GGUF file.

Every function leaves a complete Hugging Face folder (config, safetensors weights, tokenizer) or nothing.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from promptcot_assets.settings.pins import COMMIT, MEND
from promptcot_assets.stages.folders import complete_folder
from promptcot_assets.stages.gguf import from_gguf
from promptcot_assets.stages.hub_errors import in_one_sentence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END = "<pad>", "<eos>"
# a digit with its space, a word with its space, a run of signs, blank space: no token crosses these bounds, so a text
# that ends on one can be continued without its last token changing
PIECES = r" ?\d| ?[^\W\d_]+| ?[^\s\w]+| ?_+|\s+"
# Width 100-300: the usual 0.02 is for widths of thousands and makes a tiny model learn slowly
INITIALIZER_RANGE = 0.05
TOKENIZER_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
MODEL_FILES = [*TOKENIZER_FILES, "*.safetensors"]
OTHER_COPIES = ["original/*", "metal/*"]  # the same weights once more, in another layout (Llama, gpt-oss)


class PublishedModel(Protocol):
    """A model that others trained: of the hub, or a GGUF file with its sha256."""

    @property
    def hub_id(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def gguf(self) -> str | None: ...
    @property
    def sha256(self) -> str | None: ...


class TinyModelSettings(Protocol):
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    vocab_size: int  # at most; a small corpus has fewer merges to learn
    max_position: int
    seed: int


def train_tokenizer(texts: Iterable[str], vocab_size: int, markers: Sequence[str] = ()) -> "PreTrainedTokenizerFast":
    """Byte-level BPE in which every digit is a token of its own and every marker exactly one (decoded like any other).

    The text between two markers is tokenized as if they were not there, so the log-probability of a sequence splits
    exactly at a marker. Raises ValueError when `vocab_size` cannot hold the bytes, the markers, pad and end.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(alphabet) + 2 + len(markers)
    if vocab_size < least:
        raise ValueError(f"vocab_size {vocab_size}: bytes, pad, end and {len(markers)} markers need at least {least}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(markers),
        special_tokens=[PAD, END],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without(markers, texts), trainer)
    tokenizer.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in markers])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _without(markers: Sequence[str], texts: Iterable[str]) -> Iterator[str]:
    if not markers:
        yield from texts
        return
    boundary = re.compile("|".join(re.escape(marker) for marker in sorted(markers, key=len, reverse=True)))
    for text in texts:
        yield from filter(None, boundary.split(text))


def from_scratch(
    texts: Iterable[str],
    settings: TinyModelSettings,
    folder: Path,
    *,
    markers: Sequence[str] = (),
    tokenizer: "PreTrainedTokenizerFast | Path | None" = None,
) -> Path:
    """A tiny untrained Qwen3 in `folder`, byte-identical for identical input.

    tokenizer: one to share, itself or the folder of another model; then `texts` and `markers` are not read. Without it,
    one is trained on `texts`.
    """
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils import logging

    if isinstance(tokenizer, Path):
        shared: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(tokenizer)
    else:
        shared = tokenizer or train_tokenizer(texts, settings.vocab_size, markers)
    if settings.hidden_size % settings.heads or (settings.hidden_size // settings.heads) % 2:
        raise ValueError(f"hidden_size {settings.hidden_size} must be an even multiple of heads {settings.heads}")
    config = Qwen3Config(
        vocab_size=len(shared),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.hidden_size // settings.heads,
        max_position_embeddings=settings.max_position,
        tie_word_embeddings=True,
        pad_token_id=shared.pad_token_id,
        eos_token_id=shared.eos_token_id,
        bos_token_id=None,
        initializer_range=INITIALIZER_RANGE,
    )
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen3ForCausalLM(config)
    shared.model_max_length = settings.max_position
    with complete_folder(folder) as draft:
        model.save_pretrained(draft)
        shared.save_pretrained(draft)
    return folder


def fetched(model: PublishedModel, folder: Path, weights: bool = True) -> Path:
    """A published model in `folder`, complete or not there. weights: False leaves them out.

    Raises: as `from_hub` and `from_gguf`.
    """
    if model.hub_id is not None:
        with in_one_sentence(model.hub_id, model.revision):
            return from_hub(model.hub_id, model.revision, folder, weights)
    assert model.gguf is not None and model.sha256 is not None
    return from_gguf(Path(model.gguf), model.sha256, folder, weights)


def from_hub(repo_id: str, revision: str | None, folder: Path, weights: bool = True) -> Path:
    """The model `repo_id` at commit `revision` in `folder`; files are hard links into the hub's cache where possible.

    repo_id: a hub id, or the path of a folder that already holds the model (then `revision` is not read). weights:
    False leaves them out: tokenizer, chat template and configuration of a model that a server runs.
    Raises: ValueError when `revision` is not a full commit hash; FileNotFoundError, saying what to set, when the hub
    cannot be reached and its cache does not hold the model.
    """
    if Path(repo_id).is_dir():
        left_out = None if weights else shutil.ignore_patterns("*.safetensors", "*.bin")
        with complete_folder(folder) as draft:
            shutil.copytree(repo_id, draft, dirs_exist_ok=True, ignore=left_out)
        return folder
    if revision is None:
        raise ValueError(f"{repo_id} has no pinned revision; {MEND}")
    if not COMMIT.fullmatch(revision):
        raise ValueError(f"{repo_id}: revision {revision!r} is not a full commit hash; branches and tags move: pin it")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    files = MODEL_FILES if weights else TOKENIZER_FILES
    try:
        snapshot = Path(
            snapshot_download(repo_id, revision=revision, allow_patterns=files, ignore_patterns=OTHER_COPIES)
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ConnectionError) as error:
        raise FileNotFoundError(
            f"cannot get {repo_id}@{revision[:12]} from the Hugging Face hub ({type(error).__name__}: {error}). "
            "Unset HF_HUB_OFFLINE and check the network (HF_TOKEN for a gated model), point HF_HOME at a cache that "
            "holds this commit, or give the path of a local folder instead of the hub id"
        ) from error
    with complete_folder(folder) as draft:
        for file in sorted(snapshot.rglob("*")):
            if file.is_file():
                _link_or_copy(file.resolve(), draft / file.relative_to(snapshot))
    return folder


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
