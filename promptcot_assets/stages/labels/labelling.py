"""Which problems of a batch are labelled, and what is kept of the texts that their labels come from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from promptcot_assets.domains import domain_named
from promptcot_assets.inference.refusals import REASONS
from promptcot_assets.lake import LakeError, Row
from promptcot_assets.lake.ids import in_share
from promptcot_assets.settings.profile import Keep


def of_kind(problems: Sequence[Row], answers: str) -> list[Row]:
    """The problems whose answers are `maths`, or `program`s."""
    return [row for row in problems if domain_named(row["domain"]).answers == answers]


def to_label(problems: Iterable[Row], answers: str, share: float) -> Iterator[Row]:
    """Those of this kind that are labelled (labels.share): by their hash, so that batches never move one."""
    for row in problems:
        if domain_named(row["domain"]).answers == answers and in_share(share, "labelled", row["problem_id"]):
            yield row


def by_problem(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of one problem after those of another, as they stand in a table that was made problem by problem."""
    for problem_id, own in itertools.groupby(rows, lambda row: row["problem_id"]):
        yield problem_id, list(own)


def beside(rows: Iterable[tuple[str, Row]], **tables: Iterable[Row]) -> Iterator[Row]:
    """Each row (given with its problem's id), and beside it what the tables have of the same problem.

    All are in one order, of which one problem is in memory. Raises: LakeError where they are not of the same problems.
    """
    groups = {name: by_problem(table) for name, table in tables.items()}
    for problem_id, row in rows:
        found = {name: next(own, ("", list[Row]())) for name, own in groups.items()}
        for name, (of, _) in found.items():
            _agree(name, of == problem_id)
        yield row | {name: own for name, (_, own) in found.items()}
    for name, own in groups.items():
        _agree(name, next(own, None) is None)


def _agree(name: str, is_same: bool) -> None:
    if not is_same:
        raise LakeError(f"{name} was made of other problems than what it is read with: make {name} of this batch anew")


def unanswered(rows: Sequence[Mapping[str, str]]) -> str | None:
    """Why a model gave no answer at all of a problem, where that is the problem's own fault. rows: all its attempts."""
    reasons = [row["finish_reason"] for row in rows]
    return reasons[0] if reasons and all(reason in REASONS for reason in reasons) else None


def with_kept(rows: Iterable[Row], keep: Keep, decides: Sequence[bool]) -> Iterator[Row]:
    """The rows, their completions as far as `labels.keep` says. decides: which of them the label rests on."""
    for row, is_deciding in zip(rows, decides, strict=True):
        is_kept = keep == "all" or (keep == "deciding" and is_deciding)
        yield row if is_kept else row | {"completion": None}


def kept_figures(rows: Iterable[Row]) -> dict[str, int]:
    """What an asset's page says of the completions in its table: how many are kept, and their characters."""
    count = characters = 0
    for row in rows:
        if row["completion"] is not None:
            count, characters = count + 1, characters + len(row["completion"])
    return {"completions_kept": count, "characters_kept": characters}
