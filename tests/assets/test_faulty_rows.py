"""A folder with one of every fault to a hundred rows: the arc comes to its last screen, and each fault is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.inference.refusals import TOO_LONG
from promptcot_assets.lake.ids import in_share
from tests import published_samples
from tests.assets.arc_runs import PROMPTCOT, run
from tests.assets.real_shapes import PROFILE, Arc, arc_on
from tests.stages.corpus.public_forms import ADD, LIVE, NUMINA, STDIN, YES, packed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # two minutes of CPU: long on a busy machine

GOOD = 100
LONG = next(  # a training problem, far above the model's 2,048 positions
    text
    for n in range(100)
    if not in_share(0.15, "held out", text := f"Problem {n}: {'add one and then two. ' * 4000}".strip())
)
NOTES: dict[str, Any] = {"concepts": ["sums", "whole numbers"], "rationale": "Take small numbers.", "solution": "Add."}
PROOF = "a proof is asked for, which has no answer to grade"
NAN = "the answer is NaN or infinite; write a number, or leave the answer out"
AGAIN = "same text as an earlier seed"
INVALID = "its source says that the problem or the solution is not valid"
TESTS = "unusable tests: the packed tests are "
Rows = list[tuple[Any, str | None]]  # a row as it is written, and the reason it falls with; None: it stays
OWN: Rows = [
    ({"problem": LONG, "answer": "3", **NOTES}, None),
    ({"problem": "What is boxed here?", "answer": r"\boxed{3}", **NOTES}, None),
    (b'{"problem": "caf\xe9?", "answer": "1"}', "not UTF-8; save the file as UTF-8 or delete the row"),
    (b'{"problem": "What is', "not JSON; mend or delete the line"),
    (b'["What is 1?", "1"]', "a JSON list, not an object; write the row as {column: value}"),
    (b'{"problem": "Half of what \\ud800?", "answer": "1"}', "text is not valid Unicode; mend or delete the row"),
    ({"problem": "  ", "answer": "1"}, "empty problem"),
    ({"problem": 5, "answer": "1"}, "the problem is a int, not text; write the statement as one string"),
    ({"problem": "Is it?", "answer": float("nan")}, NAN),
    ({"problem": "What is in it?", "answer": r"\boxed{}"},
     "the answer is an empty box, or one that never closes; write what is in the box"),
    ({"problem": "Where is it?", "answer": "notfound"}, "the source did not find the answer"),
    ({"problem": "Why is it?", "concepts": 7}, '`concepts` must be a list of strings, as ["ratios", "sums"]'),
    ({"problem": "Twice?", "answer": "1"}, None),
    ({"problem": "Twice?", "answer": "1"}, AGAIN),
    ({"problem": "Twice?", "answer": "2"}, AGAIN + ", with another answer; keep the row that is right"),
]  # fmt: skip
NUMINA_ROWS: Rows = [
    ({"problem": "Prove it.", "answer": "proof"}, PROOF),
    ({"problem": "Prove that.", "answer": "x", "question_type": "proof"}, PROOF),
    ({"problem": "Which?", "answer": "1", "problem_is_valid": "Incomplete"}, INVALID),
    ({"problem": "Whose?", "answer": "1", "solution_is_valid": "No"}, INVALID),
]  # fmt: skip
LIVE_ROWS: Rows = [
    ({"private_test_cases": packed(STDIN)[:-8]}, TESTS + "cut off; download the file again"),
    ({"private_test_cases": "AAAA"}, TESTS + "damaged; download the file again"),
    ({"private_test_cases": "[1"}, "unusable tests: the column is not JSON; mend or delete the row"),
]
LIVE_ROW = LIVE | {"starter_code": "", "metadata": "{}", "public_test_cases": json.dumps(STDIN)}


def own_rows() -> Rows:
    return [({**row, "answer": "4"}, None) for row in published_samples.rows("seed_triples_math", GOOD)] + OWN


def files() -> dict[str, Rows]:
    """The folder: name of a file -> its rows, each with the reason it falls with. Good ones come first."""
    numina = {"solution": "It is so.", **NUMINA, **YES}
    good: Rows = [({"problem": f"What is {n} + 1?", "answer": f"{n + 1}"}, None) for n in range(GOOD)]
    sums: Rows = [({"private_test_cases": packed(STDIN * 2)}, None)] * 3
    live = [
        ({**LIVE_ROW, "question_content": f"{ADD} ({n})", **row}, why) for n, (row, why) in enumerate(sums + LIVE_ROWS)
    ]
    return {
        "lcb/test.jsonl": live,
        "numina.jsonl": [(numina | row, why) for row, why in good + NUMINA_ROWS],
        "own.jsonl": own_rows(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def arc(tmp_path_factory: pytest.TempPathFactory) -> Arc:
    folder = tmp_path_factory.mktemp("faulty")
    for name, rows in files().items():
        path = folder / "seeds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row, _ in rows]
        path.write_bytes(b"\n".join(lines) + b"\n")
    return arc_on(folder / "seeds", folder / "home")


def asked(arc: Arc, query: str) -> list[dict[str, Any]]:
    done = run([*PROMPTCOT, "sql", query, "--json"], arc.home, PROMPTCOT_PROFILE=str(PROFILE), SEEDS="-")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_the_arc_comes_to_its_last_screen_and_every_fault_is_a_row(arc: Arc) -> None:
    assert not arc.error, arc.error
    expected = [(name, at, why) for name, rows in files().items() for at, (_, why) in enumerate(rows, 1) if why]
    found = asked(arc, "select source, source_row, reason from dropped_seed_rows order by all")
    assert [(row["source"], row["source_row"], row["reason"]) for row in found] == sorted(expected)
    stayed = sum(not why for rows in files().values() for _, why in rows)
    assert asked(arc, "select count(*) as n from seed_problems") == [{"n": stayed}]
    (boxed,) = asked(arc, "select answer, solution from seed_problems where problem = 'What is boxed here?'")
    assert boxed["answer"] == "3" and "\\boxed{\\boxed" not in boxed["solution"]
    assert asked(arc, "select count(tests) as n from seed_problems where domain = 'code'") == [{"n": 3}]


def test_the_page_shows_how_the_rows_are_asked_for(arc: Arc) -> None:
    page = (Path(__file__).parents[2] / "docs" / "real_seeds.md").read_text()
    queries = [line.split('"')[1] for line in page.splitlines() if line.startswith("promptcot sql ")]
    assert len(queries) == 3 and all(asked(arc, query) for query in queries)


def test_a_problem_that_no_model_can_read_is_counted_where_it_falls(arc: Arc) -> None:
    """It is a sound row, so it stays a seed; each stage that asks a model counts it."""
    found = asked(arc, "select problem, lost_because from em_rationales where finish_reason = lost_because")
    assert {(row["problem"], row["lost_because"]) for row in found} == {(LONG, TOO_LONG)}
