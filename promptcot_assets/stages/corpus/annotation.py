"""Concepts and rationales of seed problems, written by models: what the cold start learns from (method section 2).

Every annotator gives every seed its own concepts and, of a training seed, a rationale on them; all triples are kept. Of
a source that has them, concepts are taken as they are and only the rationale is asked for; a seed with both is left
alone. How four annotations of a problem become one (c, x) for EM is not published. Here it is a draw by the problem's
id among the annotators that gave it a whole triple, so that a pass over the seeds has one example a problem: 974 steps
of 16, as in the paper's figure, for its 15,586 seeds.

The prompts are ours: the paper's are not published. What is asked for is what its section on the cold start names.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import BEGIN_THINK, END_THINK, has_marker, numbered
from promptcot_assets.inference import Completion, InferenceEngine
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Sampling
from promptcot_assets.stages.asking import ask

CUT_OFF = "cut off at the token limit"
BLOCK = re.compile(r"```(?:python3?|py)?[ \t]*\r?\n(.*?)```", re.DOTALL | re.IGNORECASE)
LONGEST_LIST = 20_000  # characters of a block that is read as Python
LONGEST_CONCEPT = 200

CONCEPT_PROMPT = """You are an expert in educational assessment. Below is a {kind} problem.

{problem}

Name exactly {count} concepts that this problem tests. Each of them must be
- foundational: a topic that a curriculum has, not a trick of this one problem;
- measurable: one can test whether somebody has mastered it;
- necessary: without it the problem cannot be solved;
- general: worded without the numbers, names and objects of the problem.

Reason about the problem first. Then give the {count} concepts as one Python list of strings in a ```python block.
"""
RATIONALE_PROMPT = """You are an experienced designer of {kind} problems. Below are foundational concepts, a level of
difficulty, and a problem that was made of them.

Concepts:
{concepts}

Difficulty level: {level}

Problem:
{problem}

Write down the thinking that led the designer from the concepts to the problem.
- Whoever follows it arrives at exactly this problem: every object, number, condition and question of it is decided on,
  each with a reason.
- Whoever has only the concepts and the level could have thought it: it starts from them, shows how they are connected
  and makes one choice after the other. It does not speak of the problem as given, nor quote or solve it.

Write only this thinking, as plain text.
"""


def concepts_prompt(domain: str, problem: str, count: int) -> str:
    return CONCEPT_PROMPT.format(kind=_kind(domain), problem=problem, count=count)


def explanation_prompt(domain: str, concepts: Sequence[str], level: str, problem: str) -> str:
    """What an annotator is asked for a rationale with."""
    return RATIONALE_PROMPT.format(kind=_kind(domain), concepts=numbered(concepts), level=level, problem=problem)


# ---- asking
def annotate(
    seeds: Sequence[Row], model: InferenceEngine, sampling: Sampling, count: int, annotator: str, name: str, seed: int
) -> list[Row]:
    """Rows of `seed_annotations`, one a seed that lacks concepts or a rationale. `drop_reason`: why it is no triple.

    count: concepts a problem; annotator: the teacher's name; name: its model id.
    """
    rows = [_begun(row, annotator, name) for row in seeds if lacks(row)]
    problems = {row["problem_id"]: row for row in seeds}
    _name_concepts([row for row in rows if not row["concepts"]], problems, model, sampling, count, seed)
    with_concepts = [row for row in rows if row["drop_reason"] is None]
    _explain([row for row in with_concepts if row["split"] == "train"], problems, model, sampling, seed)
    return rows


def lacks(row: Row) -> bool:
    """Whether there is something to annotate: a held-out seed needs concepts, a training seed a rationale too; a
    problem that is only played on needs neither."""
    wanted = {"train": ("concepts", "rationale"), "held_out": ("concepts",)}.get(row["split"], ())
    return any(not row[name] for name in wanted)


def _begun(row: Row, annotator: str, model: str) -> Row:
    return {
        "annotation_id": content_id(row["problem_id"], annotator),
        "seed_problem_id": row["problem_id"],
        "domain": row["domain"],
        "split": row["split"],
        "annotator": annotator,
        "concepts": row["concepts"],
        "concept_completion": None,
        "concept_seed": None,
        "rationale": None,
        "rationale_seed": None,
        "drop_reason": None,
        "tokens": 0,
        "model": model,
    }


def _name_concepts(
    rows: Sequence[Row], problems: dict[str, Row], model: InferenceEngine, sampling: Sampling, count: int, seed: int
) -> None:
    """Concepts asked for and read, written into the rows."""

    def prompt(row: Row) -> str:
        return concepts_prompt(row["domain"], problems[row["seed_problem_id"]]["problem"], count)

    for row, (completion,) in ask(rows, model, sampling, 1, _seed_of(seed, "concepts"), prompt):
        concepts, reason = read_concepts(completion, count)
        row |= {"concepts": concepts, "concept_completion": completion.text, "concept_seed": completion.seed}
        row |= {"drop_reason": reason and f"concepts: {reason}", "tokens": row["tokens"] + completion.tokens}


def _explain(
    rows: Sequence[Row], problems: dict[str, Row], model: InferenceEngine, sampling: Sampling, seed: int
) -> None:
    """Rationales asked for and read, written into the rows."""

    def prompt(row: Row) -> str:
        own = problems[row["seed_problem_id"]]
        return explanation_prompt(row["domain"], row["concepts"], own["level"], own["problem"])

    for row, (completion,) in ask(rows, model, sampling, 1, _seed_of(seed, "rationale"), prompt):
        rationale, reason = read_rationale(completion, problems[row["seed_problem_id"]]["problem"])
        row |= {"rationale": rationale, "rationale_seed": completion.seed}
        row |= {"drop_reason": reason and f"rationale: {reason}", "tokens": row["tokens"] + completion.tokens}


def _kind(domain: str) -> str:
    return "programming" if domain_named(domain).answers == "program" else "mathematics"


def _seed_of(seed: int, what: str) -> Any:
    return lambda row: seed_from(seed, what, row["annotator"], row["seed_problem_id"])


# ---- reading
def read_concepts(completion: Completion, count: int) -> tuple[list[str], str | None]:
    """The concepts of a completion, or none and the reason why: the last code block after the thoughts, as a literal.

    It is parsed and never run.
    """
    text, reason = _answer(completion)
    if reason:
        return [], reason
    blocks = BLOCK.findall(text)
    if not blocks:
        return [], "no code block"
    value = _literal(blocks[-1].strip())
    if not isinstance(value, list | tuple):
        return [], "not a Python list"
    if not all(isinstance(one, str) for one in value):
        return [], "not a list of texts"
    concepts = [" ".join(one.split()) for one in value]
    if len(concepts) != count:
        return [], f"not {count} of them"
    if len({one.casefold() for one in concepts}) < count:
        return [], "one of them twice"
    if not all(0 < len(one) <= LONGEST_CONCEPT for one in concepts) or any(map(has_marker, concepts)):
        return [], "one of them is no concept"
    return concepts, None


def read_rationale(completion: Completion, problem: str) -> tuple[str | None, str | None]:
    """The rationale of a completion, or none and the reason why. Quoting the whole problem explains nothing of it."""
    text, reason = _answer(completion)
    if reason:
        return None, reason
    if not text:
        return None, "empty"
    if has_marker(text) or BEGIN_THINK in text:
        return None, "contains a marker"
    return (None, "quotes the whole problem") if problem.strip() in text else (text, None)


def _answer(completion: Completion) -> tuple[str, str | None]:
    """What stands after the thoughts; or the reason why it is not whole."""
    text = completion.text
    if completion.refusal:
        return "", completion.refusal.reason
    if completion.finish_reason != "stop" or (BEGIN_THINK in text and END_THINK not in text):
        return "", CUT_OFF
    return text.rpartition(END_THINK)[2].strip(), None


def _literal(text: str) -> Any:
    """The value of a Python literal, alone or given a name; None for anything else."""
    try:
        (statement,) = ast.parse(text[: LONGEST_LIST + 1]).body
        value = getattr(statement, "value", None) if len(text) <= LONGEST_LIST else None
        return ast.literal_eval(value) if isinstance(value, ast.expr) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):  # also none or several statements
        return None


# ---- using
def annotated_seeds(seeds: Sequence[Row], written: Iterable[Row]) -> list[Row]:
    """Rows of `seed_problems` with the concepts that their source lacks: those of one annotator each.

    A rationale that the source gives without the concepts it is about is left out.
    """
    by_problem: dict[str, list[Row]] = defaultdict(list)
    for row in written:
        if row["concepts"]:
            by_problem[row["seed_problem_id"]].append(row)
    return [
        row
        if row["concepts"]
        else row | {"concepts": _own_concepts(by_problem[row["problem_id"]]), "rationale": None, "annotator": None}
        for row in seeds
    ]


def _own_concepts(annotations: Sequence[Row]) -> list[str]:
    """Those of a whole triple where there is one; which of several, by chance."""

    def order(row: Row) -> tuple[bool, int]:
        return row["rationale"] is None, seed_from("own concepts", row["seed_problem_id"], row["annotator"])

    return min(annotations, key=order)["concepts"] if annotations else []


def annotated_triples(seeds: Sequence[Row], written: Iterable[Row]) -> tuple[list[Row], Counter[str]]:
    """Rows as of `seed_problems`, one a triple, to be made triples of: those of the sources and all written ones.

    Those on the seed's own concepts come first of their seed: EM takes the first. Equal rationales count once.
    """
    problems = {row["problem_id"]: row for row in seeds}
    rows, dropped, known = [row for row in seeds if row["rationale"]], Counter[str](), set[tuple[str, str]]()
    for row in written:
        seed = problems.get(row["seed_problem_id"])
        if row["drop_reason"]:
            dropped[row["drop_reason"]] += 1
        if seed is None or seed["split"] != "train" or row["rationale"] is None:
            continue
        if (row["seed_problem_id"], row["rationale"]) in known:
            dropped["the same rationale as another annotator's"] += 1
            continue
        known.add((row["seed_problem_id"], row["rationale"]))
        rows.append(seed | {name: row[name] for name in ("concepts", "rationale", "annotator")})
    place = {problem: at for at, problem in enumerate(problems)}
    rows.sort(key=lambda row: (place[row["problem_id"]], row["concepts"] != problems[row["problem_id"]]["concepts"]))
    return rows, dropped
