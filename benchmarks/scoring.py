"""What the E-step's reward costs: both terms of K = 8 candidates a seed under p, three ways, equal to 1e-4 nats.

    python -m benchmarks.scoring [ROUNDS]

Ours is one teacher-forced pass over c, z, x with c computed once for its K candidates. Its peers: a Hugging Face
forward with all its logits for every candidate alone, and our engine asked twice, for log p(z|c) and for log p(x|z,c).
All begin with texts and end with two numbers a candidate. They take turns in one process on one thread, in CPU time
(the cores are shared); the best of ROUNDS counts. Model (0.5M weights) and candidates are the mini world's, as in the
demo; prompts get longer from table to table, because that is what sharing them lives on.

The limit is a forward that is nothing but its matrix products (`flops`), at the rate of a float32 matmul in the same
run: a big one, and one in the shape of the model's own. Each way is held against the products of its own forward, for
ours c once and no padding.

The last line of a table is the whole machine by the wall clock, so for an idle one: naive with the threads that torch
takes by itself against our engine with one worker a core, as the profiles have it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.engine import Size
from promptcot_assets.domains import DOMAINS, mini_maths, procedural_domain
from promptcot_assets.domains.annotators import annotate
from promptcot_assets.domains.layout import TOKENIZER_MARKERS, problem_block, rationale_block
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.stages.base_models import from_scratch

OWN_THREADS = torch.get_num_threads()
K, SEEDS, ROWS_AT_ONCE, TOLERANCE = 8, 32, 16, 1e-4
ANNOTATORS = {"planner": 3.0, "partial": 1.0, "chatty": 1.0, "careless": 1.0}
PROMPTS = (("mini_maths", 1), ("maths", 1), ("maths", 6), ("maths", 24))  # layout, times the seed's concepts
Terms = list[tuple[float, float]]  # log p(z|c) and log p(x|z,c) of every candidate, nats


@dataclass(frozen=True)
class Candidate:
    """What p scores; `rationale` and `problem` are the blocks with their markers."""

    prompt: str
    rationale: str
    problem: str


def candidates(layout: str, repeated: int) -> list[Candidate]:
    """K rationales in all styles for every seed of the mini world, after the prompt of the domain `layout`."""
    world, rng = procedural_domain("mini_maths"), random.Random(0)
    rows = []
    for seed in world.write_seeds(SEEDS, 0, ANNOTATORS, 0).train:
        prompt = DOMAINS[layout].generator_prompt(seed.concepts * repeated, seed.level)
        problem, other = mini_maths.parse(seed.problem), mini_maths.parse(world.write(seed.concepts, rng))
        for annotator in rng.choices(list(ANNOTATORS), list(ANNOTATORS.values()), k=K):
            rationale = annotate(annotator, problem, other, seed.concepts, rng)
            rows.append(Candidate(prompt, rationale_block(rationale), problem_block(seed.problem)))
    return rows


def naive(model: Any, tokenizer: Any, rows: list[Candidate]) -> Terms:
    """One forward a candidate: logits of every position, the log-probability table of all of them."""
    terms = []
    for row in rows:
        prompt, z, x = (tokenizer(text)["input_ids"] for text in (row.prompt, row.rationale, row.problem))
        ids = torch.tensor([[*prompt, *z, *x, tokenizer.eos_token_id]])
        with torch.inference_mode():
            table = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        scores = table.gather(-1, ids[0, 1:, None])[:, 0].tolist()
        middle = len(prompt) + len(z) - 1
        terms.append((sum(scores[len(prompt) - 1 : middle]), sum(scores[middle:])))
    return terms


def two_passes(engine: TransformersEngine, rows: list[Candidate]) -> Terms:
    rationales = engine.score([row.prompt for row in rows], [row.rationale for row in rows], end=False)
    problems = engine.score([row.prompt + row.rationale for row in rows], [row.problem for row in rows])
    return [(sum(z.logprobs), sum(x.logprobs)) for z, x in zip(rationales, problems, strict=True)]


def one_pass(engine: TransformersEngine, rows: list[Candidate]) -> Terms:
    """As stages/em/loop.py does: the sum splits at the character where the problem block starts."""
    scores = engine.score([row.prompt for row in rows], [row.rationale + row.problem for row in rows])
    terms = []
    for row, one in zip(rows, scores, strict=True):
        middle = sum(offset < len(row.rationale) for offset in one.offsets)
        terms.append((sum(one.logprobs[:middle]), sum(one.logprobs[middle:])))
    return terms


def matmul(rows: int, inner: int, columns: int, repeats: int) -> tuple[Callable[[], None], float]:
    """A float32 product of matrices, repeated, and its floating-point operations."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(a, b)

    return multiply, 2.0 * rows * inner * columns * repeats


def flops(config: Any, read: int, attended: int, predicted: int) -> float:
    """Floating-point operations of a forward pass's matrix products; a multiplication and its addition are two.

        2 read L (2 h H d + 2 h G d + 3 h f)  +  4 attended L H d  +  2 predicted h V

    projections and MLP of L layers (h: hidden size; H query and G key-value heads of width d; f: MLP), attention scores
    and their sums of values, the head (V: vocabulary). read: positions that go through the layers; attended: pairs of a
    query and a key up to it; predicted: positions whose logits are computed.
    """
    h, query, key = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    weights = 2 * h * (query + key) * config.head_dim + 3 * h * config.intermediate_size
    layers = config.num_hidden_layers * (2 * read * weights + 4 * attended * query * config.head_dim)
    return float(layers + 2 * predicted * h * config.vocab_size)


def needed(config: Any, prompts: list[int], tails: list[int]) -> tuple[float, float]:
    """`flops` of candidates scored alone with all logits, and with the prompt of K once and logits where scored."""
    whole = [prompt + tail for prompt, tail in zip(prompts, tails, strict=True)]
    once = prompts[::K]
    pairs, pairs_of_prompts = (sum(n * (n + 1) // 2 for n in lengths) for lengths in (whole, once))
    return (
        flops(config, sum(whole), pairs, sum(whole)),
        flops(config, sum(tails) + sum(once), pairs - (K - 1) * pairs_of_prompts, sum(tails)),
    )


def best(rounds: int, *peers: Callable[[], Any]) -> list[float]:
    """CPU seconds of each peer; they take turns."""
    seconds = [float("inf")] * len(peers)
    for _ in range(rounds):
        for index, peer in enumerate(peers):
            start = time.process_time()
            peer()
            seconds[index] = min(seconds[index], time.process_time() - start)
    return seconds


def machine(model: Path, rows: list[Candidate], expected: Terms, rounds: int) -> tuple[float, float]:
    """Candidates a second by the wall clock: the engine with a worker a core, and naive with torch's own threads."""
    reference, tokenizer = AutoModelForCausalLM.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    seconds = [float("inf")] * 2
    with TransformersEngine(model, workers=os.cpu_count() or 1, score_batch_size=ROWS_AT_ONCE) as engine:
        check(one_pass(engine, rows), expected)  # the workers have started
        for _ in range(rounds):
            for index, peer in enumerate((lambda: one_pass(engine, rows), lambda: naive(reference, tokenizer, rows))):
                torch.set_num_threads(OWN_THREADS if index else 1)
                start = time.perf_counter()
                peer()
                seconds[index] = min(seconds[index], time.perf_counter() - start)
    torch.set_num_threads(1)
    return len(rows) / seconds[0], len(rows) / seconds[1]


def check(terms: Terms, expected: Terms) -> None:
    pairs = zip(terms, expected, strict=True)
    apart = max(abs(a - b) for ours, naive_ones in pairs for a, b in zip(ours, naive_ones, strict=True))
    if apart > TOLERANCE:
        raise SystemExit(f"the terms are {apart:.2g} nats from the naive ones, more than {TOLERANCE}")


def compare(model: Path, rows: list[Candidate], rounds: int) -> None:
    reference, tokenizer = AutoModelForCausalLM.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    config = reference.config
    prompts = [len(ids) for ids in tokenizer([row.prompt for row in rows])["input_ids"]]
    tails = [len(ids) + 1 for ids in tokenizer([row.rationale + row.problem for row in rows])["input_ids"]]
    big, big_work = matmul(1024, 1024, 1024, 4)
    shaped, shaped_work = matmul(ROWS_AT_ONCE * 100, config.hidden_size, config.intermediate_size, 50)
    with TransformersEngine(model, score_batch_size=ROWS_AT_ONCE) as engine:
        expected = naive(reference, tokenizer, rows)
        check(one_pass(engine, rows), expected)
        usage = engine.usage
        check(two_passes(engine, rows), expected)
        alone, twice, once, big_seconds, shaped_seconds = best(
            rounds, lambda: naive(reference, tokenizer, rows), lambda: two_passes(engine, rows),
            lambda: one_pass(engine, rows), big, shaped,
        )  # fmt: skip
    peaks = big_work / big_seconds, shaped_work / shaped_seconds
    of_naive, of_ours = needed(config, prompts, tails)

    def line(name: str, seconds: float, work: float | None) -> None:
        shares = "" if work is None else "  ".join(f"{work / seconds / peak:5.0%}" for peak in peaks)
        print(f"  {name:<26}{len(rows) / seconds:6.0f} candidates a CPU second   {shares}")

    print(f"c {sum(prompts) / len(rows):.0f} tokens, z and x {sum(tails) / len(rows):.0f}")
    line("naive", alone, of_naive)
    line("two passes, c shared", twice, None)
    line("one pass, c shared", once, of_ours)
    line("  the limit of that", of_ours / peaks[0], of_ours)
    shares = usage.rates()
    cores, by_itself = machine(model, rows, expected, rounds)
    padded, shared = shares["padded_share"], shares["shared_prompt_share"]
    print(
        f"  one pass / naive {alone / once:.2f}x, / two passes {twice / once:.2f}x; "
        f"{padded:.1%} of positions padded, {shared:.0%} of prompt tokens shared\n"
        f"  whole machine: one pass {cores:.0f}, naive {by_itself:.0f} candidates a second, {cores / by_itself:.2f}x"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.set_num_threads(1)
    every = [candidates(*prompt) for prompt in PROMPTS]
    print("last columns: share of a big float32 matmul's rate, and of one shaped like the model's")
    with tempfile.TemporaryDirectory() as name:
        texts = [row.prompt + row.rationale + row.problem for rows in every[:2] for row in rows]
        model = from_scratch(texts, Size(max_position=1024), Path(name) / "model", markers=TOKENIZER_MARKERS)
        for rows in every:
            compare(model, rows, rounds)


if __name__ == "__main__":
    main()
