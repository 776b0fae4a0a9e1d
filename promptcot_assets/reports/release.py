"""`promptcot verify-release`: what a released set says of itself, computed again from its own rows.

Labels are graded and voted again, ids hashed again, problems searched for benchmark items again, scores counted again
from their verdicts. A check needs the tables that it is made from: what cannot be checked is named with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import ProblemLabels, Question, Verifier
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.reports.release_folder import Release, ReleaseError, opened, read_release
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Deduplication
from promptcot_assets.stages.analysis.grader_change import vote_difference
from promptcot_assets.stages.corpus.reading import read_seeds
from promptcot_assets.stages.corpus.sources import SeedError
from promptcot_assets.stages.decontamination import contaminated
from promptcot_assets.stages.evaluation import benchmarks
from promptcot_assets.stages.students import self_play
from promptcot_assets.stages.students.distillation import TOO_LONG
from promptcot_assets.tables import TABLES
from promptcot_assets.tables.references import references
from promptcot_assets.text.printing import short

SHOWN = 5  # differences of each check in print; --json has all
CLOSE = 1e-9  # of scores: sums in another order
MACHINES = {"time_limit", "system_error", "not_answered"}  # verdicts that no other machine need agree with

# What each table's ids are the hash of.
IDS: dict[str, Callable[[Row], tuple[object, ...]]] = {
    "problems": lambda row: (row["domain"], row["problem"]),
    "seed_problems": lambda row: (row["domain"], row["problem"]),
    "concept_corpus": lambda row: (row["domain"], row["concept"]),
    "seed_triples": lambda row: (row["problem_id"], row["rationale"]),
    "benchmark_items": lambda row: (row["benchmark"], row["problem"]),
    "math_answers": lambda row: (row["problem_id"], row["answers"]),
    "teacher_traces": lambda row: (row["problem_id"], row["teacher"], row["seed"]),
    "rollouts": lambda row: (row["problem_id"], row["model"], row["attempt"], row["seed"]),
    "self_play_examples": lambda row: (row["rollout_id"],),
    "benchmark_generations": lambda row: (row["item_id"], row["model"], row["stage"], row["attempt"], row["seed"]),
    "benchmark_scores": lambda row: (row["benchmark"], row["stage"], row["model"], row["metric"]),
}
TEXTS = {"problems": "problem", "seed_problems": "problem", "sft_examples": "prompt", "preference_pairs": "prompt",
         "self_play_examples": "prompt"}  # fmt: skip


@dataclass
class Check:
    """One thing held against what it is made from: how many rows, and each that differs `{row, says, is}`."""

    table: str
    name: str
    rows: int
    differences: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Verified:
    """differences: over all checks; skipped: what was not checked, and why."""

    source: str
    tables: dict[str, int]
    checks: list[Check]
    skipped: list[str]

    @property
    def differences(self) -> int:
        return sum(len(one.differences) for one in self.checks)


def verify_release(source: str, sandbox: Sandbox, items: Sequence[str] = (), ngram: int | None = None) -> Verified:
    """Everything that a release's own rows allow to check.

    sandbox: limits that programs are judged with. items: files of benchmarks that its problems are searched for,
    besides the benchmark items in it. ngram: words in a row that contaminate; by default what its card says, else 13.

    Raises: ReleaseError when it cannot be read; sandbox.SandboxUnavailable when no isolation holds here.
    """
    with opened(source) as folder:
        release = read_release(folder)
    checks: list[Check] = []
    skipped: list[str] = []
    for table, seen in release.seen.items():
        faults = [one for one in release.faults if one["table"] == table]
        found = [{"row": one["row"], "says": one["found"], "is": None} for one in faults]
        checks.append(Check(table, "rows are as declared", seen, found))
    checks += _ids(release, skipped)
    checks += _references(release)
    checks += _decontamination(release, items, ngram, skipped)
    checks += _votes(release)
    with open_verifier(sandbox) as verifier:
        checks += _verdicts(release, verifier, skipped)
    checks += _scores(release, skipped)
    if "code_tests" in release.rows:
        skipped.append("outputs of code_tests: the candidate programs that agreed on them are not in it")
    return Verified(source, release.seen, checks, skipped)


def _difference(row: Row, says: Any, is_: Any) -> Row:
    return {"row": row["_place"], "says": says, "is": is_}


def _ids(release: Release, skipped: list[str]) -> Iterator[Check]:
    for table, rows in release.rows.items():
        if table not in IDS:
            continue
        name = TABLES[table].id_column.name
        own = [row for row in rows if row.get(name) is not None]
        if rows and not own:
            skipped.append(f"ids of {table}: it has none")
            continue
        hashed = ((row, content_id(*IDS[table](row))) for row in own)
        yield Check(table, f"{name} is the hash of its row", len(own),
                    [_difference(row, row[name], made) for row, made in hashed if made != row[name]])  # fmt: skip


def _references(release: Release) -> Iterator[Check]:
    """Every row that is named is there, where its table is; one of several tables is enough."""
    for table, rows in release.rows.items():
        columns: dict[str, list[str]] = {}
        for reference in references(table):
            if not reference.shared and not reference.name.endswith("_ids"):
                columns.setdefault(reference.name, []).append(reference.to)
        for column, tables in columns.items():
            if not set(tables) <= release.rows.keys():
                continue
            known = {row[TABLES[to].id_column.name] for to in tables for row in release.rows[to]}
            named = [row for row in rows if row.get(column) is not None]
            lost = [_difference(row, row[column], f"not in {' or '.join(tables)}") for row in named
                    if row[column] not in known]  # fmt: skip
            if named:
                yield Check(table, f"{column} is there", len(named), lost)


def _decontamination(release: Release, files: Sequence[str], ngram: int | None, skipped: list[str]) -> Iterator[Check]:
    items = [
        {"benchmark": row["benchmark"], "id": row["item_id"], "text": row["problem"]}
        for row in release.rows.get("benchmark_items", ())
    ]
    for file in files:
        try:
            read, _ = read_seeds(file)
        except SeedError as error:
            raise ReleaseError(str(error)) from error
        items += [{"benchmark": Path(file).stem, "id": str(at), "text": row["problem"]} for at, row in enumerate(read)]
    words = ngram or release.ngram or Deduplication().decontamination_ngram
    for table in sorted(TEXTS.keys() & release.rows.keys()):
        if not items:
            skipped.append(f"decontamination of {table}: no benchmark items in it; name files with --benchmark")
            continue
        rows = {str(at): row for at, row in enumerate(release.rows[table]) if row.get("split") in (None, "train")}
        given = [{"id": at, "text": _text(row, TEXTS[table])} for at, row in rows.items()]
        hits = contaminated(given, items, words).to_pylist() if given else []
        found = [_difference(rows[hit["problem_id"]], hit["matched_span"], f"of {hit['benchmark']} {hit['item_id']}")
                 for hit in hits]  # fmt: skip
        yield Check(table, f"shares no {words} words in a row with a benchmark item", len(given), found)


def _text(row: Row, column: str) -> str:
    """The column as text; of a chat its first turn."""
    value = row.get(column) if row.get(column) is not None else row.get("messages")
    return str(value[0]["content"] if isinstance(value, list) else value)


def _votes(release: Release) -> Iterator[Check]:
    rows = [row for row in release.rows.get("math_answers", ()) if row["answer"] is not None]
    if rows:
        found = [_difference(row, *told) for row in rows if (told := vote_difference(row))]
        yield Check("math_answers", "the answer is what the votes say", len(rows), found)


def _verdicts(release: Release, verifier: Verifier, skipped: list[str]) -> Iterator[Check]:
    rows = release.rows
    labels = {
        row["problem_id"]: row
        for row in self_play.labels(*(rows.get(name, []) for name in ("problems", "math_answers", "code_tests",
                                                                       "seed_problems")))
    }  # fmt: skip
    if "verdicts" in rows:
        if "rollouts" in rows:
            drawn = [row for row in rows["rollouts"] if row["problem_id"] in labels]
            _without("verdicts", len(rows["rollouts"]) - len(drawn), skipped)
            judged = self_play.verdicts(drawn, labels, verifier) if drawn else []
            yield _compared("verdicts", "rollout_id", rows["verdicts"], judged, ("usable", "passed", "answer"))
        else:
            skipped.append("verdicts: the rollouts are not in it")
    if "benchmark_verdicts" in rows:
        items = {row["item_id"]: row for row in rows.get("benchmark_items", [])
                 if row["answer"] is not None or row["tests"] is not None}  # fmt: skip
        if "benchmark_generations" in rows:
            drawn = [row for row in rows["benchmark_generations"] if row["item_id"] in items]
            _without("benchmark_verdicts", len(rows["benchmark_generations"]) - len(drawn), skipped)
            judged = benchmarks.verdicts(drawn, items, verifier) if drawn else []
            yield _compared("benchmark_verdicts", "generation_id", rows["benchmark_verdicts"], judged,
                            ("passed", "answer"))  # fmt: skip
        else:
            skipped.append("benchmark_verdicts: the generations are not in it")
    if "teacher_traces" in rows:
        known = ProblemLabels(rows.get("math_answers", []), rows.get("code_tests", []))
        problems = {row["problem_id"]: row for row in rows["teacher_traces"]}
        asked = [(row, label) for row in rows["teacher_traces"] if row["drop_reason"] != TOO_LONG
                 if (label := known.on(problems[row["problem_id"]])) is not None]  # fmt: skip
        _without("teacher_traces", len(rows["teacher_traces"]) - len(asked), skipped)
        found = verifier.judge([Question.on(label, row["trace"]) for row, label in asked])
        yield Check("teacher_traces", "valid is what judging it says", len(asked), [
            _difference(row, f"valid {row['valid']}, {row['answer']}", f"{one.verdict}, {one.answer}")
            for (row, _), one in zip(asked, found, strict=True)
            if one.passed not in (None, row["valid"]) and not {one.verdict, row["drop_reason"]} & MACHINES
        ])  # fmt: skip


def _without(table: str, rows: int, skipped: list[str]) -> None:
    if rows:
        skipped.append(
            f"{rows:,} rows of {table}: what they are judged by is not in it, or they are too long to be valid"
        )


def _compared(table: str, key: str, stored: Iterable[Row], judged: Iterable[Row], columns: Sequence[str]) -> Check:
    """Stored verdicts against those of now; where a limit of the machine decided, nobody else need agree."""
    now, found, rows = {row[key]: row for row in judged}, [], 0
    for row in stored:
        one = now.get(row[key])
        if one is None or {row["verdict"], one["verdict"]} & MACHINES:
            continue
        rows += 1
        differing = {name: (row[name], one[name]) for name in columns if row[name] != one[name]}
        if differing:
            found.append(_difference(row, *({name: sides[at] for name, sides in differing.items()} for at in (0, 1)))
                         | {"grader": [row["grader"], one["grader"]]})  # fmt: skip
    return Check(table, "the verdict is what judging it says", rows, found)


def _scores(release: Release, skipped: list[str]) -> Iterator[Check]:
    stored = release.rows.get("benchmark_scores")
    if stored is None:
        return
    judged = release.rows.get("benchmark_verdicts")
    if judged is None:
        skipped.append("benchmark_scores: the verdicts are not in it")
        return
    asked = {row["benchmark"]: row["generations"] for row in stored}
    known = [row for row in judged if row["benchmark"] in asked and row["stage"] in benchmarks.STAGES]
    now = {row["score_id"]: row for row in benchmarks.scores(known, 1, asked)}
    columns = ("value", "low", "high", "standard_error", "questions", "significant", "infrastructure_failures")
    found = []
    for row in stored:
        one = now.pop(row["score_id"], None)
        if one is None:
            found.append(_difference(row, f"{row['benchmark']} {row['stage']} {row['metric']}", "no such score"))
            continue
        differing = [name for name in columns if not _close(row[name], one[name])]
        if differing:
            found.append(_difference(row, *({name: side[name] for name in differing} for side in (row, one))))
    found += [{"row": "-", "says": None, "is": f"{row['benchmark']} {row['stage']} {row['metric']} {row['value']}"}
              for row in now.values()]  # fmt: skip
    yield Check("benchmark_scores", "the score is what the verdicts say", len(stored), found)


def _close(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, int | float) and not isinstance(two, bool):
        return math.isclose(one, two, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(one == two)


def as_json(found: Verified) -> dict[str, Any]:
    return {"source": found.source, "tables": found.tables, "differences": found.differences,
            "checks": found.checks, "skipped": found.skipped}  # fmt: skip


def as_text(found: Verified) -> str:
    """The same for a terminal; what is of the release is shown without control characters."""
    lines = [f"{ascii(found.source)[1:-1]}: " + ", ".join(f"{name} {n:,}" for name, n in found.tables.items())]
    for check in found.checks:
        word = f"{len(check.differences):,} differ" if check.differences else "ok"
        lines.append(f"{check.table}: {check.name}: {check.rows:,} rows, {word}")
        for one in check.differences[:SHOWN]:
            told = short(one["says"], 80) + (f"; it is {short(one['is'], 80)}" if one["is"] is not None else "")
            lines.append(f"  {one['row']}: {told}")
        if len(check.differences) > SHOWN:
            lines.append(f"  … {len(check.differences) - SHOWN:,} more (--json has all)")
    lines += [f"not checked: {one}" for one in found.skipped]
    kinds = Counter(check.table for check in found.checks if check.differences)
    lines.append(f"{found.differences:,} differences" + (f" in {', '.join(kinds)}" if kinds else ""))
    return "\n".join(lines)
