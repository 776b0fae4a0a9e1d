"""Every prompt there is, rendered on one fixed row: a changed prompt is another text, and so another fingerprint.

Rendered with it is what a model is trained to write after the prompt, so that layout markers count too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from promptcot_assets.domains import Domain, domain_named
from promptcot_assets.domains.layout import END_RATIONALE, TOKENIZER_MARKERS, generator_completion, solution_text
from promptcot_assets.stages.corpus.annotation import concepts_prompt, explanation_prompt
from promptcot_assets.stages.evaluation.published_items import function_prompt, published_prompt
from promptcot_assets.stages.labels.written_judges import KINDS as JUDGES
from promptcot_assets.stages.labels.written_judges import judge_prompt
from promptcot_assets.stages.labels.written_tests import FOCUS, writing_prompt

CONCEPTS, LEVEL = ["counting", "parity"], "hard"
PROBLEM, RATIONALE = "How many even numbers are below 10?", "Count, then keep what is even."


def _generator(domain: Domain) -> list[str]:
    return [domain.generator_prompt(CONCEPTS, LEVEL), generator_completion(RATIONALE, PROBLEM), *TOKENIZER_MARKERS]


def _rationale(domain: Domain) -> list[str]:
    return [domain.rationale_prompt(CONCEPTS, LEVEL, PROBLEM), RATIONALE + END_RATIONALE]


def _solve(domain: Domain) -> list[str]:
    return [domain.solve_prompt(PROBLEM), solution_text("a thought", "an answer")]


def _published(domain: Domain) -> list[str]:
    return [published_prompt(PROBLEM), function_prompt(PROBLEM)] if domain.answers == "program" else []


def _annotation(domain: Domain) -> list[str]:
    return [
        concepts_prompt(domain.name, PROBLEM, len(CONCEPTS)),
        explanation_prompt(domain.name, CONCEPTS, LEVEL, PROBLEM),
    ]


def _tests(domain: Domain) -> list[str]:
    return [writing_prompt(PROBLEM, call) for call in range(len(FOCUS))] if domain.answers == "program" else []


def _judges(domain: Domain) -> list[str]:
    return [judge_prompt(PROBLEM, kind) for kind in JUDGES] if domain.answers == "program" else []


KINDS: dict[str, Callable[[Domain], list[str]]] = {
    "generator": _generator,
    "rationale": _rationale,
    "solve": _solve,
    "published": _published,
    "annotation": _annotation,
    "tests": _tests,
    "judges": _judges,
}


def hashes(kinds: Iterable[str], domains: Sequence[str]) -> dict[str, str]:
    """By kind, a short hash of its prompts in these domains; kinds without any are left out."""
    texts = {kind: [text for name in domains for text in KINDS[kind](domain_named(name))] for kind in kinds}
    return {kind: hashlib.sha256("\0".join(found).encode()).hexdigest()[:12] for kind, found in texts.items() if found}
