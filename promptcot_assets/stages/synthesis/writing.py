"""From concepts to raw problems: draw concept sets, let the generator write, split the text (method section 4)."""

from __future__ import annotations

import json
import random
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, zip_longest
from math import prod

import numpy as np

from promptcot_assets.domains import ProceduralDomain, domain_named
from promptcot_assets.domains.layout import parse_completion
from promptcot_assets.domains.procedural import level_of
from promptcot_assets.inference import InferenceEngine
from promptcot_assets.inference.refusals import embedded
from promptcot_assets.inference.sentence_encoder import Embedder
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id, seed_from
from promptcot_assets.settings.profile import Synthesis
from promptcot_assets.stages.asking import sampling_params
from promptcot_assets.stages.concepts import ConceptError, ConceptSampler, sample_levels
from promptcot_assets.stages.synthesis.focus import Weights

DEFAULT_SIZE = 5  # concepts a set, in every published example
NAMED_SEEDS = 20


def concept_sets(
    seeds: Sequence[Row],
    embeddings: dict[str, dict[str, np.ndarray]],
    settings: Synthesis,
    batch: str,
    seed: int,
    favour: Weights | None = None,
) -> list[Row]:
    """Rows of `concept_sets` for one batch. `embeddings`: domain -> concept -> vector (empty: co-occurrence only).
    favour: weights of concepts (focus.py); a set of a grammar has the product of its concepts'.

    A procedural domain has its own grammar of concept sets, so its sets are drawn from that grammar; every other
    domain's are drawn by the sampler from its seeds' co-occurrences, as large as these allow (see `shortened`).
    """
    rows = []
    for name, count in settings.concept_sets.items():
        own = _drawn_from(seeds, name)
        draw_seed = seed_from(seed, "concept sets", batch, name)
        domain = domain_named(name)
        if not own and not isinstance(domain, ProceduralDomain):
            continue  # nothing to draw from, see `without_concepts`
        if isinstance(domain, ProceduralDomain):
            if name in settings.levels:
                raise ConceptError(f"synthesis.levels: the level of {name} follows from its concepts; delete the line")
            rng = random.Random(draw_seed)
            sets = _of_grammar(domain.concept_sets(), count, rng, (favour or {}).get(name))
            levels = [level_of(concepts) for concepts in sets]
        else:
            known = len(_concepts(own))
            sizes = Counter(min(size, known) for size in dict.fromkeys(_sizes(name, settings)))
            sampler = _sampler(own, embeddings.get(name, {}), settings.concept_temperature, (favour or {}).get(name))
            sets = sampler.sample(count, size=sizes, seed=draw_seed)
            levels = sample_levels(_levels(name, own, settings), count, seed=draw_seed)
        sources = _problems_by_concept(own)
        rows += [_row(name, *drawn, sources, batch) for drawn in zip(sets, levels, range(count), strict=True)]
    return rows


def without_concepts(drawn: Sequence[Row], settings: Synthesis) -> Counter[str]:
    """The sets that are asked for and cannot be drawn, because no training seed of their domain has a concept."""
    there = {row["domain"] for row in drawn}
    return Counter({
        f"{name}: no seed has concepts to draw sets from; annotate the seeds, or give seeds that have them": count
        for name, count in settings.concept_sets.items() if name not in there
    })  # fmt: skip


def shortened(seeds: Sequence[Row], settings: Synthesis) -> dict[str, int]:
    """Domains whose training seeds name fewer concepts than a set should have, and how many they name."""
    known = {name: len(_concepts(_drawn_from(seeds, name))) for name in sampled_domains(settings)}
    return {name: count for name, count in sorted(known.items()) if 0 < count < max(_sizes(name, settings))}


def _drawn_from(seeds: Sequence[Row], domain: str) -> list[Row]:
    return [row for row in seeds if row["domain"] == domain and row["split"] == "train" and row["concepts"]]


def _concepts(seeds: Sequence[Row]) -> list[str]:
    return sorted({concept for row in seeds for concept in row["concepts"]})


def _sizes(domain: str, settings: Synthesis) -> list[int]:
    """Concepts a set, each size as often as the others."""
    return settings.concepts_per_set.get(domain) or [DEFAULT_SIZE]


def _levels(domain: str, seeds: Sequence[Row], settings: Synthesis) -> dict[str, float]:
    """Weights of the levels to ask for: those of the settings, else equal ones for all levels of the seeds."""
    known = sorted({row["level"] for row in seeds})
    wanted = settings.levels.get(domain, dict.fromkeys(known, 1.0))
    if strange := sorted(wanted.keys() - set(known)):
        raise ConceptError(
            f"synthesis.levels.{domain}: no training seed has the level {strange[0]!r}, so the generator does not know "
            f"it; the seeds have {', '.join(map(repr, known))}"
        )
    return dict(sorted(wanted.items()))


def level_counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """domain -> level -> concept sets."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row["domain"]][row["level"]] += 1
    return {domain: dict(sorted(own.items())) for domain, own in sorted(counts.items())}


def sampled_domains(settings: Synthesis) -> set[str]:
    """The domains whose concept sets the sampler draws: those without a grammar of their own."""
    return {name for name in settings.concept_sets if not isinstance(domain_named(name), ProceduralDomain)}


def concept_embeddings(concepts: Sequence[Row], model: Embedder) -> dict[str, dict[str, np.ndarray]]:
    """domain -> concept -> unit vector; of a concept that cannot be embedded 0, which is near to nothing."""
    vectors = model.embed([row["concept"] for row in concepts])
    vectors = np.where(embedded(vectors)[:, None], vectors, np.float32(0))
    embeddings: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for row, vector in zip(concepts, vectors, strict=True):
        embeddings[row["domain"]][row["concept"]] = vector
    return dict(embeddings)


def _of_grammar(
    known: Sequence[Sequence[str]], count: int, rng: random.Random, favour: Mapping[str, float] | None
) -> list[list[str]]:
    if favour is None:
        return [list(rng.choice(known)) for _ in range(count)]
    chances = [prod(favour.get(concept, 1.0) for concept in concepts) for concepts in known]
    return [list(concepts) for concepts in rng.choices(known, chances, k=count)]


def _sampler(
    seeds: Sequence[Row], embeddings: dict[str, np.ndarray], temperature: float, favour: Mapping[str, float] | None
) -> ConceptSampler:
    vectors = np.stack([embeddings[name] for name in _concepts(seeds)]) if embeddings else None
    return ConceptSampler([row["concepts"] for row in seeds], vectors, temperature=temperature, weights=favour)


def _problems_by_concept(seeds: Sequence[Row]) -> dict[str, list[str]]:
    """concept -> ids of the seed problems with it, sorted."""
    problems: dict[str, list[str]] = defaultdict(list)
    for row in sorted(seeds, key=lambda row: str(row["problem_id"])):
        for concept in dict.fromkeys(row["concepts"]):
            problems[concept].append(row["problem_id"])
    return problems


def _row(domain: str, concepts: list[str], level: str, at: int, sources: dict[str, list[str]], batch: str) -> Row:
    own_id = content_id(domain, concepts, level, batch, at)
    return {
        "concept_set_id": own_id,
        "domain": domain,
        "concepts": concepts,
        "level": level,
        "seed_problem_ids": json.dumps(_some_seeds([sources.get(concept, []) for concept in concepts], own_id)),
        "batch": batch,
    }


def _some_seeds(by_concept: Iterable[list[str]], after: str) -> list[str]:
    """Up to NAMED_SEEDS of the seed problems, as many of every concept as there are, sorted.

    Ids are hashes: those that follow a set's own id are a random choice, another one for every set.
    """
    following = (_following(ids, after) for ids in by_concept)
    in_turn = (problem for turn in zip_longest(*following) for problem in turn if problem is not None)
    return sorted(islice(dict.fromkeys(in_turn), NAMED_SEEDS))


def _following(ids: list[str], after: str) -> list[str]:
    """The next NAMED_SEEDS ids, the first ones again after the last."""
    start = bisect(ids, after)
    return [ids[(start + further) % len(ids)] for further in range(min(len(ids), NAMED_SEEDS))]


def synthesize(
    concept_rows: Sequence[Row], generator: InferenceEngine, settings: Synthesis, model: str, seed: int
) -> list[Row]:
    """`problems_per_set` completions a concept set, parsed, or with the reason why not. Rows of `raw_problems`."""
    params = sampling_params(settings.sampling, settings.problems_per_set)
    prompts = [domain_named(row["domain"]).generator_prompt(row["concepts"], row["level"]) for row in concept_rows]
    seeds = [seed_from(seed, row["concept_set_id"]) for row in concept_rows]
    rows = []
    for source, completions in zip(concept_rows, generator.generate(prompts, params, seeds), strict=True):
        domain = domain_named(source["domain"])
        for attempt, completion in enumerate(completions):
            refused = completion.refusal
            block = parse_completion(completion.text, completion.finish_reason == "stop")
            rows.append({
                "raw_problem_id": content_id(source["concept_set_id"], model, attempt, completion.seed),
                "concept_set_id": source["concept_set_id"],
                "domain": source["domain"],
                "concepts": source["concepts"],
                "level": source["level"],
                "completion": completion.text,
                "rationale": block.rationale,
                "problem": block.problem,
                "drop_reason": refused.reason if refused else block.drop_reason,
                "well_posed": domain.well_posed(block.problem) if block.problem else None,
                "finish_reason": completion.finish_reason,
                "tokens": completion.tokens,
                "seed": completion.seed,
                "logprob": None if refused else completion.logprob,
                "problem_generator": model,
                "batch": source["batch"],
            })  # fmt: skip
    return rows


def well_posed_rates(raw: Iterable[Row]) -> dict[str, float]:
    """Share of all completions of a domain that are well-posed problems, for the domains where that can be told."""
    known: dict[str, Counter[bool | None]] = defaultdict(Counter)
    for row in raw:
        known[row["domain"]][row["well_posed"]] += 1
    return {
        f"well_posed_rate_{domain}": told[True] / told.total()
        for domain, told in sorted(known.items())
        if told[True] or told[False]
    }


def drop_counts(rows: Iterable[Row], column: str = "drop_reason") -> Counter[str]:
    """Dropped rows by reason."""
    return Counter(row[column] for row in rows if row[column] is not None)
