"""What a result depends on besides its inputs and its own settings; it enters every fingerprint by itself.

How models are asked (engine, chat), what they are asked or trained with (prompts), and who judges (sandbox limits,
graders). An asset says none of it: it follows from the models among its inputs and from the resources that it takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from promptcot_assets.assets.inputs import split
from promptcot_assets.judging.verifier import MATHS_GRADER, PROGRAM_GRADER
from promptcot_assets.settings import Settings
from promptcot_assets.settings.engines import Engine
from promptcot_assets.settings.profile import Chat
from promptcot_assets.settings.section import Section
from promptcot_assets.stages import prompts
from promptcot_assets.tables import TABLES, Table, Unit

Used = Section | dict[str, Any]


def how_asked(settings: Settings, asset: str, partition: str, by: str = "") -> tuple[Engine, Chat | None]:
    """The engine and the chat setting with which the models of a table are asked: a student's or a teacher's own.

    by: the asset that asks; where benchmarks are asked, `evaluation.engine` is laid over a student's own.
    """
    unit = TABLES[asset].unit if asset in TABLES else Unit.HOME
    if unit is Unit.STUDENT and not writes_problems(asset):
        evaluates = by in TABLES and TABLES[by].group == "evaluation"
        engine = settings.engine_of_evaluation(partition) if evaluates else settings.engine_of_student(partition)
        return engine, settings.students[partition].chat
    if unit is Unit.TEACHER:
        return settings.engine_of(partition), settings.teachers[partition].chat
    return settings.engine, None


def writes_problems(asset: str) -> bool:
    """Whether a checkpoint is a problem generator, which nobody talks to, though a student it met names it."""
    return TABLES[asset].checkpoint and TABLES[asset].prompts == ("generator",)


def entering(
    settings: Settings,
    own: Table,
    partition: str,
    inputs: Sequence[str],
    takes: Iterable[str],
    asks: Sequence[str] | None,
) -> dict[str, Any]:
    """What enters the fingerprint of one materialization by itself; only what there is.

    inputs: resolved names; takes: resources that the asset is handed; asks: the kinds of prompts where they do not
    follow from the models (a teacher is asked for one thing here and for another there).
    """
    models = [(asset, of or "") for asset, of in map(split, inputs) if asset in TABLES and TABLES[asset].checkpoint]
    found: dict[str, Any] = {}
    if "engine" in takes:
        asked = [how_asked(settings, asset, of, own.name) for asset, of in models]
        found["engines"] = _distinct(one for engine, chat in asked for one in (engine, chat) if one)
    is_student = own.unit is Unit.STUDENT and not writes_problems(own.name)
    if "trainer" in takes and is_student and (chat := settings.students[partition].chat):
        found["chat"] = _plain(chat)
    if "sandbox" in takes:
        found |= judged_by(settings)
    kinds = dict.fromkeys(own.prompts)
    if "engine" in takes or "trainer" in takes:
        kinds |= dict.fromkeys(kind for asset, _ in models for kind in TABLES[asset].prompts)
    if rendered := prompts.hashes(kinds if asks is None else asks, settings.domains):
        found["prompts"] = rendered
    return {name: value for name, value in found.items() if value}


def votes_grouped_by() -> dict[str, Any]:
    """What decides which answers to a problem are one and the same, where votes are counted."""
    return {"votes_grouped_by": MATHS_GRADER}


def judged_by(settings: Settings) -> dict[str, Any]:
    """What verdicts depend on, besides the answers and what they are held against."""
    return {"judged_by": [_plain(settings.sandbox), MATHS_GRADER, PROGRAM_GRADER]}


def recorded(uses: Iterable[Used], entered: dict[str, Any]) -> list[Any]:
    """What a commit records as its settings: the asset's own, and what entered by itself."""
    return [*map(_plain, uses), *([entered] if entered else [])]


def _plain(one: Used) -> Any:
    return json.loads(one.canonical()) if isinstance(one, Section) else one


def _distinct(sections: Iterable[Section]) -> list[Any]:
    return [json.loads(text) for text in dict.fromkeys(one.canonical() for one in sections)]
