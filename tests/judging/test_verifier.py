import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.judging.verifier import (
    MATHS_GRADER,
    PROGRAM_GRADER,
    Judgement,
    ProblemLabels,
    Question,
    Verifier,
    extract,
)
from promptcot_assets.lake import Row
from promptcot_assets.settings.engines import Sandbox
from sandbox import Pool, SandboxUnavailable

SETTINGS = Sandbox(workers=2, cpu_s=1.0, wall_s=4.0, memory_mb=256)
ECHO = "print(input())"


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with open_verifier(SETTINGS) as verifier:
        yield verifier


def fenced(code: str, fence: str = "python") -> str:
    return f"```{fence}\n{code}\n```"


def cases(*pairs: tuple[str, str], **named: str) -> str:
    return json.dumps([{"stdin": stdin, "expected": expected} | named for stdin, expected in pairs])


EXTRACTION = [  # (domain, completion, what it answers, why)
    ("maths", "<think>a</think>So \\boxed{4}.", "4", "after the think block"),
    ("mini_maths", "<think>\\boxed{3}</think>\\boxed{4}", "4", "not the one in the thoughts"),
    ("maths", "\\boxed{4}", "4", "no think block at all"),
    ("maths", "\\boxed{3} or rather \\boxed{4}", "4", "the last one"),
    ("maths", "\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "nested braces"),
    ("maths", "<think>\\boxed{4}", None, "unfinished thoughts"),
    ("maths", "<think>a</think>4", None, "no box"),
    ("maths", "\\boxed{}", None, "empty box"),
    ("maths", "\\boxed{4", None, "never closed"),
    ("maths", fenced("4"), None, "a program is no maths answer"),
    ("code", fenced(ECHO), ECHO, "the block"),
    ("mini_code", f"<think>{fenced('1')}</think>{fenced(ECHO)}", ECHO, "not the one in the thoughts"),
    ("code", fenced("1") + "\nor\n" + fenced(ECHO), ECHO, "the last one"),
    ("code", fenced(ECHO, "py"), ECHO, "py"),
    ("code", fenced(ECHO, "python3"), ECHO, "python3"),
    ("code", fenced(ECHO, "Python "), ECHO, "capital, space"),
    ("code", f"```python\r\n{ECHO}\r\n```", ECHO, "lines of Windows"),
    ("code", f"<think>{fenced(ECHO)}", None, "unfinished thoughts"),
    ("code", f"<think>{fenced(ECHO)}</think>Done.", None, "only in the thoughts"),
    ("code", ECHO, None, "no block"),
    ("code", fenced(ECHO, "cpp"), None, "another language"),
    ("code", fenced(ECHO, ""), ECHO, "no language"),
    ("code", fenced("3", ""), None, "a sample output"),
    ("code", f"```python\n{ECHO}", None, "never closed"),
    ("code", fenced(" \n"), None, "empty block"),
    ("code", "\\boxed{4}", None, "an answer is no program"),
]


@pytest.mark.parametrize(("domain", "completion", "answer", "why"), EXTRACTION)
def test_extraction(domain: str, completion: str, answer: str | None, why: str) -> None:
    assert extract(domain, completion) == answer


JUDGED: list[tuple[Question, str, bool]] = [
    (Question("mini_maths", "<think>a</think>\\boxed{4}", answer="4"), "ok", True),
    (Question("maths", "\\boxed{\\frac{2}{4}}", answer="1/2"), "ok", True),
    (Question("maths", "\\boxed{5}", answer="4"), "wrong_answer", False),
    (Question("maths", "It is 4.", answer="4"), "wrong_answer", False),
    (Question("maths", "\\boxed{3}, \\boxed{4}", answer="4"), "wrong_answer", False),
    (Question("mini_code", fenced(ECHO), tests=cases(("1", "1"), ("2", "2"))), "ok", True),
    (Question("code", fenced(ECHO), tests=cases(("1", "1"), ("2", "3"))), "wrong_answer", False),
    (Question("code", fenced("print(1"), tests=cases(("1", "1"))), "compile_error", False),
    (Question("code", fenced("1 / 0"), tests=cases(("1", "1"))), "runtime_error", False),
    (Question("code", fenced("while True: pass"), tests=cases(("1", "1"))), "time_limit", False),
    (Question("code", "no program", tests=cases(("1", "1"))), "no_program", False),
    (
        Question("code", fenced("def add(a, b): return a + b"), tests=cases(("1\n2", "3"), fn_name="add")),
        "ok",
        True,
    ),
    (
        Question("code", fenced("def add(a, b): return a - b"), tests=cases(("1\n2", "3"), fn_name="add")),
        "wrong_answer",
        False,
    ),
    (Question("maths", "\\boxed{\\sin(9^{9^{9}})}", answer="4"), "time_limit", False),
    (Question("maths", "\\boxed{\\sum_{k=1}^{4} 1}", answer="4"), "wrong_answer", False),
]


def test_completions_are_judged_in_order_by_what_their_domain_answers(verifier: Verifier) -> None:
    judgements = verifier.judge([question for question, _, _ in JUDGED])
    assert [(one.verdict, one.passed) for one in judgements] == [(verdict, passed) for _, verdict, passed in JUDGED]
    graders = [one.grader for one in judgements]
    assert graders == [MATHS_GRADER if "maths" in question.domain else PROGRAM_GRADER for question, _, _ in JUDGED]
    assert judgements[0].answer == "4" and judgements[5].answer == ECHO and judgements[3].answer is None
    assert judgements[5].rule == "2 of 2 tests"
    assert set(judgements[0].columns()) == {"answer", "verdict", "passed", "rule", "grader"}


ZEROS, THIRD = fenced("print('0101')"), fenced("print(1 / 3)")
BURN = fenced("import time\nwhile time.process_time() < 1.6: pass\nprint(1)")
SUMS = (
    "import sys\na, b, c = (open(name).read() for name in sys.argv[1:])\nprint(int(sum(map(int, c.split())) == int(a)))"
)
BY_ITS_SOURCE: list[tuple[str, str, Row, str, bool | None]] = [
    (ZEROS, cases(("", "101")), {}, "wrong_answer", False),
    (ZEROS, cases(("", "101")), {"judge_profile": "strict"}, "wrong_answer", False),
    (ZEROS, cases(("", "101")), {"judge_profile": "lcb"}, "ok", True),
    (fenced("print(1)\nexit(3)"), cases(("", "1")), {"judge_profile": "lcb"}, "ok", True),
    (THIRD, cases(("", "0.33333")), {}, "wrong_answer", False),
    (THIRD, cases(("", "0.33333")), {"float_tolerance": 1e-4}, "ok", True),
    (BURN, cases(("", "1")), {}, "time_limit", False),
    (BURN, cases(("", "1")), {"cpu_s": 20.0}, "ok", True),
    (BURN, cases(("", "1")), {"judge_profile": "lcb"}, "ok", True),
    (fenced("while True: pass"), cases(("", "1")), {"cpu_s": 0.2}, "time_limit", False),
    (fenced("print(3, 4)"), cases(("7", "1 6")), {"checker": SUMS}, "ok", True),
    (fenced("print(3, 5)"), cases(("7", "1 6")), {"checker": SUMS}, "wrong_answer", False),
    (fenced("print('?')"), cases(("7", "1 6")), {"checker": SUMS}, "wrong_answer", False),
    (fenced("print(3, 4)"), cases(("7", "1 6")), {"checker": "1 / 0"}, "system_error", None),
    (fenced("def f(x): return x"), cases(("1", "one"), fn_name="f"), {}, "system_error", None),
    (fenced("def f(x): return x"), cases(("1", "1"), fn_name="no name"), {}, "system_error", None),
    (THIRD, cases(("", "0")), {"float_tolerance": float("inf")}, "system_error", None),
]


@pytest.fixture(scope="module")
def unmeasured() -> Iterator[Verifier]:
    """Limits as they are written, whatever the speed of this host."""
    with Pool(2, cpu_factor=1.0) as pool:
        yield Verifier(pool, SETTINGS)


def test_programs_are_judged_as_their_source_says(unmeasured: Verifier) -> None:
    """Faults of the tests among them, which cost no neighbour its verdict."""
    questions = [
        Question.on({"domain": "code", "answer": None, "tests": tests} | how, completion)
        for completion, tests, how, _, _ in BY_ITS_SOURCE
    ]
    judgements = unmeasured.judge(questions)
    for (_, _, how, verdict, passed), judgement in zip(BY_ITS_SOURCE, judgements, strict=True):
        assert (judgement.verdict, judgement.passed) == (verdict, passed), (how, judgement)


def test_a_time_limit_of_a_source_is_multiplied_as_the_settings_say(unmeasured: Verifier) -> None:
    patient = Verifier(unmeasured.pool, SETTINGS.model_copy(update={"source_cpu_factor": 100.0}))
    (judgement,) = patient.judge([Question("code", BURN, tests=cases(("", "1")), cpu_s=0.2)])
    assert judgement.passed is True


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        (Question("maths", "\\boxed{4}"), "without a reference answer"),
        (Question("code", fenced(ECHO)), "without tests"),
        (Question("code", "no program"), "without tests"),
    ],
)
def test_a_completion_without_a_reference_is_an_error_and_no_verdict(
    verifier: Verifier, question: Question, missing: str
) -> None:
    with pytest.raises(ValueError, match=missing):
        verifier.judge([question])


@contextmanager
def guests_keep_dying(pool: Pool, every_s: float) -> Iterator[None]:
    """The pool's only worker is killed again and again for as long as the block runs."""
    worker, stop = pool.slots[0].worker(False), threading.Event()

    def keep_killing() -> None:
        while not stop.wait(every_s):
            worker.hang_up()

    killer = threading.Thread(target=keep_killing)
    killer.start()
    try:
        yield
    finally:
        stop.set()
        killer.join()


def lost_verdict(pool: Pool) -> Judgement:
    """What the verifier says of a program whose worker was killed twice while it ran."""
    endless = Question("code", fenced("import time\ntime.sleep(60)"), tests=cases(("", "1")))
    for every_s in (0.3, 0.6, 1.2, 2.4):  # killed while it still starts, a worker is SandboxUnavailable: slower, then
        with guests_keep_dying(pool, every_s), suppress(SandboxUnavailable):
            return Verifier(pool, Sandbox(workers=1)).judge([endless])[0]
    pytest.fail("no worker of the sandbox starts within 2.4 s")


def test_a_failure_of_the_sandbox_is_never_a_fail() -> None:
    with Pool(workers=1) as pool:
        lost = lost_verdict(pool)
        assert (lost.verdict, lost.passed, lost.rule) == ("system_error", None, "sandbox failure")
        verifier = Verifier(pool, Sandbox(workers=1))
        with guests_keep_dying(pool, 0.3), pytest.raises(RuntimeError):
            verifier.outputs(["import time\ntime.sleep(60)"], [""])
        assert verifier.judge([Question("code", fenced(ECHO), tests=cases(("1", "1")))])[0].passed is True


def test_outputs_are_a_matrix_of_programs_and_inputs(verifier: Verifier) -> None:
    programs = [ECHO, "print(int(input()) + 1)", "print(1 / int(input()))", "print("]
    assert verifier.outputs(programs, ["1", "0"]) == [["1", "0"], ["2", "1"], ["1.0", None], [None, None]]
    assert verifier.outputs([], ["1"]) == []


def test_the_limits_of_the_settings_are_those_of_the_sandbox(verifier: Verifier) -> None:
    assert (verifier.limits.cpu_s, verifier.limits.wall_s, verifier.limits.memory) == (1.0, 4.0, 256 << 20)


def test_labels_are_joined_and_problems_without_one_left_out() -> None:
    problems = [{"problem_id": name} for name in ("answered", "tested", "tied", "untrusted", "unasked")]
    answers = [{"problem_id": "answered", "answer": "4"}, {"problem_id": "tied", "answer": None}]
    trusted = [("tested", "1", "2"), ("tested", "3", None), ("tested", "5", "6"), ("untrusted", "1", None)]
    tests = [dict(zip(("problem_id", "stdin", "expected"), case, strict=True)) for case in trusted]
    labels = ProblemLabels(answers, tests)
    assert [labels.on(row) for row in problems if labels.on(row)] == [
        {"problem_id": "answered", "answer": "4", "tests": None},
        {"problem_id": "tested", "answer": None, "tests": cases(("1", "2"), ("5", "6"))},
    ]
