"""What an online trainer samples, as files that can be read while it runs: one a generation and process.

A file is named after the optimiser step that its rollouts were sampled in, and is written whole or not at all. A
resumed run takes away those of the steps that it does again: none is lost and none is there twice. Columns:

    step, part      optimiser steps that the weights had seen; which of the step's generations, from 0
    place           of the generation, over all processes; a prompt's group are `group` neighbours
    attempt         0..group-1
    prompt, completion, tokens, finish_reason   what was sampled; `stop` or `length`
    reward          what the judge gave; null where it failed
    judged          JSON of all that the judge said
    learned         whether it was trained on: of a group that was replaced nothing is
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.child import Spec

NAME = re.compile(r"step_(\d{8})_(\d{4})_(\d{4})\.parquet")


class Shards:
    """The files of one process's rollouts. Without a folder nothing is written."""

    def __init__(self, folder: Path | None, process: int = 0) -> None:
        self._folder, self._process = folder, process
        self._last = (-1, -1)

    def write(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """The rollouts of one generation in step `step`, `part` filled in; synced, then renamed into place."""
        if self._folder is None or not rows:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        part = self._last[1] + 1 if step == self._last[0] else 0
        self._last = (step, part)
        path = self._folder / f"step_{step:08d}_{part:04d}_{self._process:04d}.parquet"
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        kinds = {"step": pa.int64(), "part": pa.int64(), "place": pa.int64(), "attempt": pa.int64(),
                 "prompt": pa.string(), "completion": pa.string(), "tokens": pa.int64(), "finish_reason": pa.string(),
                 "reward": pa.float64(), "judged": pa.string(), "learned": pa.bool_()}  # fmt: skip
        whole = [{**row, "step": step, "part": part} for row in rows]
        columns = {name: pa.array([row[name] for row in whole], kind) for name, kind in kinds.items()}
        pq.write_table(pa.table(columns), draft, compression="zstd")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(path)


def opened(spec: Spec, process: int) -> Shards:
    """The files of a run that begins, or goes on from its last checkpoint. process: this one's number."""
    from training.folders import by_the_first, last_checkpoint

    done = last_checkpoint(spec.checkpoints)
    by_the_first(lambda: forget_from(spec.rollouts, int(done.name.split("-")[1]) if done else 0))
    return Shards(spec.rollouts, process)


class Sampled:
    """The parts of one step's generation, until it is settled which of their groups are trained on."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._parts: list[tuple[int, list[dict[str, Any]]]] = []
        self.rewards: list[float] = []  # of the last part

    def part(self, step: int, rows: list[dict[str, Any]]) -> None:
        self._parts.append((step, rows))

    def settle(self, learned: Sequence[set[int]], group: int) -> None:
        """Write all parts. learned: of each, the groups (this process's) that are trained on."""
        for (step, rows), groups in zip(self._parts, learned, strict=True):
            self._shards.write(step, [row | {"learned": at // group in groups} for at, row in enumerate(rows)])
        self._parts.clear()


def forget_from(folder: Path | None, step: int) -> None:
    """Take away the rollouts of steps that are done again, and what a kill left half written."""
    if folder is None or not folder.is_dir():
        return
    for path in folder.iterdir():
        match = NAME.fullmatch(path.name)
        if match is None or int(match[1]) >= step:
            path.unlink()


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """All rollouts in the order in which they were sampled, `judged` parsed; a file at a time in memory."""
    import pyarrow.parquet as pq

    groups: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := NAME.fullmatch(path.name):
            groups.setdefault((match[1], match[2]), []).append(path)
    for paths in groups.values():  # one generation, of all processes
        rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
        for row in sorted(rows, key=lambda row: row["place"]):
            yield row | {"judged": json.loads(row["judged"])}


def judged_rows(
    sampled: Iterable[tuple[str, str, Sequence[int], Mapping[str, Any]]], ends: set[int], first: int = 0, group: int = 1
) -> list[dict[str, Any]]:
    """A generation's rows for `Shards` from prompts, completions, their tokens and what the judge said of each.

    first: the place of this process's first rollout; group: completions that each prompt has, neighbours all.
    """
    return [
        {"place": first + at, "attempt": (first + at) % group, "prompt": prompt, "completion": completion,
         "tokens": len(ids), "finish_reason": ended(ids, ends), "reward": said["reward"], "judged": json.dumps(said),
         "learned": True}
        for at, (prompt, completion, ids, said) in enumerate(sampled)
    ]  # fmt: skip


def end_tokens(base: Path, tokenizer: Any) -> set[int]:
    """The tokens that end a completion: the tokenizer's, and those that the model's generation settings name."""
    from transformers import GenerationConfig

    try:
        named = GenerationConfig.from_pretrained(base).eos_token_id
    except OSError:  # a folder without generation settings
        named = None
    more = named if isinstance(named, list) else [named]
    return {one for one in (tokenizer.eos_token_id, *more) if one is not None}


def ended(ids: Sequence[int], ends: set[int]) -> str:
    """Why sampling ended: `stop` where the last token is one of those that end."""
    return "stop" if ids and ids[-1] in ends else "length"
