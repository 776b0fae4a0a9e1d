# ruff: noqa: E501
"""Files in the exact shape of the released evaluation files, with problems invented here: AIME, HMMT, GSM8K, Codeforces
and annotated seeds, wrapped in chat templates as those are.

    write(folder)  ->  folder/aime24.jsonl, aime25.jsonl, hmmt25.jsonl, gsm8k.jsonl, codeforces.jsonl,
    seed_triples_math.jsonl

Every text is made of sentences drawn by a seed of its own: the same in every run, none twice, and no thirteen words
of a seed in a benchmark item. Answers are computed. Free of others' rights, like the rest of the repository.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path

Row = dict[str, object]

COUNTS = {"aime24": 30, "aime25": 30, "hmmt25": 30, "gsm8k": 120, "codeforces": 60, "seed_triples_math": 150}
UNBOXED = 9  # of AIME 24: solutions that box nothing
CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n"
BOXED = "{}\nPlease reason step by step, and put your final answer within \\boxed{{}}."
DEEPSEEK = "<｜begin▁of▁sentence｜>Please reason step by step, and put your final answer within \\boxed{{{{}}}}.<｜User｜>{}<｜Assistant｜>"
PROGRAM = (
    "You will be given a question (problem specification) and will generate a correct Python program that matches the "
    "specification and passes all tests.\n\nQuestion: {}\n\nRead the inputs from stdin solve the problem and write the "
    "answer to stdout (do not directly test on the sample inputs). Enclose your code within delimiters as follows. Ensure "
    "that when the python program runs, it reads the inputs, runs the algorithm and writes output to STDOUT.\n```python\n"
    "# YOUR CODE HERE\n```\n\n"
)
NAMES = (
    "Ada",
    "Bilal",
    "Chen",
    "Dara",
    "Edda",
    "Femi",
    "Goran",
    "Hana",
    "Ilse",
    "Jomo",
    "Kaya",
    "Luis",
    "Mina",
    "Noor",
)
PLACES = ("harbour", "orchard", "library", "workshop", "market", "lighthouse", "quarry", "bakery", "garden", "station")
THINGS = ("lanterns", "pears", "ledgers", "gears", "baskets", "lenses", "stones", "loaves", "bulbs", "tickets", "ropes")
TIMES = ("at dawn", "on a rainy Monday", "after the long winter", "before the ferry leaves", "while the bells ring")
COLOURS = ("red", "amber", "grey", "violet", "teal", "ivory", "copper", "black")


def write(folder: Path, counts: Mapping[str, int] = COUNTS) -> Path:
    """Write the files, each with so many rows. Returns the folder."""
    for name, count in counts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(name, count)))
    return folder


def rows(name: str, count: int | None = None) -> list[Row]:
    numbers = range(COUNTS[name] if count is None else count)
    return [WRITERS[name](random.Random(f"{name} {number}"), number, name) for number in numbers]


def _scene(rng: random.Random) -> str:
    """Thirty-odd words that hardly two texts share a run of."""
    one, other = rng.sample(NAMES, 2)
    first, second = rng.sample(THINGS, 2)
    return (
        f"{one} keeps {rng.randint(3, 97)} {rng.choice(COLOURS)} {first} in the {rng.choice(PLACES)} and {other} brings "
        f"{rng.randint(3, 97)} {rng.choice(COLOURS)} {second} {rng.choice(TIMES)} from the {rng.choice(PLACES)}"
    )


def _competition(rng: random.Random, number: int, name: str) -> Row:
    a, b, c = rng.randint(11, 99), rng.randint(3, 9), rng.randint(101, 997)
    problem = (
        f"{_scene(rng)}. Let $S_{{{number}}}$ be the remainder when ${a}^{{{b}}}+{c}$ is divided by $1000$, counted by "
        f"{rng.choice(NAMES)} with {rng.choice(COLOURS)} chalk. Find $S_{{{number}}}$."
    )
    answer = (a**b + c) % 1000
    worked = f"\\boxed{{{answer:03d}}}" if name == "aime24" else f"\\boxed{{{answer}}}"
    if name == "aime24" and number < UNBOXED:
        worked = f"the remainder is {answer}"
    return {"idx": number, "prompt": CHATML.format(BOXED.format(problem)),
            "reference_solution": f"We compute ${a}^{{{b}}}$ and so {worked}.\n#### {answer}", "source": name}  # fmt: skip


def _exact(rng: random.Random, number: int, name: str) -> Row:
    p, q = rng.choice((2, 3, 5, 7, 11, 13)), rng.randint(2, 40)
    top, bottom = rng.randint(1, 60), rng.randint(2, 60)
    shared = math.gcd(top, bottom)
    kinds = (
        str(top * q), f"{q}\\sqrt{{{p}}}", f"\\frac{{{top // shared}}}{{{max(bottom // shared, 1)}}}",
        f"\\frac{{{q}\\pi}}{{{q + 1}}}", f"2^{{{q + 10}}}", f"{q}+\\sqrt{{{p}}}",
    )  # fmt: skip
    answer = kinds[number % len(kinds)]
    problem = (
        f"{_scene(rng)}. Write the number that {rng.choice(NAMES)} marks with a {rng.choice(COLOURS)} pin at place {number} "
        f"of the list as ${answer}$, doubled and halved again. Compute that number exactly."
    )
    return {"idx": number, "prompt": CHATML.format(BOXED.format(problem)),
            "reference_solution": f"\\boxed{{{answer}}}\n#### {answer}", "source": "hmmt_feb_2025"}  # fmt: skip


def _word_problem(rng: random.Random, number: int, name: str) -> Row:
    a, b, c = rng.randint(3, 60), rng.randint(2, 12), rng.randint(1, 40)
    thing, who = rng.choice(THINGS), rng.choice(NAMES)
    problem = (
        f"{_scene(rng)}. Then {who} fills {b} crates with {a} {thing} each and gives {c} of them to the {rng.choice(PLACES)} "
        f"{rng.choice(TIMES)}. How many {thing} does {who} still have?"
    )
    worked = f"{who} has {a} * {b} = <<{a}*{b}={a * b}>>{a * b} {thing}.\nThen {a * b} - {c} = {a * b - c} are left."
    return {"idx": number, "prompt": DEEPSEEK.format(problem),
            "reference_solution": f"{worked}\n#### {a * b - c}", "source": "gsm8k"}  # fmt: skip


def _program(rng: random.Random, number: int, name: str) -> Row:
    factor, shift = rng.randint(2, 90), rng.randint(1, 90)
    problem = (
        f"{_scene(rng)}. The clerk multiplies every entry by {factor} and adds {shift}.\n\nInput\n\nThe first line contains "
        f"a single integer $t$ — the number of entries of {rng.choice(NAMES)}.\n\nThe only line of each entry contains one "
        f"integer $x$.\n\nOutput\n\nFor each entry, output what the clerk of the {rng.choice(PLACES)} writes down."
    )
    samples = [[rng.randint(0, 99) for _ in range(rng.randint(1, 5))] for _ in range(1 + number % 5 // 4)]
    cases = {
        "inputs": ["\n".join(map(str, [len(xs), *xs])) for xs in samples],
        "outputs": ["\n".join(str(x * factor + shift) for x in xs) for xs in samples],
    }
    return {"prompt": CHATML.format(PROGRAM.format(problem)), "input_output": json.dumps(cases)}


def _triple(rng: random.Random, number: int, name: str) -> Row:
    a, b = rng.randint(2, 400), rng.randint(2, 400)
    problem = (
        f"A {rng.choice(COLOURS)} rectangle has one side of length ${a}$ and another of length ${b}$. Its diagonal is drawn "
        f"in {rng.choice(COLOURS)} ink. Enter the square of the diagonal's length, as exercise {number} asks."
    )
    return {
        "concepts": [
            "Pythagorean theorem",
            "rectangles and their diagonals",
            rng.choice(("squares of integers", "sums")),
        ],
        "rationale": f"Take sides {a} and {b}, whose squares are easily added; ask for the square so that no root is left.",
        "problem": DEEPSEEK.format(problem),
        "solution": f"By the theorem it is ${a}^2 + {b}^2 = \\boxed{{{a * a + b * b}}}.$\n#### {a * a + b * b}",
    }


WRITERS: dict[str, Callable[[random.Random, int, str], Row]] = {
    "aime24": _competition, "aime25": _competition, "hmmt25": _exact, "gsm8k": _word_problem, "codeforces": _program,
    "seed_triples_math": _triple,
}  # fmt: skip
