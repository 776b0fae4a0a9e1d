"""Does the closed loop pay? Labels after relabelling, problems about failures, a generator that met its solver.

    python -m benchmarks.closed_loop [SEEDS] [FOLDER]      (default: 3 seeds, some 25 minutes each; goes on in FOLDER)

Every seed has a home of its own, of the profile benchmarks/closed_loop.yaml, in which the voters misread a quarter of
the problems: two thirds of their answers to one of these are the same wrong number. The world itself knows what is
right, so that

1. labels are counted: as voted, by whether the problem's rationale states the same, by how many votes agree, and before
   and after the student's own verified rollouts were counted with the votes (`self_play.relabel`), for several
   `relabel_withdraw`;
2. `promptcot improve` makes one round about what the student stably fails, in a copy of the home one of as many
   concept sets that are drawn like all others, and in a third one the same with the generator that was tuned on what
   the student sometimes solves (`tuning`, closed_loop_tuned.yaml); all students are asked the same benchmark items,
   paired by item, and of every round's problems it is said how often they were solved.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcot_assets.domains import mini_maths
from promptcot_assets.lake import Lake
from promptcot_assets.lake.disk import complete
from promptcot_assets.stages.analysis.difficulty import NORMAL_95, difficulty, wilson_interval
from promptcot_assets.stages.labels.votes import same_answer
from promptcot_assets.stages.statistics import mean_and_error, paired_difference, student
from promptcot_assets.stages.students.relabelling import relabelled
from promptcot_assets.tables import open_lake

PROFILE, TUNED = (Path(__file__).parent / name for name in ("closed_loop.yaml", "closed_loop_tuned.yaml"))
STUDENT, NEXT = "tiny", "tiny_1"
WITHDRAW = (0.0, 0.2, 0.35, 0.5)  # shares of ballots below which relabelling takes a label away
TARGET, NEAR = 0.5, 0.25  # pass rates, as closed_loop_tuned.yaml asks for
Row = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """How a round's problems come about. strength: of the focus; prepared: the leg that must be there before."""

    name: str
    strength: str
    profile: Path = PROFILE
    prepared: str | None = None


ORDINARY = Arm("like all others", "0.000001")
ARMS = (
    ORDINARY,
    Arm("about failures", "3"),
    Arm("by a generator that met its solver", "0.000001", TUNED, f"{STUDENT}: tuning"),
)


def environment_of(home: Path, seed: int, profile: Path) -> dict[str, str]:
    return os.environ | {"PROMPTCOT_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"),
                         "PROMPTCOT_SEED": str(seed), "PROMPTCOT_PROFILE": str(profile)}  # fmt: skip


def promptcot(home: Path, seed: int, profile: Path, *command: str) -> str:
    whole = [sys.executable, "-m", "promptcot_assets.cli", *command]
    done = subprocess.run(whole, env=environment_of(home, seed, profile), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def evaluate(home: Path, seed: int, profile: Path) -> None:
    """Ask the round's student the benchmark. `promptcot run` would teach the student before it the new batch too."""
    assets = "student_base,benchmark_generations,benchmark_verdicts"
    command = ["materialize", "-m", "promptcot_assets.definitions", "--select", assets, "--partition", NEXT]
    environment = environment_of(home, seed, profile)
    subprocess.run([sys.executable, "-m", "dagster", "asset", *command], env=environment, check=True)


def rows(lake: Lake, table: str, partition: str) -> list[Row]:
    ref = lake.newest(table, partition)
    return lake.table(ref).to_pylist() if ref else []


# ---- labels
def counted(name: str, right: Sequence[bool]) -> str:
    low, high = (100 * bound for bound in wilson_interval(sum(right), len(right)))
    return f"  {name:<52}{len(right):>6}{100 * sum(right) / len(right):>8.1f} %  [{low:.1f}, {high:.1f}]"


def label_lines(homes: Iterable[Path]) -> list[str]:
    """What is right among the labels of well-posed problems, all homes together."""
    groups = defaultdict[str, list[bool]](list)
    for home in homes:
        lake = open_lake(home)
        texts = {row["problem_id"]: row["problem"] for row in rows(lake, "problems", "first")}
        truth = {problem: solved for problem, text in texts.items() if (solved := mini_maths.solve(text))}
        stated = {row["problem_id"]: row["stated_agrees"] for row in rows(lake, "label_agreement", "first")}
        for label in rows(lake, "math_answers", "first"):
            if label["answer"] is None or label["problem_id"] not in truth:
                continue
            right = same_answer(label["answer"], str(truth[label["problem_id"]][0]))
            groups["as voted"].append(right)
            said = {
                True: "the rationale states the same",
                False: "the rationale states another",
                None: "it states none",
            }
            groups[said[stated.get(label["problem_id"])]].append(right)
            groups["four of five votes or more" if label["share"] >= 0.8 else "three of five votes"].append(right)
        voted, judged = rows(lake, "math_answers", "first"), rows(lake, "verdicts", STUDENT)
        for withdraw in WITHDRAW:
            for row in relabelled(voted, judged, withdraw):
                if row["problem_id"] not in truth:
                    continue
                known = str(truth[row["problem_id"]][0])
                if withdraw == WITHDRAW[0]:
                    groups["played on, before relabelling"].append(same_answer(row["before"], known))
                if row["after"] is not None:
                    groups[f"relabelled, withdrawn below {withdraw:.0%}"].append(same_answer(row["after"], known))
    lines = [f"  {'labels of well-posed problems':<52}{'labels':>6}{'right':>10}  95 % interval"]
    lines += [counted(name, groups[name]) for name in sorted(groups, key=list(groups).index)]
    return lines


# ---- a round
def passes(home: Path, partition: str, stage: str = "self_play") -> dict[str, list[bool]]:
    """Benchmark item -> whether each of the student's generations is right."""
    found = defaultdict[str, list[bool]](list)
    for row in rows(open_lake(home), "benchmark_verdicts", partition):
        if row["stage"] == stage and row["passed"] is not None:
            found[row["item_id"]].append(row["passed"])
    return dict(found)


def difference(first: dict[str, list[bool]], second: dict[str, list[bool]]) -> tuple[float, str]:
    common = sorted(first.keys() & second.keys())
    one = paired_difference([first[item] for item in common], [second[item] for item in common])
    return one.estimate, f"{100 * one.estimate:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"


def improved(home: Path, seed: int, arm: Arm) -> str:
    """A round in this home, its student evaluated; the round in one line."""
    if arm.prepared:
        promptcot(home, seed, arm.profile, "run", "--until", arm.prepared)
    said = json.loads(promptcot(home, seed, arm.profile, "improve", STUDENT, "--strength", arm.strength, "--json"))
    evaluate(home, seed, Path(said["profile"]))
    (one,) = said["rounds"]
    gain = one["gain"]
    return (
        f"gate {100 * gain['estimate']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}], "
        f"{one['tokens']:,} tokens"
    )


def solved(home: Path) -> list[float]:
    """How often each of the round's own problems was solved by the student before it learned from them."""
    lake = open_lake(home)
    own = {row["problem_id"] for row in rows(lake, "problems", NEXT)}
    measured = difficulty(rows(lake, "rollouts", NEXT), rows(lake, "verdicts", NEXT))
    return [row["pass_rate"] for row in measured if row["problem_id"] in own]


def labelled(home: Path) -> int:
    return sum(row["answer"] is not None for row in rows(open_lake(home), "math_answers", NEXT))


def near(rates: Iterable[float]) -> list[bool]:
    """Whether the problems are solved about as often as the tuned generator's should be."""
    return [abs(rate - TARGET) <= NEAR for rate in rates]


def shares_apart(first: Sequence[bool], second: Sequence[bool]) -> str:
    """The difference of two shares in points, with its 95 % interval by the normal approximation."""
    one, two = (sum(some) / len(some) for some in (first, second))
    half = NORMAL_95 * math.sqrt(one * (1 - one) / len(first) + two * (1 - two) / len(second))
    return f"{100 * (one - two):+.1f} [{100 * (one - two - half):+.1f}, {100 * (one - two + half):+.1f}]"


def over_seeds(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "of one seed alone"
    mean, error = mean_and_error(values)
    half = student(0.95, len(values) - 1) * error
    return f"over {len(values)} seeds {100 * mean:+.1f} [{100 * (mean - half):+.1f}, {100 * (mean + half):+.1f}]"


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else temporary)
        homes, gains, rates = list[Path](), defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        labels = defaultdict[str, int](int)
        for seed in range(seeds):
            home = folder / f"seed_{seed}"
            promptcot(home, seed, PROFILE, "run", "--until", f"{STUDENT}: evaluation")
            homes.append(home)
            print("\n".join(["", f"after seed {seed}", *label_lines(homes)]), flush=True)
            after = dict[str, dict[str, list[bool]]]()
            for arm in ARMS:
                own = folder / f"seed_{seed}_{arm.name.replace(' ', '_')}"
                if not own.exists():
                    with complete(own) as part:
                        shutil.copytree(home, part)
                line = improved(own, seed, arm)
                after[arm.name] = passes(own, NEXT)
                gain, told = difference(after[arm.name], passes(home, STUDENT))
                gains[arm.name].append(gain)
                print(f"  a round of problems {arm.name}: {told} points on the benchmark; {line}", flush=True)
                rates[arm.name] += (own_rates := solved(own))
                labels[arm.name] += labelled(own)
                print(counted("  of those that are played on, solved near the target", near(own_rates)), flush=True)
            for arm in ARMS[1:]:
                between, told = difference(after[arm.name], after[ORDINARY.name])
                gains[f"{arm.name} minus {ORDINARY.name}"].append(between)
                print(f"  {arm.name} minus {ORDINARY.name}: {told}", flush=True)
        print(f"\nIn all; solved between {TARGET - NEAR:.2f} and {TARGET + NEAR:.2f} of the time, of those played on")
        for arm in ARMS:
            print(counted(arm.name, near(rates[arm.name])), f" {labels[arm.name]:,} labels", flush=True)
        for arm in ARMS[1:]:
            more = shares_apart(near(rates[arm.name]), near(rates[ORDINARY.name]))
            print(f"  {arm.name} minus {ORDINARY.name}: {more} points")
        print("On the benchmark")
        print(*(f"  {name}: {over_seeds(values)} points" for name, values in gains.items()), sep="\n")


if __name__ == "__main__":
    main()
