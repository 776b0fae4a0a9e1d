"""The arc with a problem, a trace and an answer that would like to be more than text."""

from __future__ import annotations

from tests.small_home import BATCH, Home

SCRIPT = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
CLOSING = "</div></main></body><iframe src=https://evil.example/></iframe>"
MEGABYTE = "x" * (1 << 20)
RIGHT_TO_LEFT = "\u202egnp.exe \u2067 and \u200f back"
LATEX = "$\\frac{$ and $\\href{javascript:alert(1)}{x}$ and \\[\\begin{matrix} 1 & 2"


def make_hostile(home: Home) -> None:
    """Commit one more problem, with its label and trace, to the batch."""
    p = home.models["problem_generator"]
    about = {"concept_set_id": "set_1", "batch": BATCH, "problem_generator": p, "concepts": [SCRIPT, "ratios"]}
    home.commit(
        "raw_problems",
        [{"raw_problem_id": "raw_9", "problem": SCRIPT, "completion": CLOSING, **about}],
        "concept_sets",
        "problem_generator",
        partition=BATCH,
    )
    home.commit(
        "problems",
        [{"problem_id": "problem_9", "raw_problem_id": "raw_9", "problem": SCRIPT + CLOSING + RIGHT_TO_LEFT,
          "rationale": MEGABYTE, "level": SCRIPT, **about}],
        "raw_problems",
        "benchmark_items",
        partition=BATCH,
    )  # fmt: skip
    home.commit(
        "math_answers",
        [{"label_id": "label_9", "problem_id": "problem_9", "answer": SCRIPT, "voter": SCRIPT, "votes": 2, "asked": 2,
          "answers": [SCRIPT, LATEX]}],
        "problems",
        partition=BATCH,
    )  # fmt: skip
    home.commit("code_tests", [], "problems", partition=BATCH)
    home.commit(
        "teacher_traces",
        [{"trace_id": "trace_9", "problem_id": "problem_9", "trace": LATEX + SCRIPT, "teacher": CLOSING}],
        "problems",
        "math_answers",
        "code_tests",
        partition=BATCH,
    )
    home.publish()
