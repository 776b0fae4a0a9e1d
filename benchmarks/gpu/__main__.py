"""The whole arc on one GPU, timed: `make gpu-run`.

    python -m benchmarks.gpu [--profile mini_world_large] [--out FILE] [--on-cpu]

Checks the device and the engine, prints what the arc is estimated to take, runs `promptcot run` in PROMPTCOT_HOME, then
writes down from the lake what every table took and the score table: benchmarks/results/gpu_<device>_<date>.md, or FILE.
The same command goes on after a kill; what was finished keeps the time of the run that made it. --on-cpu: run without a
GPU, to try the script with a small profile.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from promptcot_assets.doctor import estimate
from promptcot_assets.lake import Commit
from promptcot_assets.reports.summary import summary
from promptcot_assets.settings import Settings, home, load_settings
from promptcot_assets.tables import open_lake

RESULTS = Path(__file__).parents[1] / "results"


def device(settings: Settings, on_cpu: bool) -> str:
    """What the arc runs on. Ends the script, saying what to do, where that is no GPU or the engine is not there."""
    import torch

    if on_cpu:
        return f"CPU {platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --on-cpu tries the script without one, with a profile small enough")
    if settings.engine.name == "vllm" and importlib.util.find_spec("vllm") is None:
        raise SystemExit("vLLM is not installed: pip install -e '.[gpu]'")
    own = torch.cuda.get_device_properties(0)
    return f"{own.name}, {own.total_memory / estimate.GIB:.0f} GiB, torch {torch.__version__}"


def table(commits: Sequence[Commit]) -> str:
    """Every table's rows, tokens, seconds and tokens a second in the order of the first commits."""
    groups: dict[str, list[Commit]] = defaultdict(list)
    for commit in commits:
        groups[commit.ref.asset].append(commit)
    lines = ["| table | commits | rows | tokens | seconds | tokens a second |", "|---|---:|---:|---:|---:|---:|"]
    for asset, own in groups.items():
        tokens = sum(one.provenance.tokens for one in own)
        seconds = sum(one.provenance.seconds for one in own)
        rate = f"{tokens / seconds:,.0f}" if tokens and seconds else ""
        rows = sum(one.ref.rows for one in own)
        lines.append(f"| {asset} | {len(own)} | {rows:,} | {tokens or 0:,} | {seconds:,.1f} | {rate} |")
    tokens, seconds = (sum(getattr(one.provenance, name) for one in commits) for name in ("tokens", "seconds"))
    lines.append(f"| in all | {len(commits)} | | {tokens:,} | {seconds:,.1f} | |")
    return "\n".join(lines)


def report(folder: Path, settings: Settings, machine: str, wall_s: float) -> str:
    """The results file of a finished arc."""
    lake = open_lake(folder)
    before = estimate.as_text(estimate.estimate(settings, Path("/nowhere")))
    made = f"`make gpu-run`, {date.today().isoformat()}, engine {settings.engine.name}, dtype {settings.engine.dtype}"
    return (
        f"# {settings.profile} on {machine}\n\n"
        f"{made}, seed {settings.seed}; the last run of the command took {wall_s / 60:,.1f} minutes. Tokens are those "
        "sampled, scored or trained on; seconds are a step's whole wall clock, loading and judging included.\n\n"
        f"{table(lake.lineage())}\n\n```\n{summary(lake, folder)}\n```\n\nEstimated beforehand:\n\n```\n{before}\n```\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="mini_world_large")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--on-cpu", action="store_true")
    given = parser.parse_args()
    settings = load_settings(given.profile)
    machine = device(settings, given.on_cpu)
    print(f"{settings.profile} on {machine}, in {home()}", flush=True)
    print(estimate.as_text(estimate.estimate(settings, home())), flush=True)
    began = time.monotonic()
    environment = os.environ | {"PROMPTCOT_PROFILE": given.profile}
    run = subprocess.run([sys.executable, "-m", "promptcot_assets.cli", "run"], env=environment, check=False)
    if run.returncode:
        return run.returncode
    name = re.sub(r"[^a-z0-9]+", "-", machine.split(",")[0].lower()).strip("-")
    out = given.out or RESULTS / f"gpu_{name}_{date.today().isoformat()}.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report(home(), settings, machine, time.monotonic() - began))
    print(f"\n{table(open_lake(home()).lineage())}\n\nwritten: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
