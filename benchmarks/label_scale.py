"""What it costs to keep every vote and program: the tables of labels at 1/SHARE of the paper's self-play prompts.

    python -m benchmarks.label_scale [SHARE [RESULTS]]    100; a Markdown file to write

48,113 prompts (method section 6) at full size, a quarter of them programs; eight votes of GPT-OSS's length of a trace,
five candidate programs and four written tests each, `labels.keep: all` and `none`. The engine is that of
`benchmarks.scale`; stages, sandbox, shards and commits are the product's. Each table is a process of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.scale import (
    BATCH,
    CHARACTERS_A_TOKEN,
    MAX_TRACE,
    PROBLEM_CHARACTERS,
    PROMPTS,
    SEED,
    TRACE_SCALE,
    FakeEngine,
    Measured,
    machine,
    newest,
    parts_of,
    spooled,
    stream,
    words,
)
from promptcot_assets.inference import Completion, SamplingParams
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.lake import Lake, Provenance, Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.lake.stream import batched
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Labels, Sampling
from promptcot_assets.stages.labels import cross_execution, labelling, votes
from promptcot_assets.stages.labels.teacher import ModelTeacher
from promptcot_assets.tables import SCHEMAS, open_lake

SAMPLING = Sampling(temperature=0.6, max_new_tokens=MAX_TRACE)


class FakeWriter(FakeEngine):
    """Also writes tests of the fake problems: double the input."""

    def _solution(self, prompt: str, params: SamplingParams, seed: int) -> Completion:
        written = super()._solution(prompt, params, seed)
        if "Write one test" not in prompt:
            return written
        given = seed % 97
        test = json.dumps({"input": str(given), "output": str(2 * given)})
        text = f"{written.text.rpartition('So it is')[0]}```json\n{test}\n```"
        return replace(written, text=text, tokens=len(text) // CHARACTERS_A_TOKEN, finish_reason="stop")


def teacher() -> ModelTeacher:
    return ModelTeacher(FakeWriter(TRACE_SCALE), SAMPLING, "fake")  # type: ignore[arg-type]


def problems(lake: Lake, share: int) -> list[Row]:
    """Committed once; every step reads them."""
    ref = lake.newest("problems", BATCH)
    if ref is None:
        rng = np.random.default_rng(SEED)
        rows = []
        for n in range(max(PROMPTS.values()) // share):
            text, domain = f"Find {words(rng, PROBLEM_CHARACTERS)} ?", "code" if n % 4 == 0 else "maths"
            rows.append(dict.fromkeys(SCHEMAS["problems"].names) | {
                "problem_id": content_id(domain, text, n), "raw_problem_id": str(n), "domain": domain,
                "concept_set_id": "c", "concepts": [], "level": "AIME", "rationale": "r", "problem": text,
                "problem_generator": "fake", "batch": BATCH,
            })  # fmt: skip
        schema = SCHEMAS["problems"]
        ref = lake.commit("problems", [pa.Table.from_pylist(rows, schema)], schema, Provenance("1", "", SEED), BATCH)
    return lake.table(ref, ["problem_id", "domain", "problem"]).to_pylist()


def math_votes(lake: Lake, share: int, settings: Labels) -> Iterator[Measured]:
    own = labelling.of_kind(problems(lake, share), "maths")
    yield from spooled(
        lake, "math_votes", BATCH, batched(own, 64),
        lambda shard: votes.math_votes(shard, teacher(), settings, SEED), newest(lake, "problems"),
    )  # fmt: skip


def math_answers(lake: Lake, share: int, settings: Labels) -> Iterator[Measured]:
    cast = newest(lake, "math_votes")
    shards = (batch.to_pylist() for batch in lake.batches(cast, list(votes.COUNTED), 512 * settings.votes))
    yield from spooled(lake, "math_answers", BATCH, shards, lambda shard: votes.math_answers(shard, settings), cast)


def proposed_tests(lake: Lake, share: int, settings: Labels) -> Iterator[Measured]:
    own = labelling.of_kind(problems(lake, share), "program")
    yield from spooled(
        lake, "proposed_tests", BATCH, batched(own, 64),
        lambda shard: cross_execution.proposed_tests(shard, teacher(), settings, SEED), newest(lake, "problems"),
    )  # fmt: skip


def candidate_programs(lake: Lake, share: int, settings: Labels) -> Iterator[Measured]:
    own = labelling.of_kind(problems(lake, share), "program")
    proposals = newest(lake, "proposed_tests")
    posed = labelling.beside(((row["problem_id"], row) for row in own), proposed_tests=stream(lake, proposals))
    with open_verifier(Sandbox(workers=2)) as verifier:
        yield from spooled(
            lake, "candidate_programs", BATCH, batched(posed, 64),
            lambda shard: cross_execution.candidate_programs(shard, teacher(), verifier, settings, SEED), proposals,
        )  # fmt: skip


def code_tests(lake: Lake, share: int, settings: Labels) -> Iterator[Measured]:
    proposals, programs = newest(lake, "proposed_tests"), newest(lake, "candidate_programs")
    groups = labelling.by_problem(stream(lake, proposals))
    own = ((problem_id, {"problem_id": problem_id, "proposed_tests": rows}) for problem_id, rows in groups)
    executed = labelling.beside(own, candidate_programs=stream(lake, programs))
    with open_verifier(Sandbox(workers=2)) as verifier:
        yield from spooled(
            lake, "code_tests", BATCH, batched(executed, 64),
            lambda shard: cross_execution.code_tests(shard, verifier, settings, SEED), proposals, programs,
        )  # fmt: skip


STEPS: dict[str, Callable[[Lake, int, Labels], Iterator[Measured]]] = {
    step.__name__: step for step in (math_votes, math_answers, proposed_tests, candidate_programs, code_tests)
}


def table(found: Sequence[tuple[str, Measured]], share: int) -> str:
    names = ["rows", "CPU s", "ms CPU a row", "peak GiB", "spool MB", "lake MB", "commit CPU s"]
    names += [f"rows x {share}", f"lake x {share}, GB", f"CPU x {share}, h"]
    lines = [f"| keep | table | {' | '.join(names)} |", "|---|---|" + "---:|" * len(names)]
    for keep, one in found:
        lines.append(
            f"| {keep} | {one.step} | {one.rows:,} | {one.cpu_s:.1f} | {one.cpu_s / max(1, one.rows) * 1e3:,.2f} "
            f"| {one.peak_gib:.2f} | {one.spool_bytes / 1e6:,.1f} | {one.lake_bytes / 1e6:,.1f} | {one.commit_s:.1f} "
            f"| {one.rows * share:,} | {one.lake_bytes * share / 1e9:,.2f} | {one.cpu_s * share / 3600:.1f} |"
        )
    return "\n".join(lines)


def main(share: int = 100, results: Path | None = None) -> None:
    found = []
    for keep in ("all", "none"):
        with tempfile.TemporaryDirectory() as folder:
            for step in STEPS:
                found += [(keep, one) for one in parts_of("benchmarks.label_scale", Path(folder), step, share, keep)]
    text = (
        f"# Votes and programs of the paper's self-play prompts at 1/{share}\n\n"
        f"`python -m benchmarks.label_scale {share}`, {date.today().isoformat()}, {machine()}.\n\n"
        f"{table(found, share)}\n"
    )
    print(text)
    if results:
        results.write_text(text)


if __name__ == "__main__":
    arguments: list[Any] = sys.argv[1:]
    if arguments[:1] == ["step"]:
        _, at, name, part, kept = arguments
        for one in STEPS[name](open_lake(Path(at)), int(part), Labels(keep=kept)):
            print(json.dumps(asdict(one)), flush=True)
    else:
        main(int(arguments[0]) if arguments else 100, Path(arguments[1]) if arguments[1:] else None)
