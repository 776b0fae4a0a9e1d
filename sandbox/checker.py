"""Programs that decide whether an output is right, for problems with several right answers.

A checker finds all it needs in either of two forms: on stdin the JSON object {input, output, expected}; and as files,
whose names are its arguments in the order of open-r1's Codeforces (`checker.py input.txt expected.txt output.txt`). It
prints `ok` or `1`, `wrong` or `0`. Whatever else it does is a failure of ours: `system_error`, unless it has a word for
the expected output. Then it was this one output that it could not take, and that output is wrong.
"""

from __future__ import annotations

import json

from sandbox import judge
from sandbox.model import Limits, Program, Test, Verdict
from sandbox.worker import Ending

CHECKER_LIMITS = Limits()  # of a checker wherever one is asked, whatever the limits of the programs that it judges
WORDS = {"ok": Verdict.OK, "1": Verdict.OK, "1.0": Verdict.OK, "true": Verdict.OK}
WORDS |= {"wrong": Verdict.WRONG_ANSWER, "0": Verdict.WRONG_ANSWER, "0.0": Verdict.WRONG_ANSWER}
WORDS |= {"false": Verdict.WRONG_ANSWER}

RUNNER = Program("""
import io, json, sys
def prepare(told):
    names = [f"/scratch/{name}.txt" for name in ("input", "expected", "output")]
    for name, part in zip(names, ("input", "expected", "output")):
        with open(name, "w", errors="surrogateescape") as file:
            file.write(told[part])
    sys.argv = ["checker.py", *names]
    sys.stdin = io.StringIO(json.dumps({part: told[part] for part in ("input", "output", "expected")}))
    return compile(told["checker"], "checker.py", "exec")
exec(prepare(json.load(sys.stdin)), {"__name__": "__main__", "__file__": "/checker.py"})
""")


def question(checker: Program, test: Test, output: str) -> str:
    """What RUNNER reads."""
    return json.dumps({"checker": checker.code, "input": test.stdin, "output": output, "expected": test.expected})


def checked(ending: Ending, limits: Limits) -> Verdict:
    """A checker's one word as a verdict."""
    if judge.failure(ending, limits) is not None:
        return Verdict.SYSTEM_ERROR
    return word(ending.stdout.decode(errors="replace"))


def word(printed: str) -> Verdict:
    """What a checker that came to a good end says; `system_error` where it is none of its words."""
    return WORDS.get(printed.strip().lower(), Verdict.SYSTEM_ERROR)
