"""Published benchmarks as one kind of row, the prompts they are asked with, and frozen standings.

Their files are read as seeds are (stages/corpus/reading.py), in whatever form they have. Items keep what an Elo needs:
`contest`, `points`, and `sample_tests` (True: they have only the statement's samples).
"""

from __future__ import annotations

from promptcot_assets.domains import domain_named
from promptcot_assets.judging.verifier import JUDGED_BY
from promptcot_assets.lake import Row
from promptcot_assets.settings.profile import PublishedBenchmark
from promptcot_assets.stages.corpus.reading import Reading
from promptcot_assets.stages.corpus.seed_tables import read_files, refuse_empty
from promptcot_assets.stages.corpus.sources import Broken, SeedError, open_source
from promptcot_assets.stages.corpus.values import is_finite

EXTRA = ("contest", "points", "sample_tests", *JUDGED_BY)


def read_items(benchmark: PublishedBenchmark, domain: str) -> tuple[list[Row], list[Row]]:
    """Items of one benchmark as `read_seeds` gives rows, and the rows that are none, each with its reason.

    Raises: SeedError when a source is absent or of no known shape, and when no item is left that can be judged.
    """
    rows: list[Row] = []
    dropped: list[Row] = []
    for reading, read in read_files(benchmark, domain):
        refuse_empty(reading, len(read), "item")
        inside = [row for row in read if _in_window(row, benchmark, reading)]
        late = [row for row in read if row not in inside] if len(inside) < len(read) else []
        rows += inside
        dropped += reading.dropped
        dropped += [_outside(row) for row in late]
    if all(judged_by(row, domain) is None for row in rows):
        what = "an answer" if domain_named(domain).answers == "maths" else "tests"
        raise SeedError(
            f"{', '.join(benchmark.sources)}: no item is left, 0 of {len(rows)} have {what} ({len(dropped)} fell); "
            "`promptcot inspect FILE --as benchmark` shows what is read of it; mend benchmarks.files"
        )
    return rows, dropped


def judged_by(item: Row, domain: str) -> object:
    """The answer or the tests that an item of this domain is judged by; None: it cannot be."""
    return item["answer"] if domain_named(domain).answers == "maths" else item["tests"]


def _outside(row: Row) -> Row:
    where = {"source": row["source"], "row": row["row"], "problem": ascii(row["problem"])[:200]}
    return where | {"reason": "outside the window of dates", "detail": row["date"]}


def _in_window(row: Row, benchmark: PublishedBenchmark, reading: Reading) -> bool:
    """Whether a problem's contest took place on or after `since` and before `until` (ISO dates)."""
    if benchmark.since is None and benchmark.until is None:
        return True
    if row["date"] is None:
        raise SeedError(f"{reading.source}: row {row['row']} has no `contest_date`; leave out since and until")
    return (benchmark.since or "") <= row["date"][:10] < (benchmark.until or "9999")


# ---- standings
STYLES = ("codeforces", "icpc")


def read_standings(source: str) -> list[Row]:
    """Frozen standings: a row a rated participant of a contest, with `contest` (or contest_id), `style`, `rating`,
    `points` and, ICPC style, `penalty` in minutes.

    Raises: SeedError naming file, line and column when one is missing or of the wrong kind.
    """
    rows = [_standing(raw, f"{name}, line {number}") for name, number, raw in open_source(source)]
    if not rows:
        raise SeedError(f"{source}: holds no standings; give one rated participant a line")
    return rows


def _standing(raw: Row | Broken, where: str) -> Row:
    if isinstance(raw, Broken):
        raise SeedError(f"{where}: {raw.reason}")
    contest = raw.get("contest", raw.get("contest_id"))
    if contest is None:
        raise SeedError(f"{where}: no column `contest`; name the contest whose participant this is")
    style = raw.get("style", "codeforces")
    if style not in STYLES:
        raise SeedError(f"{where}: style {style!r}; write one of {', '.join(STYLES)}")
    numbers = {"rating": raw.get("rating"), "points": raw.get("points"), "penalty": raw.get("penalty", 0)}
    for column, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
            raise SeedError(f"{where}: `{column}` is {value!r:.60}; write a number")
    return {"contest": str(contest), "style": style} | {column: float(value) for column, value in numbers.items()}


# ---- prompts
def published_prompt(problem: str) -> str:
    """How the released evaluation files ask for a program that reads standard input (without the chat template)."""
    return (
        "You will be given a question (problem specification) and will generate a correct Python program that matches "
        f"the specification and passes all tests.\n\nQuestion: {problem}\n\nRead the inputs from stdin solve the "
        "problem and write the answer to stdout (do not directly test on the sample inputs). Enclose your code within "
        "delimiters as follows. Ensure that when the python program runs, it reads the inputs, runs the algorithm and "
        "writes output to STDOUT.\n```python\n# YOUR CODE HERE\n```\n\n"
    )


def function_prompt(problem: str) -> str:
    """How LiveCodeBench asks for a function: the starter code is part of the statement."""
    return (
        "You will be given a question (problem specification) and will generate a correct Python program that matches "
        f"the specification and passes all tests.\n\nQuestion: {problem}\n\nYou will use the starter code above to "
        "write the solution to the problem and enclose your code within delimiters.\n```python\n# YOUR CODE HERE\n"
        "```\n\n"
    )
