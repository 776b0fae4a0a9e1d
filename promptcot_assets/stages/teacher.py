"""Who answers synthetic problems: a procedural teacher that reads the text, or a model behind an engine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from promptcot_assets.domains import Attempt, procedural_domain
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.lake.ids import seed_from
from promptcot_assets.settings.profile import Corpus, Sampling
from promptcot_assets.stages import Row
from promptcot_assets.stages.asking import ask
from promptcot_assets.stages.verification import extract


class Teacher(Protocol):
    name: str

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        """n attempts at each problem (rows with problem_id, domain, problem), each with its own seed."""


class ProceduralTeacher:
    """The procedural domains' own teacher with their error rate."""

    def __init__(self, corpus: Corpus) -> None:
        self.name = "procedural"
        self._corpus = corpus

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        return [[self._attempt(row, k, seed) for k in range(n)] for row in problems]

    def _attempt(self, row: Row, k: int, seed: int) -> Attempt:
        domain = procedural_domain(row["domain"])
        own = seed_from(seed, row["problem_id"], k)
        error = self._corpus.procedural[row["domain"]].teacher_error
        return replace(domain.teach(row["problem"], error, random.Random(own)), seed=own)


class ModelTeacher:
    """A model asked with the domain's own prompt."""

    def __init__(self, engine: InferenceEngine, sampling: Sampling, name: str) -> None:
        self.name = name
        self._engine, self._sampling = engine, sampling

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        asked = ask(problems, self._engine, self._sampling, n, lambda row: seed_from(seed, row["problem_id"]))
        return [
            [Attempt(one.text, extract(row["domain"], one.text), one.seed) for one in completions]
            for row, completions in asked
        ]
