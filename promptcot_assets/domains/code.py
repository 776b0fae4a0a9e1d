"""Programming problems judged by tests on standard input: Codeforces seeds, LiveCodeBench."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from promptcot_assets.domains.domain import Answers
from promptcot_assets.domains.published import PublishedPrompts

# Lines: a heading such as `### Example 1`; `**Sample Input 2:** 3 4`; what ends an example's output
HEADING = re.compile(r"\W*(?:sample|example)s?(?: (?:input|test|case)s?)*\W*\d*\W*", re.I)
LABEL = re.compile(
    r"\W*(?:(?:sample|example) )?(?P<label>input|output)(?:[ #]*\d+)?[*_ \t]*(?::[*_ \t]*(?P<text>.*))?", re.I
)
END = re.compile(r"\W*(?:sample|example|explanation|note|constraint)", re.I)


class Code(PublishedPrompts):
    name = "code"
    answers: Answers = "program"

    what, kind = "coding problem", "programming "
    instruction = (
        "Write a Python program that reads standard input and writes the answer to standard output. "
        "Put the program in one ```python block."
    )

    def defect(self, problem: str) -> str | None:
        missing = [part for part in ("input", "output") if part not in problem.lower()]
        if missing:
            return f"says nothing of its {' or '.join(missing)}"
        examples = worked_examples(problem)
        outputs = {example["stdin"]: example["expected"] for example in examples}
        contradictory = any(outputs[example["stdin"]] != example["expected"] for example in examples)
        return "contradictory examples" if contradictory else None

    def worked_example(self, problem: str) -> dict[str, str] | None:
        return next(iter(worked_examples(problem)), None)

    def with_worked_example(self, problem: str, expected: str) -> str | None:
        """None too where there are several: what was wrong once may be wrong again."""
        found, known = _examples(problem.splitlines()), worked_examples(problem)
        if len(found) != 1 or not known:
            return None
        lines, (first, *rest) = problem.splitlines(keepends=True), found[0].output_at
        old = problem.splitlines()[first]
        label = LABEL.fullmatch(old)
        head = old[: label.start("text")] if label and label["text"] is not None else ""
        lines[first] = head + expected.strip() + lines[first].removeprefix(old)
        new = "".join(line for at, line in enumerate(lines) if at not in rest)
        return new if worked_examples(new) == [known[0] | {"expected": expected.strip()}] else None


@dataclass
class _Example:
    input: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    output_at: list[int] = field(default_factory=list)  # the lines that have some of it


def worked_examples(problem: str) -> list[dict[str, str]]:
    """The examples {stdin, expected} below a heading that announces them; none where their layout is another."""
    texts = [("\n".join(one.input).strip(), "\n".join(one.output).strip()) for one in _examples(problem.splitlines())]
    return [{"stdin": stdin, "expected": expected} for stdin, expected in texts if stdin and expected]


def _examples(lines: list[str]) -> list[_Example]:
    start = next((at for at, line in enumerate(lines) if HEADING.fullmatch(line)), len(lines))
    found: list[_Example] = []
    into: list[str] | None = None  # where a line belongs
    for at, line in enumerate(lines[start:], start):
        label = LABEL.fullmatch(line)
        if label and (label["label"].lower() == "input" or found):
            if label["label"].lower() == "input":
                found.append(_Example())
                into = found[-1].input
            else:
                into = found[-1].output
            into.append(label["text"] or "")
            if into is found[-1].output and label["text"]:
                found[-1].output_at.append(at)
        elif END.match(line):
            into = None
        elif into is not None and not line.lstrip().startswith("```"):
            into.append(line)
            if into is found[-1].output and line.strip():
                found[-1].output_at.append(at)
    return found
