"""A synthesis batch of a million rows through parsing, problem sets and label bookkeeping: memory, time, kill -9.

    python -m benchmarks.million_rows [ROWS [KILLED]]          1,000,000 and 100,000

A fast fake model writes completions of about a thousand characters (a sixth repeated or edited, some cut off, without a
block, truncated or with a benchmark's words in them) and a fast fake teacher answers eight times; all the rest is the
product's: shards spooled, rows parsed, decontaminated, deduplicated, committed to a lake, labelled. Each
step is a process of its own. First ROWS rows pass undisturbed: peak memory of every step. Then KILLED rows pass twice,
once undisturbed and once with every step killed by SIGKILL half way and started again: the data versions must agree.
With KILLED = ROWS the first run is the undisturbed one.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from promptcot_assets.domains import Attempt
from promptcot_assets.domains.layout import generator_completion
from promptcot_assets.inference import Completion
from promptcot_assets.lake import Lake, Provenance, Ref, Row
from promptcot_assets.settings.profile import Deduplication, Labels, Synthesis
from promptcot_assets.stages.labels import votes
from promptcot_assets.stages.synthesis import problem_set, writing
from promptcot_assets.tables import SCHEMAS, open_lake

BATCH = "b1"
PER_SET, SETS_A_SHARD, LABELS_A_SHARD = 64, 64, 4096
WORDS = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=2 + i % 7)) for i in range(5000)]
ITEM = (
    "Every morning Aya goes for a walk of nine kilometers and stops at a coffee shop afterwards. How long is the walk?"
)


class FakeWriter:
    """A generator whose completion is a function of its seed."""

    def generate(self, prompts: Sequence[str], params: Any, seeds: Sequence[int]) -> list[list[Completion]]:
        return [[self._completion((seed ^ k) & (1 << 62) - 1) for k in range(PER_SET)] for seed in seeds]

    def _completion(self, seed: int) -> Completion:
        fate = random.Random(seed).random()
        rng = random.Random(seed % 5003 if fate < 0.15 else seed)  # one of the usual problems, or a new one
        words = rng.choices(WORDS, k=90)
        if fate < 0.1:
            words[seed % 90] = "edited"
        if fate > 0.995:
            words[40:40] = ITEM.split()
        problem = f"Find {' '.join(words)} {'and' if 0.98 < fate < 0.99 else '?'}"
        text = generator_completion(" ".join(words[:70]), problem) if not 0.97 < fate < 0.98 else problem
        return Completion(text, 200, "length" if 0.96 < fate < 0.97 else "stop", -200.0, seed)


class FakeTeacher:
    """A teacher that gives one of three answers, most often the first."""

    name = "fake"

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        return [
            [Attempt("", str(hash_ % 100 + (hash_ >> k & 3 == 0)), k) for k in range(n)]
            for hash_ in (int(row["problem_id"], 16) for row in problems)
        ]


# --- the steps ---


def write(lake: Lake, rows: int) -> None:
    """Write, parse, spool and commit `raw_problems`."""
    sets = [_concept_set(number) for number in range(rows // PER_SET)]
    shards = [sets[at : at + SETS_A_SHARD] for at in range(0, len(sets), SETS_A_SHARD)]
    settings, provenance = Synthesis(problems_per_set=PER_SET), Provenance("1", str(rows), 0)

    def made(shard: list[Row]) -> pa.Table:
        parsed = writing.synthesize(shard, FakeWriter(), settings, "fake", 0)
        return pa.Table.from_pylist(parsed, SCHEMAS["raw_problems"])

    tables = lake.spool("raw_problems", BATCH, provenance.fingerprint).map("write", shards, made)
    _commit(lake, "raw_problems", tables, provenance)


def _concept_set(number: int) -> Row:
    one = {"concept_set_id": f"{number:016x}", "domain": "maths", "concepts": ["a", "b"], "level": "AIME"}
    return one | {"batch": BATCH}


def clean(lake: Lake, rows: int) -> None:
    """Commit `problems` and `dropped_problems`."""
    raw, settings = _newest(lake, "raw_problems"), Deduplication()
    provenance = Provenance("1", settings.canonical(), 0, inputs=(raw,))
    items = [{"benchmark": "aime", "item_id": "1", "problem": ITEM}]
    scratch = lake.spool("problems", BATCH, provenance.fingerprint).folder
    before = problem_set.published(lake, [], settings)
    fates = problem_set.settle(lake.batches(raw, problem_set.READ), before, items, settings, scratch, workers=2)
    _commit(lake, "problems", problem_set.kept_rows(lake.batches(raw), fates.kept), provenance)
    _commit(lake, "dropped_problems", [fates.dropped], provenance)


def label(lake: Lake, rows: int) -> None:
    """Vote, spool and commit `math_answers`."""
    problems, settings = _newest(lake, "problems"), Labels()
    provenance = Provenance("1", settings.canonical(), 0, inputs=(problems,))

    def made(shard: pa.RecordBatch) -> pa.Table:
        return pa.Table.from_pylist(
            votes.math_answers(votes.math_votes(shard.to_pylist(), FakeTeacher(), settings, 0), settings),
            SCHEMAS["math_answers"],
        )

    columns = ["problem_id", "domain", "problem"]
    shards: Any = lake.batches(problems, columns, LABELS_A_SHARD)  # one after the other: not all in memory
    spool = lake.spool("math_answers", BATCH, provenance.fingerprint)
    tables = spool.map("vote", shards, made, key=lambda shard: f"{shard['problem_id'][0]} {len(shard)}")
    _commit(lake, "math_answers", tables, provenance)


STEPS = {"raw_problems": write, "problems": clean, "math_answers": label}


def _newest(lake: Lake, asset: str) -> Ref:
    ref = lake.newest(asset, BATCH)
    assert ref is not None
    return ref


def _commit(lake: Lake, asset: str, tables: Iterator[pa.Table] | list[pa.Table], provenance: Provenance) -> None:
    lake.commit(asset, tables, SCHEMAS[asset], provenance, BATCH)
    lake.spool(asset, BATCH, provenance.fingerprint).clear()


# --- the runs ---


def start(home: Path, step: str, rows: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.million_rows", "step", str(home), step, str(rows)])


def finish(step: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Wait for the step's end: its CPU seconds and its peak memory in GiB."""
    _, status, used = os.wait4(step.pid, 0)
    step.returncode = os.waitstatus_to_exitcode(status)
    if step.returncode:
        raise SystemExit(f"{step.args} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def undisturbed(home: Path, rows: int, show: bool) -> dict[str, float]:
    """Every step once: its CPU seconds."""
    seconds = {}
    for step in STEPS:
        seconds[step], peak = finish(start(home, step, rows))
        if show:
            made = _newest(open_lake(home), step).rows
            print(f"  {step:16s} {made:>9,} rows, at most {peak:.2f} GiB, {seconds[step]:.0f} CPU seconds", flush=True)
    return seconds


def killed(home: Path, rows: int, seconds: dict[str, float]) -> None:
    """Every step killed after half of its CPU seconds, then again to its end."""
    for step in STEPS:
        victim = start(home, step, rows)
        while victim.poll() is None and cpu_seconds(victim.pid) < seconds[step] / 2:
            time.sleep(0.01)
        victim.kill()
        died = victim.wait() == -signal.SIGKILL
        spooled = len(list((home / "spool" / step).glob("*/*/*.parquet")))
        print(f"  {step:16s} killed half way: {died}; finished shards that stay: {spooled}", flush=True)
        finish(start(home, step, rows))


def cpu_seconds(pid: int) -> float:
    """What the living process has used until now."""
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def versions(home: Path) -> dict[str, str]:
    lake = open_lake(home)
    return {asset: _newest(lake, asset).data_version for asset in (*STEPS, "dropped_problems")}


def main(rows: int = 1_000_000, few: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        calm, victim = Path(folder) / "calm", Path(folder) / "killed"
        print(f"{rows:,} rows, undisturbed:", flush=True)
        seconds = undisturbed(calm, rows, show=True)
        print(f"{few:,} rows:", flush=True)
        if few != rows:
            shutil.rmtree(calm)
            seconds = undisturbed(calm, few, show=False)
        killed(victim, few, seconds)
        print(f"  all data versions equal those of the undisturbed run: {versions(calm) == versions(victim)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["step"]:
        STEPS[sys.argv[3]](open_lake(Path(sys.argv[2])), int(sys.argv[4]))
    else:
        main(*map(int, sys.argv[1:]))
