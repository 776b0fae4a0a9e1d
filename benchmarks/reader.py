"""How long the reader's pages take on a large batch, and how large a static export is.

    python -m benchmarks.reader [PROBLEMS] [EXPORTED]

A home with one batch of PROBLEMS problems (20,000) of the length of real ones, each with its completion, label and
trace. Every page is asked for through the server's own HTTP; beside it stands, in the same run, the plain DuckDB query
that reads the rows of that page from the catalogue: the ratio is what the page costs over its data. The first request
reads the logs of all tables, those after it do not. Then a batch of EXPORTED problems (3,000) is written as files.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from starlette.testclient import TestClient

from promptcot_assets.reports.query import query
from promptcot_assets.reports.reader.export import export
from promptcot_assets.reports.reader.server import LOOPBACK, Reader
from tests.small_home import BATCH, Home, cold_start, em, seeds

PROBLEMS, EXPORTED = 20_000, 3_000
TRIES = 5
SENTENCE = (
    "let the number of ordered pairs integers such that sum product prime remainder modulo triangle circle radius find "
    "value largest smallest sequence terms each function positive real roots polynomial vertices area probability"
)
WORDS = SENTENCE.split()
RARE = "heptadecagon"  # in one problem of a thousand


def text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def fill(home: Home, problems: int) -> None:
    """A batch of problems of about 80 words with traces of about 400."""
    for part in (seeds, cold_start, em):
        part(home)
    chance, at = random.Random(0), {"partition": BATCH}
    home.commit(
        "concept_sets", [{"concept_set_id": "set_1", "concepts": ["ratios"], "seed_problem_ids": '["seed_1"]'}],
        "seed_problems", "concept_corpus", **at,
    )  # fmt: skip
    p = home.models["problem_generator"]
    rows = [
        {"raw_problem_id": f"raw_{n}", "concept_set_id": "set_1", "problem_generator": p, "batch": BATCH,
         "rationale": text(chance, 150),
         "problem": f"{n}: {text(chance, 80)} $x^2 + {n}$ {RARE if n % 1000 == 7 else ''}"}
        for n in range(problems)
    ]  # fmt: skip
    home.commit("raw_problems", rows, "concept_sets", "problem_generator", **at)
    kept = [{"problem_id": f"problem_{n}", **row, "concepts": ["ratios"]} for n, row in enumerate(rows)]
    home.commit("problems", kept, "raw_problems", "benchmark_items", **at)
    about = [{"problem_id": f"problem_{n}"} for n in range(problems)]
    labels = [
        {"label_id": f"label_{n}", "answer": str(n % 97), "answers": [str(n % 97)] * 8, "votes": 8, "voter": "v", **one}
        for n, one in enumerate(about)
    ]  # fmt: skip
    home.commit("math_answers", labels, "problems", **at)
    home.commit("code_tests", [], "problems", **at)
    traces = [
        {"trace_id": f"trace_{n}", "trace": text(chance, 400), "valid": True, "teacher": "t", **one}
        for n, one in enumerate(about)
    ]
    home.commit("teacher_traces", traces, "problems", "math_answers", "code_tests", **at)
    home.publish()


def median(of: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds of the first call, the median of the next ones, and the median of their CPU seconds."""
    taken, worked = [], []
    for _ in range(TRIES + 1):
        began, cpu = time.perf_counter(), time.process_time()
        of()
        taken.append(time.perf_counter() - began)
        worked.append(time.process_time() - cpu)
    return taken[0], statistics.median(taken[1:]), statistics.median(worked[1:])


def main() -> None:
    problems, exported = (int(sys.argv[at]) if len(sys.argv) > at else (PROBLEMS, EXPORTED)[at - 1] for at in (1, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home"
        fill(Home(path), problems)
        reader = Reader(path)
        client = TestClient(reader.application(), base_url=f"http://{LOOPBACK}")

        def page(address: str) -> Callable[[], object]:
            def ask() -> object:
                answer = client.get(f"/{reader.token}/{address}")
                assert answer.status_code == 200, answer.text[:300]
                return answer

            return ask

        rows, having = "from problems order by problem_id limit 50", "from problems where problem ilike"
        asked = {
            "front page": ("index.html", "select count(*) from problems"),
            "list": ("problems/index.html", rows),
            "last page of the list": (f"problems/index.html?page={problems // 50}", f"{rows} offset {problems - 50}"),
            "search, a rare word": (f"problems/index.html?q={RARE}", f"{having} '%{RARE}%' limit 50"),
            "search, a common word": ("problems/index.html?q=triangle", f"{having} '%triangle%' limit 50"),
            "labels by their votes": (
                "math_answers/index.html?sort=votes&desc=1",
                "from math_answers order by votes desc, label_id limit 50",
            ),
            "one problem": ("problems/problem_7.html", "from problems where problem_id = 'problem_7'"),
        }  # fmt: skip
        print(f"{problems:,} problems; seconds: first request, median of {TRIES} more, CPU of these; over plain DuckDB")
        for name, (address, plain) in asked.items():
            first, usual, cpu = median(page(address))
            _, peer, _ = median(lambda plain=plain: query(path, plain))  # type: ignore[misc]
            print(f"{name:24}{first:8.2f}{usual:8.2f}{cpu:8.2f}{usual / peer:8.1f}x")

        began = time.perf_counter()
        done = export(path, Path(folder) / "out", "problems", BATCH, sample=exported)
        size, seconds = f"{done.bytes / 1e6:.1f} MB, {done.pages:,} pages", time.perf_counter() - began
        print(f"export of {done.records:,}: {size}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
