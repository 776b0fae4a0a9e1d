"""A process that commits, for the tests of several processes and of kills.

lake_writer tables HOME COUNT ASSET:PARTITION...   COUNT commits to each, in turn; prints each ref
lake_writer twin HOME ROLE                         makes one checkpoint when told to by a line on stdin
lake_writer stop HOME ASSET STEP                   commits, and kills itself at the STEP-th file operation
lake_writer full HOME BYTES                        spools and commits where no file may have more than BYTES
lake_writer no_room HOME PLACE BYTES               does what writes at PLACE, likewise; prints the error
lake_writer copy HOME BYTES                        copies the model `student`; kills itself after BYTES
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from promptcot_assets.lake import Lake, LakeError, Provenance
from promptcot_assets.lake.derived import derived
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import PROBLEMS, problems, provenance, train


def commit_tables(home: Path, count: int, targets: list[str]) -> None:
    lake = open_lake(home)
    for i in range(count):
        for target in targets:
            asset, partition = target.split(":")
            rows = problems(1 + i % 3, f"{os.getpid()}-{i}-")
            print(
                lake.commit(asset, [rows], PROBLEMS, provenance(i, run_id=str(os.getpid())), partition).json(),
                flush=True,
            )


def make_checkpoint(home: Path, role: str) -> None:
    lake = open_lake(home)
    print(lake.work_folder(role, provenance().fingerprint), flush=True)
    sys.stdin.readline()
    ref = train(lake, role, b"the same weights", provenance())
    print(ref.data_version, lake.checkpoint(ref), flush=True)


def commit_and_stop(home: Path, asset: str, step: int) -> None:
    lake = open_lake(home)
    seen = 0

    def kill_at_step(event: str, args: tuple[object, ...]) -> None:
        nonlocal seen
        is_ours = bool(args) and str(home) in str(args[0])
        if is_ours and (event in ("open", "os.rename", "os.mkdir", "os.remove", "os.scandir", "os.listdir")):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill_at_step)
    lake.commit(asset, [problems(5, "new")], PROBLEMS, provenance(1))
    print("done", flush=True)


def commit_on_a_full_disk(home: Path, room: int) -> None:
    """A full disk as the kernel tells it of one file: RLIMIT_FSIZE, whose signal Python ignores."""
    lake, made = open_lake(home), provenance(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    shards = lake.spool("problems", "all", made.fingerprint).map("write", range(4), lambda n: problems(2000, f"{n}-"))
    lake.commit("problems", list(shards), PROBLEMS, made)


def write_without_room(home: Path, place: str, room: int) -> None:
    lake = Lake(home)
    model, rows = lake.newest("student"), lake.newest("problems")
    assert model and rows
    work = lake.work_folder("teacher", provenance(7).fingerprint)
    index = pa.table({"x": range(100_000)})
    places: dict[str, Callable[[], object]] = {
        "shard": lambda: list(lake.spool("s", "all", "f").map("write", [1], lambda n: problems(5000))),
        "commit": lambda: lake.commit("problems", [problems(5000)], PROBLEMS, provenance(8)),
        "log": lambda: lake.commit("problems", [problems(1)], PROBLEMS, Provenance("1", "x" * 50_000, 0)),
        "catalogue": lake.publish,
        "copy": lambda: lake.copy_checkpoint(model, work / "model"),
        "index": lambda: derived(home, "index", rows, lambda: index),
    }
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        places[place]()
    except LakeError as error:
        print(error, flush=True)


def copy_and_stop(home: Path, room: int) -> None:
    """Is killed by the kernel as soon as a file has more than so many bytes."""
    lake = Lake(home)
    model = lake.newest("student")
    assert model
    work = lake.work_folder("copied", provenance(7).fingerprint)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    lake.copy_checkpoint(model, work / "model")


if __name__ == "__main__":
    task, home, *rest = sys.argv[1:]
    if task == "tables":
        commit_tables(Path(home), int(rest[0]), rest[1:])
    elif task == "twin":
        make_checkpoint(Path(home), rest[0])
    elif task == "full":
        commit_on_a_full_disk(Path(home), int(rest[0]))
    elif task == "no_room":
        write_without_room(Path(home), rest[0], int(rest[1]))
    elif task == "copy":
        copy_and_stop(Path(home), int(rest[0]))
    else:
        commit_and_stop(Path(home), rest[0], int(rest[1]))
