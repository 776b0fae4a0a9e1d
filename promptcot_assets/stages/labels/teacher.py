"""Who answers synthetic problems: a procedural teacher that reads the text, or a model behind an engine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from promptcot_assets.domains import Attempt, procedural_domain
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.judging.verifier import extract
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import in_share, seed_from
from promptcot_assets.settings.profile import Corpus, Sampling
from promptcot_assets.stages.asking import ask
from promptcot_assets.stages.labels.written_tests import WrittenTest, read_test, writing_prompt


class Teacher(Protocol):
    name: str

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        """n attempts at each problem (rows with problem_id, domain, problem), each with its own seed."""

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        """`calls` tests for each program problem, written one a call (method section 5)."""


MISREAD = 2 / 3  # of the answers to a problem that is misread


class ProceduralTeacher:
    """The procedural domains' own teacher with their error rates: each answer's own, and those that all share."""

    def __init__(self, corpus: Corpus) -> None:
        self.name = "procedural"
        self._corpus = corpus

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        return [[self._attempt(row, k, seed) for k in range(n)] for row in problems]

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        raise ValueError(
            "labels.teacher: procedural writes no tests; set labels.teacher to base_model, or leave the domains "
            f"{', '.join(sorted({row['domain'] for row in problems}))} out of synthesis.concept_sets"
        )

    def _attempt(self, row: Row, k: int, seed: int) -> Attempt:
        domain, sizes = procedural_domain(row["domain"]), self._corpus.procedural[row["domain"]]
        own = seed_from(seed, row["problem_id"], k)
        rng = random.Random(own)
        if in_share(sizes.misread, "misread", row["problem_id"]) and rng.random() < MISREAD:
            wrong = random.Random(seed_from("misread", row["problem_id"]))  # the same whoever is asked, and when
            return replace(domain.teach(row["problem"], 1.0, wrong), seed=own)
        return replace(domain.teach(row["problem"], sizes.teacher_error, rng), seed=own)


class ModelTeacher:
    """A model asked with the domain's own prompt."""

    def __init__(self, engine: InferenceEngine, sampling: Sampling, name: str) -> None:
        self.name = name
        self._engine, self._sampling = engine, sampling

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        asked = ask(problems, self._engine, self._sampling, n, lambda row: seed_from(seed, row["problem_id"]))
        return [
            [
                Attempt("", None, one.seed, one.refusal.reason, one.tokens)
                if one.refusal
                else Attempt(one.text, extract(row["domain"], one.text), one.seed, None, one.tokens, one.finish_reason)
                for one in completions
            ]
            for row, completions in asked
        ]

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        wanted = [row | {"call": call} for row in problems for call in range(calls)]
        asked = ask(
            wanted,
            self._engine,
            self._sampling,
            1,
            lambda one: seed_from(seed, one["problem_id"], one["call"]),
            lambda one: writing_prompt(one["problem"], one["call"]),
        )
        written = [read_test(completion) for _, (completion,) in asked]
        return [written[at : at + calls] for at in range(0, len(written), calls)]
