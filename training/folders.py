"""What a trainer leaves on disk: the base it finds, the run's identity, checkpoints, an output written whole or not.

With several processes the first one writes and decides; the others hear of it. The folders are shared by all.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

from training.child import OutputError, Report, Spec, SpecError

T = TypeVar("T")
RESULT = "training.json"
NOTE = "run.json"  # whose checkpoints these are
LOCK, LOCK_WAIT_S, LOCK_POLL_S = "lock", 60.0, 0.2  # a file in the checkpoints' folder; locks end with their process
_held: list[IO[str]] = []  # open as long as this process lives
WHOLE = "whole"  # an empty file in a checkpoint, written last
TORCH_SAVE = "inline_container"  # in what torch.save says of a file it could not write, a bare RuntimeError


def base_folder(spec: Spec) -> Path:
    """The folder of the base model; a hub id is looked up (and fetched, if need be) at its revision."""
    if (Path(spec.base) / "config.json").is_file():
        return Path(spec.base)
    if Path(spec.base).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", spec.base):
        raise SpecError(f"base: {spec.base} is neither a model folder (with a config.json) nor a hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec.base, revision=spec.revision))
    except OSError as error:  # every error of the hub is one
        raise SpecError(f"base: cannot get {spec.base}@{spec.revision} from the hub: {error}") from error


def identity(spec: Spec, kind: str, base: Path) -> dict[str, Any]:
    """What decides the result, without paths: equal identities on as many processes give equal models."""
    if not spec.data.is_file():
        raise SpecError(f"data: {spec.data}: no such file")
    inputs = {"base": _model_hash(base), "data": _sha256(spec.data)}
    if spec.teacher is not None:
        inputs["teacher"] = _model_hash(Path(spec.teacher))
    lora = {} if spec.lora is None else {"lora": asdict(spec.lora)}
    replacing = {"resample_groups": spec.resample_groups} if spec.resample_groups else {}
    return {"trainer": kind, **inputs, "seed": spec.seed, "arguments": dict(spec.arguments), **lora, **replacing}


def _model_hash(folder: Path) -> str:
    weights = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors"), *folder.glob("tokenizer*")]):
        weights.update(f"{path.name} {_sha256(path)}\n".encode())
    return weights.hexdigest()


def begin(spec: Spec, kind: str, base: Path, report: Report, args: Any) -> dict[str, Any] | None:
    """Ready the folders; the run's identity. None when this very run is done already: its result is reported again.

    args: TRL's, which have joined the processes. Raises (in all of them): SpecError when the output is another run's,
    or the checkpoints are.
    """
    launched = {"processes": args.world_size, "sharding": _sharding(args)}

    def ready() -> dict[str, Any] | None:
        run = identity(spec, kind, base)
        if _is_done(spec, run, report):
            return None
        hold(spec)  # whoever held the checkpoints may have finished meanwhile
        return None if _is_done(spec, run, report) else _ready(spec, run, launched)

    return by_the_first(ready)


def hold(spec: Spec) -> None:
    """Be the only trainer of these checkpoints until this process ends, however it ends.

    A trainer dies with its parent. One that does not yet, as when it is stuck in its device's driver, is waited for.
    Raises: OutputError naming the process that holds them after LOCK_WAIT_S.
    """
    spec.checkpoints.mkdir(parents=True, exist_ok=True)
    lock = (spec.checkpoints / LOCK).open("a+")
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.seek(0)
                raise OutputError(
                    f"checkpoints: {spec.checkpoints} are held by {lock.read() or 'another trainer'}: wait until it "
                    "has ended, or end it, then give the same command again"
                ) from None
            time.sleep(LOCK_POLL_S)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} of {socket.gethostname()}")
    lock.flush()
    _held.append(lock)


def by_the_first(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, in all of them; its SpecError or OutputError too."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    heard: list[Any] = [None]
    if PartialState().is_main_process:
        try:
            heard = [work()]
        except (SpecError, OutputError) as error:
            heard = [error]
    broadcast_object_list(heard)
    if isinstance(heard[0], SpecError | OutputError):
        raise heard[0]
    return heard[0]


def _sharding(args: Any) -> str:
    """How the weights of a checkpoint lie; accelerate itself says so only when the trainer is made."""
    from accelerate.utils import parse_flag_from_env

    if args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return "FSDP"
    return "DeepSpeed" if args.deepspeed or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED") else "none"


def _is_done(spec: Spec, run: dict[str, Any], report: Report) -> bool:
    """Whether this very run has left its output; then its result is reported again."""
    if not spec.output.exists():
        return False
    done = _read_json(spec.output / RESULT)
    if not _same(done, run):
        raise SpecError(f"output: {spec.output} exists and is not this run's: remove it or name another")
    shutil.rmtree(spec.checkpoints, ignore_errors=True)  # a kill may have come between the rename and this
    report.result({**done, "figures": {}})
    return True


def _ready(spec: Spec, run: dict[str, Any], launched: Mapping[str, Any]) -> dict[str, Any]:
    shutil.rmtree(draft(spec), ignore_errors=True)  # what a kill left
    spec.output.parent.mkdir(parents=True, exist_ok=True)
    spec.checkpoints.mkdir(parents=True, exist_ok=True)
    note = spec.checkpoints / NOTE
    if note.exists():
        there = _read_json(note)
        if not _same(there, run):
            raise SpecError(f"checkpoints: {spec.checkpoints} holds those of another run: remove it or name another")
        if not _same(there, launched):
            before = {name: there.get(name) for name in launched}
            raise SpecError(
                f"checkpoints: {spec.checkpoints} was begun with {before}, this run has {dict(launched)}: "
                "start it in the same way, or remove the folder to begin anew"
            )
    note.write_text(json.dumps({**run, **launched}))
    for cut_short in set(spec.checkpoints.glob("checkpoint-*")) - set(_whole_checkpoints(spec.checkpoints).values()):
        shutil.rmtree(cut_short)
    return run


def _same(there: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    return {name: there.get(name) for name in run} == json.loads(json.dumps(run))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that every process had finished; others were cut short by a kill."""
    whole = _whole_checkpoints(folder)
    return whole[max(whole)] if whole else None


def mark_whole(checkpoint: Path) -> None:
    """For the first process, once all have written their part."""
    (checkpoint / WHOLE).touch()


def _whole_checkpoints(folder: Path) -> dict[int, Path]:
    return {int(path.parent.name.split("-")[1]): path.parent for path in folder.glob(f"checkpoint-*/{WHOLE}")}


def draft(spec: Spec) -> Path:
    """Where the output is written, beside its place."""
    return spec.output.with_name(f".{spec.output.name}.partial")


def publish(spec: Spec, result: dict[str, Any]) -> dict[str, Any]:
    """Complete the draft, rename it to the output, forget the checkpoints. The same run writes the same bytes."""
    made = draft(spec)
    (made / "training_args.bin").unlink(missing_ok=True)  # a pickle, with paths
    result = {**result, "files": {path.name: _sha256(path) for path in sorted(made.iterdir())}}
    (made / RESULT).write_text(json.dumps(result, indent=1) + "\n")
    for path in (*made.iterdir(), made):  # a power cut after the rename must not find half of it
        _sync(path)
    made.rename(spec.output)
    shutil.rmtree(spec.checkpoints)
    return result


@contextmanager
def written_or_gone(folder: Path) -> Iterator[None]:
    """Around the writing of `folder`: a failure, as of a full disk, removes it and becomes an OutputError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and TORCH_SAVE not in str(error):  # as of a process that has ended
            raise
        free = shutil.disk_usage(folder.parent).free
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(
            f"cannot write {folder} ({free:,} bytes were free there): {str(error).splitlines()[0]}. Nothing of it is "
            "left; once that is mended, the same command goes on from its last whole checkpoint"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    """Empty when it is not there or was cut short by a kill."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
