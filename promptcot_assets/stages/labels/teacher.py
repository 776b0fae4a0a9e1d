"""Who answers synthetic problems: a procedural teacher that reads the text, or a model behind an engine."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Protocol

from promptcot_assets.domains import Attempt, procedural_domain
from promptcot_assets.inference import Completion, InferenceEngine
from promptcot_assets.judging.verifier import extract
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import in_share, seed_from
from promptcot_assets.settings.profile import Corpus, Sampling
from promptcot_assets.stages.asking import ask
from promptcot_assets.stages.labels.written_judges import ONE_RIGHT_REASON, Kind, WrittenJudge, judge_prompt, read_judge
from promptcot_assets.stages.labels.written_tests import WrittenTest, read_test, writing_prompt


class Teacher(Protocol):
    name: str

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        """n attempts at each problem (rows with problem_id, domain, problem), each with its own seed."""

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        """`calls` tests for each program problem, written one a call (method section 5)."""

    def judges(self, problems: Sequence[Row], kind: Kind, calls: int, seed: int) -> list[list[WrittenJudge]]:
        """`calls` validators, or checkers, for each program problem, written one a call."""


MISREAD = 2 / 3  # of the answers to a problem that is misread


class ProceduralTeacher:
    """The procedural domains' own teacher with their error rates: each answer's own, and those that all share."""

    def __init__(self, corpus: Corpus) -> None:
        self.name = "procedural"
        self._corpus = corpus

    def attempts(self, problems: Sequence[Row], n: int, seed: int) -> list[list[Attempt]]:
        return [[self._attempt(row, k, seed) for k in range(n)] for row in problems]

    def tests(self, problems: Sequence[Row], calls: int, seed: int) -> list[list[WrittenTest]]:
        raise _of_other_domains({row["domain"] for row in problems}, "tests")

    def judges(self, problems: Sequence[Row], kind: Kind, calls: int, seed: int) -> list[list[WrittenJudge]]:
        """Validators err as often as its answers do; every problem of these domains has one right output."""
        if others := {row["domain"] for row in problems} - self._corpus.procedural.keys():
            raise _of_other_domains(others, "validators and checkers")
        return [[self._judge(row, kind, k, seed) for k in range(calls)] for row in problems]

    def _judge(self, row: Row, kind: Kind, k: int, seed: int) -> WrittenJudge:
        own = seed_from(seed, row["problem_id"], k)
        if kind == "checker":
            return WrittenJudge(None, ONE_RIGHT_REASON, seed=own)
        error = self._corpus.procedural[row["domain"]].teacher_error
        return WrittenJudge(procedural_domain(row["domain"]).write_validator(error, random.Random(own)), seed=own)

    def _attempt(self, row: Row, k: int, seed: int) -> Attempt:
        domain, sizes = procedural_domain(row["domain"]), self._corpus.procedural[row["domain"]]
        own = seed_from(seed, row["problem_id"], k)
        rng = random.Random(own)
        if in_share(sizes.misread, "misread", row["problem_id"]) and rng.random() < MISREAD:
            wrong = random.Random(seed_from("misread", row["problem_id"]))  # the same whoever is asked, and when
            return replace(domain.teach(row["problem"], 1.0, wrong), seed=own)
        return replace(domain.teach(row["problem"], sizes.teacher_error, rng), seed=own)


def _of_other_domains(domains: Set[str], what: str) -> ValueError:
    return ValueError(
        f"labels.teacher: procedural writes no {what}; set labels.teacher to base_model, or leave the domains "
        f"{', '.join(sorted(domains))} out of synthesis.concept_sets"
    )


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
        written = self._calls(problems, calls, seed, lambda one: writing_prompt(one["problem"], one["call"]))
        return [[read_test(completion) for completion in own] for own in written]

    def judges(self, problems: Sequence[Row], kind: Kind, calls: int, seed: int) -> list[list[WrittenJudge]]:
        written = self._calls(problems, calls, seed, lambda one: judge_prompt(one["problem"], kind))
        return [[read_judge(completion, kind) for completion in own] for own in written]

    def _calls(
        self, problems: Sequence[Row], calls: int, seed: int, prompt_of: Callable[[Row], str]
    ) -> list[list[Completion]]:
        """`calls` completions a problem, each of its own prompt (row with `call`) and seed."""
        wanted = [row | {"call": call} for row in problems for call in range(calls)]
        asked = ask(
            wanted, self._engine, self._sampling, 1,
            lambda one: seed_from(seed, one["problem_id"], one["call"]), prompt_of,
        )  # fmt: skip
        written = [completion for _, (completion,) in asked]
        return [written[at : at + calls] for at in range(0, len(written), calls)]
