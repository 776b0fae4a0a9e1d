"""The command that starts a trainer, alone, by a launcher such as `accelerate launch`, or from the server of trainers.

Imports no torch.

A launcher is a list of words. Its program is the one beside this Python, where there is one; a word that begins with
`training/configs/` is a file of this package, wherever that is installed.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from training.child import SpecError
from training.server import client

CONFIGS = Path(__file__).parent / "configs"
PREFIX = "training/configs/"


def command(method: str, spec: Path, launcher: Sequence[str] = ()) -> list[str]:
    """method: sft, dpo, grpo, distill. Raises: SpecError naming a program or a configuration file that is not there."""
    if not launcher and (asking := client(method, spec)):
        return asking
    started_by = [_program(launcher[0]), *map(_word, launcher[1:])] if launcher else [sys.executable]
    return [*started_by, "-m", f"training.{method}", str(spec)]


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise SpecError(f"launcher: there is no program {name!r}, neither beside {sys.executable} nor on the PATH")
    return found


def _word(word: str) -> str:
    if not word.startswith(PREFIX):
        return word
    path = CONFIGS / word.removeprefix(PREFIX)
    if not path.is_file():
        known = ", ".join(sorted(PREFIX + one.name for one in CONFIGS.iterdir()))
        raise SpecError(f"launcher: there is no {word}; known: {known}")
    return str(path)
