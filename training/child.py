"""A trainer as a child process: its spec, its parent, and what it tells the parent. Imports no torch.

Started by Dagster's PipesSubprocessClient, progress and result go through Pipes, and the process dies with its parent.
Started by hand, they go to standard output.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

# For whoever starts the child: these are read when the process starts or torch is imported, too late to set inside.
CHILD_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",  # a spinning OpenMP thread takes the core from its neighbour
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    # keep freed tensors instead of giving their pages back at every step: a fifth of the time of a tiny model otherwise
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
PR_SET_PDEATHSIG = 1
UNKNOWN = "unknown"  # when a process began, where the system does not say
STATE, PARENT, BEGAN = 0, 1, 19  # places in /proc/PID/stat, after the name
LAUNCHER_VARIABLES = ("LOCAL_RANK", "ACCELERATE_MIXED_PRECISION")  # set by `accelerate launch` and torchrun
LAUNCHER_POLL_SECONDS = 1.0
WRONG_SPEC = 2  # exit code after a SpecError: the same command would fail again
LONGEST_LAST_WORDS = 2000  # characters
# The file into which a trainer writes the one sentence it ends with. Its parent would otherwise know an exit code only.
LAST_WORDS_VARIABLE = "PROMPTCOT_TRAINER_LAST_WORDS"
# The mark of the process that started a trainer, or the server of trainers: once that has ended, who asks for its
# parent is told another one, and would wait for that one's end.
STARTED_BY = "PROMPTCOT_STARTED_BY"
OUT_OF_MEMORY = (
    "a smaller arguments.per_device_train_batch_size (with more gradient_accumulation_steps), "
    "arguments.gradient_checkpointing: true, a smaller arguments.max_length, or `lora` needs less"
)


class SpecError(ValueError):
    """The spec or the data it names cannot be trained on; the message names the file, the field and the mend."""


class OutputError(RuntimeError):
    """What was trained could not be written, as on a full disk; nothing of it is left and the same command goes on."""


@dataclass(frozen=True)
class Lora:
    """Low-rank matrices beside the named modules are trained (peft's LoraConfig), then merged into the base."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"


@dataclass(frozen=True)
class Spec:
    """One training run. Paths are used as given; `arguments` are the trainer's own (TRL's SFTConfig, DPOConfig)."""

    base: str  # folder or hub id
    data: Path  # parquet of strings: prompt, completion | prompt, chosen, rejected
    output: Path  # does not exist yet; written complete or not at all
    checkpoints: Path  # what a killed run leaves here, the same command continues from
    title: str = ""  # of progress lines: what is being trained
    revision: str | None = None  # of a hub id
    seed: int = 0
    threads: int = 1
    save_seconds: float | None = None
    save_steps: int | None = None
    lora: Lora | None = None  # all weights are trained without
    arguments: Mapping[str, Any] = field(default_factory=dict)
    teacher: str | None = None  # distillation only: the folder of the model that is learned from
    judged_within: str = "{}"  # online training only: the limits of the judge, as JSON
    resample_groups: int = 0  # online training only: tries to replace groups whose rewards are alike
    rollouts: Path | None = None  # online training only: the folder that every rollout is written to (rollouts.py)


def read_spec(path: Path) -> Spec:
    """Raises: SpecError for a missing file, an unknown or missing field, or a value of the wrong kind."""
    try:
        given = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SpecError(f"{path}: no such spec file") from error
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}: not JSON: {error}") from error
    if not isinstance(given, dict):
        raise SpecError(f"{path}: a spec is one JSON object")
    known = {one.name for one in fields(Spec)}
    if unknown := sorted(set(given) - known):
        raise SpecError(f"{path}: unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    for name in ("base", "data", "output", "checkpoints"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise SpecError(f"{path}: field {name!r} must be a path (a non-empty string); got {given.get(name)!r}")
    for name, kinds in {
        "title": str,
        "judged_within": str,
        "seed": int,
        "threads": int,
        "resample_groups": int,
        "arguments": dict,
    }.items():
        if name in given and (not isinstance(given[name], kinds) or isinstance(given[name], bool)):
            raise SpecError(f"{path}: field {name!r} must be {kinds.__name__}; got {given[name]!r}")
    if given.get("threads", 1) < 1:
        raise SpecError(f"{path}: field 'threads' must be at least 1; got {given['threads']}")
    for name in ("save_seconds", "save_steps"):
        value = given.get(name)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or value <= 0):
            raise SpecError(f"{path}: field {name!r} must be a positive number; got {value!r}")
    for name in ("rollouts", "teacher"):
        if given.get(name) is not None and not isinstance(given[name], str):
            raise SpecError(f"{path}: field {name!r} must be a path; got {given[name]!r}")
    paths = {name: Path(given[name]) for name in ("data", "output", "checkpoints", "rollouts") if given.get(name)}
    return Spec(**{**given, **paths, "lora": _lora(path, given.get("lora"))})


def _lora(path: Path, given: Any) -> Lora | None:
    if given is None:
        return None
    known = {one.name for one in fields(Lora)}
    if not isinstance(given, dict) or not given.keys() <= known:
        raise SpecError(f"{path}: field 'lora' is null or an object of {', '.join(sorted(known))}; got {given!r}")
    lora = Lora(**given)
    for name in ("r", "alpha"):
        value = getattr(lora, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SpecError(f"{path}: field 'lora.{name}' must be at least 1; got {value!r}")
    if not isinstance(lora.dropout, int | float) or not 0 <= lora.dropout < 1:
        raise SpecError(f"{path}: field 'lora.dropout' must be at least 0 and below 1; got {lora.dropout!r}")
    named = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
    if not isinstance(named, list) or not named or not all(one and isinstance(one, str) for one in named):
        raise SpecError(f"{path}: field 'lora.target_modules' must be a name or a list of names; got {named!r}")
    return lora


class Report:
    """Where progress lines and the result go: Dagster's run log, or standard output. Only the first process speaks."""

    def __init__(self, pipes: Any | None, rank: int = 0) -> None:
        self._pipes, self._rank = pipes, rank

    def line(self, text: str) -> None:
        if self._pipes is not None:
            self._pipes.log.info(text)
        elif self._rank == 0:
            print(text, flush=True)

    def point(self, values: Mapping[str, float]) -> None:
        """One point of the curves, for who watches the run; without Dagster nobody does."""
        if self._pipes is not None:
            self._pipes.report_custom_message({"point": dict(values)})

    def result(self, message: Mapping[str, Any]) -> None:
        if self._pipes is not None:
            self._pipes.report_custom_message(dict(message))
        elif self._rank == 0:
            print(json.dumps(message), flush=True)


@contextmanager
def started(argv: list[str], module: str) -> Iterator[tuple[Spec, Report]]:
    """The spec named on the command line and where to report.

    Ends the process with one line: exit code 2 for a SpecError, 1 for an OutputError. The first sentence of every error
    is written to the file that LAST_WORDS_VARIABLE names, for `obituary` in the parent.
    """
    if len(argv) != 2:
        raise SystemExit(f"usage: python -m {module} SPEC.json")
    from dagster_pipes import PipesEnvVarParamsLoader, open_dagster_pipes

    rank = int(os.environ.get("RANK", "0"))
    under_dagster = PipesEnvVarParamsLoader().is_dagster_pipes_process()
    launched = any(name in os.environ for name in LAUNCHER_VARIABLES)
    if launched:
        die_with_parent()  # the launcher,
        if under_dagster:
            die_with_launchers_parent(starter())  # which would itself outlive a killed step
    elif under_dagster:
        die_with_parent(starter())
    try:
        spec = read_spec(Path(argv[1]))
        # Without a parent open_dagster_pipes() returns mocks that swallow everything
        if under_dagster and rank == 0:
            with open_dagster_pipes() as pipes:
                yield spec, Report(pipes)
        else:
            yield spec, Report(None, rank)
    except (SpecError, OutputError) as error:
        who = module if rank == 0 else f"{module} (process {rank})"
        print(f"{who}: {error}", file=sys.stderr, flush=True)
        _leave_last_words(str(error))
        raise SystemExit(WRONG_SPEC if isinstance(error, SpecError) else 1) from error
    except Exception as error:  # the traceback goes to standard error, its last line to the parent
        _leave_last_words(f"{type(error).__name__}: {error}")
        raise


def _leave_last_words(text: str) -> None:
    """Of several processes the first that fails is the cause: the others fail because it is gone."""
    if path := os.environ.get(LAST_WORDS_VARIABLE):
        with suppress(FileExistsError), Path(path).open("x") as file:
            file.write(" ".join(text.split())[:LONGEST_LAST_WORDS])


def obituary(code: int, last_words: Path) -> str:
    """Why a trainer that ended with exit code `code` ended, and the mend where one is known, in one sentence."""
    said = last_words.read_text() if last_words.exists() else ""
    if said:
        mend = f"; {OUT_OF_MEMORY}" if "out of memory" in said.lower() else ""
        return said + mend
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return (
            f"the trainer was killed (exit code {code}), most likely by the kernel because memory ran out: "
            f"{OUT_OF_MEMORY}. The same command goes on from its last whole checkpoint"
        )
    if code < 0:
        return f"the trainer was ended by {_signal_name(-code)} (exit code {code}); see the end of its output"
    return f"the trainer ended with exit code {code}; see the end of its output"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def own_mark() -> str:
    """A text that means this process and no other: neither a later one of its number nor one of another machine."""
    return f"{socket.gethostname()} {os.getpid()} {_began(os.getpid()) or UNKNOWN}"


def is_gone(mark: str) -> bool:
    """Whether the process that gave this `own_mark` has ended; one of another machine, which we cannot see, never has.

    A zombie has ended: it holds nothing but a row of the process table until its parent reaps it.
    """
    host, pid, began = mark.split(" ")
    return host == socket.gethostname() and began != UNKNOWN and _began(int(pid)) != began


def starter() -> str | None:
    """The mark of who started this process, where that one gave it.

    It is taken out of the environment: what this process starts in turn would take it for its own.
    """
    return os.environ.pop(STARTED_BY, None)


def die_with_parent(started_by: str | None = None) -> None:
    """Ask the kernel for SIGKILL when the parent ends: a cancelled run must not leave an orphan that holds the GPU.

    started_by: the mark of who started this process, or the wrapper (`timeout`, `srun`) that is its parent. It may have
    ended before we could ask, in the seconds in which Python loads; then we end here.

    The kernel watches the *thread* that started us; Dagster's lives as long as its step, a launcher's as long as it.
    SIGTERM ends us too: Dagster handles it as it handles SIGINT, which a shell ignores in what it starts with `&`, and
    what is ignored is inherited.
    """
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent or (started_by and is_gone(started_by)):
        os.kill(os.getpid(), signal.SIGKILL)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def die_with_starter() -> None:
    """The same in a process of `multiprocessing`, which knows who started it; nothing in any other."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    die_with_parent()
    if not parent.is_alive():
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_launchers_parent(step: str | None) -> None:
    """End, and the launcher that is our parent, once its own parent has ended. step: that one's mark, where known.

    A launcher that has ended is our parent no more: that is then whoever takes in orphans, whom we must not end.
    """
    launcher = os.getppid()
    above = _parent_of(launcher)
    is_ours = step is None or step.split(" ")[1] in _all_above(launcher)

    def has_ended() -> bool:
        return is_gone(step) if step else _parent_of(launcher) != above

    def watch() -> None:
        while not has_ended():
            time.sleep(LAUNCHER_POLL_SECONDS)
        if is_ours and os.getppid() == launcher:
            os.kill(launcher, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    if has_ended():
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=watch, daemon=True).start()


def _all_above(pid: int) -> Iterator[str]:
    """The parent of a process, that one's parent, and so on."""
    while above := _parent_of(pid):
        yield above
        pid = int(above)


def _parent_of(pid: int) -> str | None:
    return stat[PARENT] if (stat := _stat(pid)) else None


def _began(pid: int) -> str | None:
    """Clock ticks from the machine's start at which a process began; None where there is none that works."""
    return stat[BEGAN] if (stat := _stat(pid)) and stat[STATE] not in "ZX" else None


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
