"""The paper's volumes in small: the large tables from synthesis to evaluation at 1/SHARE of their rows.

    python -m benchmarks.scale [SHARE [RESULTS]]          100; a Markdown file to write

A fake engine writes text of the paper's lengths as fast as it can; all the rest is the product's: stages, sandbox,
shards, commits, catalogue. Each step is a process of its own. Printed are rows, seconds of CPU (wall clock only beside
it), peak memory, bytes and files of the spool and of the lake, CPU seconds of the commit and of publishing the
catalogue; and what each comes to at the full volume if it grows as the rows do. At full size it is 416,000 concept sets
x 64 problems, 4,766,890 traces of 7,351 tokens, 48,113 and 11,209 prompts x 8 rollouts of up to 81,920 tokens (method
sections 4, 6 and 7), and one student's three stages on the six benchmarks (section 8). A token is taken for four
characters.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from promptcot_assets.domains.layout import generator_completion
from promptcot_assets.inference import Completion, SamplingParams, Usage
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.lake import Lake, Provenance, Ref, Row, RowStream
from promptcot_assets.lake.stream import batched
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Deduplication, Distillation, Sampling, SelfPlay, Synthesis
from promptcot_assets.stages.asking import ask, completion_columns, solve_prompt
from promptcot_assets.stages.labels.teacher import ModelTeacher
from promptcot_assets.stages.students import distillation, self_play
from promptcot_assets.stages.synthesis import problem_set, writing
from promptcot_assets.tables import SCHEMAS, open_lake

CONCEPT_SETS, PER_SET = 416_000, 64
TRACES, TRACE_TOKENS, CODE_SHARE = 4_766_890, 7_351, 1_188_505 / 4_766_890
PROMPTS, ROLLOUTS = {"4b": 48_113, "30b": 11_209}, 8
MAX_TRACE, TRACE_SCALE = 16_384, 8_650  # lengths are exponential and cut at the limit: then the mean is TRACE_TOKENS
MAX_ROLLOUT, ROLLOUT_SCALE = 81_920, 24_000  # nobody published a mean: an assumption, 23,200 after the cut
ATTEMPTS = 3 * (3 * 30 * 16 + 279 + 131 + 408 * 8)  # base, sft and self_play on AIME, HMMT, LiveCodeBench, Codeforces
CHARACTERS_A_TOKEN = 4
RATIONALE_CHARACTERS, PROBLEM_CHARACTERS = 3_000, 700
BATCH, SEED = "b1", 0
COMMITS = (40, 400)
WORDS = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=2 + i % 9)) for i in range(20_000)]
TESTS = json.dumps([{"stdin": str(n), "expected": str(2 * n)} for n in (1, 7, 30)])


class FakeEngine:
    """Text that is a function of its seed: a problem, or a solution whose answer is right in 8 of 10.

    Implements `generate` of `InferenceEngine`, which is all that these stages ask for.
    """

    parallel_calls = 1

    def __init__(self, scale: int | None = None) -> None:
        self.usage, self._scale = Usage(), scale

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        assert seeds is not None
        write = self._problem if self._scale is None else self._solution
        return [
            [write(prompt, params, (seed + k * 0x9E3779B97F4A7C15) % (1 << 62)) for k in range(params.n)]
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def _problem(self, prompt: str, params: SamplingParams, seed: int) -> Completion:
        rng = np.random.default_rng(seed % 1_000_003 if seed % 7 == 0 else seed)  # a seventh are near each other
        problem = f"Find {words(rng, PROBLEM_CHARACTERS)} ?"
        text = generator_completion(words(rng, RATIONALE_CHARACTERS), problem)
        return Completion(text, len(text) // CHARACTERS_A_TOKEN, "stop", -200.0, seed)

    def _solution(self, prompt: str, params: SamplingParams, seed: int) -> Completion:
        rng = np.random.default_rng(seed)
        tokens = int(min(rng.exponential(self._scale or 1) + 50, params.max_new_tokens))
        right = seed % 10 < 8
        answer = reference(prompt) if right else "-1"
        program = f"```python\nprint({2 if right else 3} * int(input()))\n```"
        ending = program if "python" in prompt else rf"\boxed{{{answer}}}"
        text = f"<think>\n{words(rng, tokens * CHARACTERS_A_TOKEN)}\n</think>\nSo it is {ending}."
        return Completion(text, tokens, "stop" if tokens < params.max_new_tokens else "length", -float(tokens), seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def words(rng: np.random.Generator, characters: int) -> str:
    """Words of six letters on average, about as compressible as prose."""
    return " ".join([WORDS[i] for i in rng.zipf(1.2, characters // 7).clip(max=len(WORDS)) - 1])


def reference(prompt: str) -> str:
    return str(zlib.crc32(prompt.encode()) % 1000)


# --- the steps: each computes its shards, then commits what lies in the spool ---


@dataclass
class Measured:
    """What one table cost. Seconds are CPU seconds, but for wall_s; the commit's hold what makes rows as it goes."""

    step: str
    rows: int = 0
    shards: int = 0
    spool_bytes: int = 0
    lake_bytes: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    commit_s: float = 0.0
    publish_s: float = 0.0
    peak_gib: float = 0.0


def spooled(
    lake: Lake, asset: str, partition: str, items: Any, made: Callable[[Any], list[Row]], *inputs: Ref
) -> Iterator[Measured]:
    """Shards of `made(item)`, then their commit, measured."""
    provenance = Provenance("1", f"{asset} {partition}", SEED, inputs=inputs)
    spool = lake.spool(asset, partition, provenance.fingerprint)
    schema = SCHEMAS[asset]
    stream = spool.collect("work", items, lambda item: pa.Table.from_pylist(made(item), schema))
    files = list(spool.folder.rglob("*.parquet"))
    measured = Measured(asset, len(stream), len(files), sum(file.stat().st_size for file in files))
    yield from committed(lake, asset, partition, stream.batches(), provenance, measured)
    spool.clear()


def committed(
    lake: Lake, asset: str, partition: str, batches: Any, provenance: Provenance, measured: Measured
) -> Iterator[Measured]:
    before = size(lake.home / "lake" / asset)
    began = time.process_time()
    ref = lake.commit(asset, batches, SCHEMAS[asset], provenance, partition)
    whole = time.process_time() - began
    began = time.process_time()
    lake.publish()  # which is the last part of a commit: once more, to time it apart
    measured.publish_s = time.process_time() - began
    measured.commit_s = whole - measured.publish_s
    measured.rows, measured.lake_bytes = ref.rows, size(lake.home / "lake" / asset) - before
    yield measured


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def raw_problems(lake: Lake, share: int) -> Iterator[Measured]:
    settings = Synthesis(problems_per_set=PER_SET)
    sets = [
        {"concept_set_id": f"{n:016x}", "domain": "code" if n % 4 == 0 else "maths", "concepts": list("abcde"),
         "level": "AIME", "batch": BATCH}
        for n in range(CONCEPT_SETS // share)
    ]  # fmt: skip
    generator: Any = FakeEngine()
    yield from spooled(
        lake, "raw_problems", BATCH, batched(sets, settings.shard_rows // 8),
        lambda shard: writing.synthesize(shard, generator, settings, "fake", SEED),
    )  # fmt: skip


def problems(lake: Lake, share: int) -> Iterator[Measured]:
    raw, settings = newest(lake, "raw_problems"), Deduplication()
    items = [{"benchmark": "aime", "item_id": "1", "problem": " ".join(WORDS[:40])}]
    provenance = Provenance("1", settings.canonical(), SEED, inputs=(raw,))
    scratch = lake.spool("problems", BATCH, provenance.fingerprint).folder
    before = problem_set.published(lake, [], settings)
    fates = problem_set.settle(lake.batches(raw, problem_set.READ), before, items, settings, scratch, workers=2)
    kept = problem_set.kept_rows(lake.batches(raw), fates.kept)
    yield from committed(lake, "problems", BATCH, kept, provenance, Measured("problems"))


def teacher_traces(lake: Lake, share: int) -> Iterator[Measured]:
    settings = Distillation()
    teacher = ModelTeacher(FakeEngine(TRACE_SCALE), Sampling(max_new_tokens=MAX_TRACE), "fake")  # type: ignore[arg-type]
    with open_verifier(Sandbox(workers=2)) as verifier:
        yield from spooled(
            lake, "teacher_traces", BATCH, batched(labelled(lake, TRACES // share), settings.shard_rows),
            lambda shard: distillation.teacher_traces(shard, teacher, verifier, settings, SEED),
            newest(lake, "problems"),
        )  # fmt: skip


def stream(lake: Lake, ref: Ref) -> RowStream:
    return RowStream(lambda: lake.batches(ref), ref.rows)


def sft_examples(lake: Lake, share: int) -> Iterator[Measured]:
    """As the asset does it."""
    traces = newest(lake, "teacher_traces")
    rows = distillation.sft_examples(stream(lake, traces), [], 0.0)
    provenance = Provenance("1", "", SEED, inputs=(traces,))
    tables = (pa.Table.from_pylist(some, SCHEMAS["sft_examples"]) for some in batched(rows, 2048))
    yield from committed(lake, "sft_examples", BATCH, tables, provenance, Measured("sft_examples"))


def rollouts(lake: Lake, share: int) -> Iterator[Measured]:
    settings, student = SelfPlay(), FakeEngine(ROLLOUT_SCALE)
    for name, count in PROMPTS.items():
        yield from spooled(
            lake, "rollouts", name, batched(labelled(lake, count // share), 16),
            lambda shard: self_play.rollouts(shard, student, settings, "fake", SEED),  # type: ignore[arg-type]
        )  # fmt: skip


def verdicts(lake: Lake, share: int) -> Iterator[Measured]:
    known = {row["problem_id"]: row for row in labelled(lake, max(PROMPTS.values()) // share)}
    with open_verifier(Sandbox(workers=2)) as verifier:
        for name in PROMPTS:
            drawn = newest(lake, "rollouts", name)
            yield from spooled(
                lake, "verdicts", name, (batch.to_pylist() for batch in lake.batches(drawn, rows=128)),
                lambda shard: self_play.verdicts(shard, known, verifier), drawn,
            )  # fmt: skip


def preference_pairs(lake: Lake, share: int) -> Iterator[Measured]:
    """As the asset does it."""
    settings = SelfPlay(max_pass_rate=1.0)  # the fake student passes 8 of 10
    for name in PROMPTS:
        drawn, judged = newest(lake, "rollouts", name), newest(lake, "verdicts", name)
        rows = self_play.preference_pairs(stream(lake, drawn), stream(lake, judged), settings, SEED)
        provenance = Provenance("1", name, SEED, inputs=(drawn, judged))
        tables = (pa.Table.from_pylist(some, SCHEMAS["preference_pairs"]) for some in batched(rows, 512))
        yield from committed(lake, "preference_pairs", name, tables, provenance, Measured("preference_pairs"))


def benchmark_generations(lake: Lake, share: int) -> Iterator[Measured]:
    items = [row | {"item_id": row["problem_id"]} for row in labelled(lake, max(1, ATTEMPTS // 16 // share))]
    model, sampling = FakeEngine(ROLLOUT_SCALE), Sampling(temperature=0.6, top_p=0.95, max_new_tokens=MAX_ROLLOUT)

    def generated(shard: list[Row]) -> list[Row]:
        asked = ask(shard, model, sampling, 16, lambda row: int(row["problem_id"], 16) % (1 << 60))  # type: ignore[arg-type]
        return [
            {"generation_id": f"{row['item_id']}{k}", "item_id": row["item_id"], "benchmark": "aime24",
             "domain": row["domain"], "stage": "sft"} | completion_columns(completion, k, "fake")
            for row, completions in asked for k, completion in enumerate(completions)
        ]  # fmt: skip

    yield from spooled(lake, "benchmark_generations", BATCH, batched(items, 8), generated)


STEPS: dict[str, Callable[[Lake, int], Iterator[Measured]]] = {
    step.__name__: step
    for step in (raw_problems, problems, teacher_traces, sft_examples, rollouts, verdicts, preference_pairs,
                 benchmark_generations)
}  # fmt: skip


def labelled(lake: Lake, count: int) -> list[Row]:
    """The first problems, with the label that the fake engine's right answers have."""
    rows: list[Row] = []
    for batch in lake.batches(newest(lake, "problems"), ["problem_id", "domain", "problem"]):
        rows += batch.to_pylist()
        if len(rows) >= count:
            break
    assert len(rows) >= count, f"only {len(rows)} of {count} problems: the batch is too small for this share"
    return [row | _label(row) for row in rows[:count]]


def _label(row: Row) -> Row:
    if row["domain"] == "code":
        return {"answer": None, "tests": TESTS}
    return {"answer": reference(solve_prompt(row)), "tests": None}


def newest(lake: Lake, asset: str, partition: str = BATCH) -> Ref:
    ref = lake.newest(asset, partition)
    assert ref is not None
    return ref


# --- the catalogue, by the number of commits: a batch of synthesis is a dozen, a student twenty ---


class Unpublished(Lake):
    """A lake whose catalogue is written when asked for."""

    def publish(self) -> None:
        """See `growth`."""


def growth(home: Path) -> list[str]:
    """Rows of a table: commits, CPU seconds of one commit of a single row and of publishing, size of the catalogue."""
    lake, lines = Unpublished(home), []
    schema, done = SCHEMAS["sft_examples"], 0
    content = pa.Table.from_pylist([{name: "" if name != "trace_id" else None for name in schema.names}], schema)
    for commits in COMMITS:
        began = time.process_time()
        for number in range(done, commits):
            lake.commit(f"table_{number % 40}", [content], schema, Provenance("1", "", number), f"b{number // 40}")
        each = (time.process_time() - began) / (commits - done)
        done, began = commits, time.process_time()
        open_lake(home).publish()
        published = time.process_time() - began
        size_mb = (home / "catalog.duckdb").stat().st_size / 1e6
        lines.append(f"| {commits:,} | {each:.3f} | {published:.2f} | {size_mb:.1f} |")
    return lines


# --- the runs ---


def parts_of(module: str, home: Path, step: str, *more: object) -> list[Measured]:
    """What `python -m MODULE step ...` measured, a partition each, with CPU and memory of its process in the first."""
    command = [sys.executable, "-m", module, "step", str(home), step, *map(str, more)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{step} failed")
    parts = [Measured(**json.loads(line)) for line in said.splitlines()]
    parts[0].cpu_s, parts[0].peak_gib = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    return parts


def measured_step(home: Path, step: str, share: int) -> Measured:
    """The step in a process of its own, its partitions added up."""
    began = time.perf_counter()
    whole, *others = parts_of("benchmarks.scale", home, step, share)
    for part in others:
        for name in ("rows", "shards", "spool_bytes", "lake_bytes", "commit_s"):
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        whole.publish_s = max(whole.publish_s, part.publish_s)
    whole.wall_s = time.perf_counter() - began
    return whole


def table(found: Sequence[Measured], share: int) -> str:
    measures = [
        "rows",
        "CPU s",
        "µs CPU a row",
        "peak GiB",
        "spool MB",
        "shards",
        "lake MB",
        "commit CPU s",
        "publish CPU s",
    ]
    measures += [f"rows x {share}", f"lake x {share}, GB", f"CPU x {share}, h"]
    lines = [f"| table | {' | '.join(measures)} |", "|---|" + "---:|" * len(measures)]
    for one in found:
        lines.append(
            f"| {one.step} | {one.rows:,} | {one.cpu_s:.0f} | {one.cpu_s / max(1, one.rows) * 1e6:,.0f} "
            f"| {one.peak_gib:.2f} | {one.spool_bytes / 1e6:,.0f} | {one.shards:,} | {one.lake_bytes / 1e6:,.0f} "
            f"| {one.commit_s:.1f} | {one.publish_s:.2f} | {one.rows * share:,} | {one.lake_bytes * share / 1e9:,.0f} "
            f"| {one.cpu_s * share / 3600:.1f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    named = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = named[0].split(":", 1)[1].strip() if named else platform.machine()
    load = os.getloadavg()[0]
    return f"{model}, {len(os.sched_getaffinity(0))} cores; load at the end {load:.1f}"


def main(share: int = 100, results: Path | None = None) -> None:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            found.append(measured_step(Path(folder), step, share))
            print(f"{step}: {found[-1]}", file=sys.stderr, flush=True)
        kept, catalogue = size(Path(folder) / "lake"), (Path(folder) / "catalog.duckdb").stat().st_size
        total = f"the lake {kept / 1e9:.2f} GB, the catalogue {catalogue / 1e6:.1f} MB"
    with tempfile.TemporaryDirectory() as folder:
        grown = "\n".join(growth(Path(folder)))
    text = (
        f"# The paper's volumes at 1/{share}\n\n`python -m benchmarks.scale {share}`, {date.today().isoformat()}, "
        f"{machine()}.\n\n{table(found, share)}\n\nIn all {total}; {sum(one.cpu_s for one in found):,.0f} CPU seconds, "
        f"{sum(one.wall_s for one in found):,.0f} of wall clock.\n\n"
        "| commits in 40 tables | CPU s a commit of one row | CPU s to publish the catalogue | catalogue MB |\n"
        f"|---:|---:|---:|---:|\n{grown}\n"
    )
    print(text)
    if results:
        results.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["step"]:
        for part in STEPS[sys.argv[3]](open_lake(Path(sys.argv[2])), int(sys.argv[4])):
            print(json.dumps(asdict(part)), flush=True)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
