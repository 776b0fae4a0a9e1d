"""`promptcot improve`: from what a student stably fails to new problems to a proven gain, round by round.

Round n is the batch `STUDENT_n`, drawn towards the concepts that the student before stably fails on held-out problems
(`synthesis.focus`), and the student `STUDENT_n`, which continues that one: rollouts, verdicts, training and the
regression gate, all ordinary assets and partitions. They stand in a profile of their own in the home, so the same
command goes on after a kill, and `promptcot run`, `trace` and the UI know them with that profile.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from promptcot_assets.assets.partitions import BATCHES, FIRST_BATCH
from promptcot_assets.automation.arc import ArcError, Leg, LoadDefinitions, legs, run_legs
from promptcot_assets.automation.home import open_home
from promptcot_assets.lake import Lake
from promptcot_assets.lake.disk import complete
from promptcot_assets.lineage.history import History
from promptcot_assets.settings import Settings, load_settings
from promptcot_assets.settings.loading import lock_folder
from promptcot_assets.stages.statistics import Interval
from promptcot_assets.stages.students.self_play import gate_difference
from promptcot_assets.tables import open_lake

GATE, LOCK = "self_play_gate", "revisions.lock"
STEPS = ("SFT", "self-play")  # legs of a student that continues another


@dataclass(frozen=True)
class Round:
    """One round. gain: the paired difference on held-out problems, after minus before; spent: of batch and student."""

    student: str
    batch: str
    gain: Interval
    tokens: int
    seconds: float
    money: float | None  # what its hours cost; null: the profile has no price of an hour
    currency: str

    @property
    def significant(self) -> bool:
        return self.gain.low > 0

    @property
    def points(self) -> float:
        return 100 * self.gain.estimate


@dataclass
class Improved:
    """profile: the file that has the rounds' students and batches; stopped: why there is no further round."""

    student: str
    profile: Path
    rounds: list[Round] = field(default_factory=list)
    stopped: str = ""


def improve(
    profile: str,
    home: Path,
    definitions: LoadDefinitions,
    student: str,
    rounds: int,
    budget: int | None = None,
    strength: float = 3.0,
    say: Callable[[str], None] = lambda _: None,
) -> Improved:
    """Run up to `rounds` rounds after `student`; stops where a round has no significant gain, or `budget` is spent.

    budget: tokens generated, scored and trained on, of all rounds together; looked at before every leg. The process's
    PROMPTCOT_PROFILE is the profile of the rounds afterwards.

    Raises: LakeError where there is no lake; ArcError for a student that the profile lacks or that was asked no
    held-out problems, and when a leg fails.
    """
    settings = load_settings(profile)
    _check_student(profile, settings, student)
    History(home)  # raises where there is no lake; opening one makes it
    lake = open_lake(home)
    if not _gate(lake, student):
        raise ArcError(
            f"{student} was asked no held-out problems: set self_play.held_out_share above 0 in the profile and run "
            f"`promptcot run` up to its self-play first"
        )
    path = _with_rounds(profile, settings, home, student, rounds, strength)
    found = Improved(student, path)
    os.environ["PROMPTCOT_PROFILE"] = str(path)  # which the lanes' processes inherit
    own = load_settings(str(path))
    with open_home(home, own) as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [_named(student, n) for n in range(1, rounds + 1)])
    plan = {leg.name: leg for leg in legs(own)}
    for number in range(1, rounds + 1):
        name = _named(student, number)
        ahead = [replace(plan[f"batch {FIRST_BATCH}"], name=f"batch {name}", partition=name),
                 *(plan[f"{name}: {step}"] for step in STEPS)]  # fmt: skip
        for leg in ahead:
            if budget is not None and (spent := _tokens(lake, student, number)) >= budget:
                found.stopped = f"the budget of {budget:,} tokens is spent ({spent:,}) before {leg.name}"
                return found
            run_legs([_alone(leg)], own, home, definitions)
        gain = gate_difference(_gate(lake, name))
        if gain is None:
            found.stopped = f"{name} was asked no held-out problems"
            return found
        found.rounds.append(_round(lake, own, name, gain))
        say(_line(found.rounds[-1]))
        if not found.rounds[-1].significant:
            found.stopped = f"the gain of {name} is not significant"
            return found
    found.stopped = f"{rounds} rounds are done"
    return found


def _named(student: str, number: int) -> str:
    return f"{student}_{number}"


def _check_student(profile: str, settings: Settings, student: str) -> None:
    if student not in settings.students:
        raise ArcError(f"no student {student!r} in profile {profile}; it has {', '.join(settings.students)}")
    if not settings.students[student].plays:
        raise ArcError(f"{student} does not play (plays: false), so no round can continue it")


def _with_rounds(profile: str, settings: Settings, home: Path, student: str, rounds: int, strength: float) -> Path:
    """The profile of the rounds, written into the home: what it extends, and a student and a focus a round."""
    folder = home / "improve"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{student}.yaml"
    if path.resolve() == Path(profile).resolve():
        content = yaml.safe_load(path.read_text())
    else:
        content = {"extends": str(Path(profile).resolve()) if profile.endswith((".yaml", ".yml")) else profile}
    students, focus = content.setdefault("students", {}), {}
    for number in range(1, rounds + 1):
        name, before = _named(student, number), _named(student, number - 1) if number > 1 else student
        if name in settings.students and path.resolve() != Path(profile).resolve():
            raise ArcError(f"profile {profile} has a student {name!r} already, which a round would be named; rename it")
        students[name] = settings.students[student].model_dump(mode="json", exclude_defaults=True) | {
            "continues": before
        }
        focus[name] = {"student": before, "strength": strength}
    content["synthesis"] = {"focus": focus}
    with complete(path) as part:
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    if (
        (lock := lock_folder(profile) / LOCK).is_file()
        and profile.endswith((".yaml", ".yml"))
        and lock.parent != folder
    ):
        shutil.copyfile(lock, folder / LOCK)
    return path


def _alone(leg: Leg) -> Leg:
    return replace(leg, after=())


def _gate(lake: Lake, student: str) -> list[dict[str, Any]]:
    ref = lake.newest(GATE, student)
    return lake.table(ref).to_pylist() if ref else []


def _spent(lake: Lake, partitions: Iterable[str]) -> tuple[int, float]:
    """Tokens and seconds of the newest commits of these batches and students."""
    names = set(partitions)
    made = [lake.commit_of(ref).provenance for asset in lake.assets() for ref in lake.current(asset)
            if ref.partition in names]  # fmt: skip
    return sum(one.tokens for one in made), sum(one.seconds for one in made)


def _tokens(lake: Lake, student: str, rounds: int) -> int:
    return _spent(lake, (_named(student, n) for n in range(1, rounds + 1)))[0]


def _round(lake: Lake, settings: Settings, name: str, gain: Interval) -> Round:
    tokens, seconds = _spent(lake, [name])
    hour = settings.prices.machine_hour
    money = hour * seconds / 3600 if hour else None
    return Round(name, name, gain, tokens, seconds, money, settings.prices.currency)


def _line(one: Round) -> str:
    word = "significant" if one.significant else "not significant"
    return (
        f"{one.student}: {one.points:+.1f} points [{100 * one.gain.low:+.1f}, {100 * one.gain.high:+.1f}] on "
        f"{one.gain.questions:,} held-out problems, {word}; {_price([one], one.points)}"
    )


def _price(rounds: Sequence[Round], points: float) -> str:
    """What rounds cost, and a point of them where there is one."""
    spent = {"tokens": float(sum(one.tokens for one in rounds)), "s": sum(one.seconds for one in rounds)}
    if monies := [one.money for one in rounds if one.money is not None]:
        spent[rounds[0].currency] = sum(monies)
    told = ", ".join(_amount(value, unit) for unit, value in spent.items())
    if points <= 0:
        return f"{told}, for no point"
    return f"{told}; a point cost {', '.join(_amount(value / points, unit) for unit, value in spent.items())}"


def _amount(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit in ("tokens", "s") else f"{value:,.2f} {unit}"


def as_json(found: Improved) -> dict[str, Any]:
    return {
        "student": found.student,
        "profile": found.profile,
        "stopped": found.stopped,
        "rounds": [asdict(one) | {"significant": one.significant, "points": one.points,
                                  "tokens_a_point": one.tokens / one.points if one.points > 0 else None}
                   for one in found.rounds],
    }  # fmt: skip


def as_text(found: Improved) -> str:
    points = sum(one.points for one in found.rounds if one.significant)
    lines = [*map(_line, found.rounds), f"stopped: {found.stopped}"]
    if found.rounds:
        lines.append(f"in all {points:.1f} significant points; {_price(found.rounds, points)}")
    lines.append(f"in the UI and for further commands: PROMPTCOT_PROFILE={found.profile}")
    return "\n".join(lines)
