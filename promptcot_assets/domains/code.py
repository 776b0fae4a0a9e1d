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
        """None too where there are several examples, since what was wrong once may be wrong again, and where the output
        has not as many lines as the new one, all together: what else stands there may be no output at all."""
        found, known = _examples(problem.splitlines()), worked_examples(problem)
        new = expected.strip().splitlines()
        if len(found) != 1 or not known:
            return None
        places = found[0].output_at
        if len(places) != len(new) or places[-1] - places[0] + 1 != len(places):
            return None
        lines = problem.splitlines(keepends=True)
        for at, output in zip(places, new, strict=True):
            lines[at] = _with_output(lines[at], output)
        text = "".join(lines)
        read = [(one["stdin"], _stripped(one["expected"])) for one in worked_examples(text)]
        return text if read == [(known[0]["stdin"], _stripped(expected.strip()))] else None


def _stripped(text: str) -> list[str]:
    """Its lines without the indentation that a layout gives them."""
    return [line.strip() for line in text.splitlines()]


def _with_output(line: str, output: str) -> str:
    """The line with another output; its label or indentation and its end stay."""
    (bare,) = line.splitlines()
    label = LABEL.fullmatch(bare)
    head = bare[: label.start("text")] if label else bare[: len(bare) - len(bare.lstrip())]
    return head + output + line.removeprefix(bare)


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
    fenced = False
    for at, line in enumerate(lines[start:], start):
        label = LABEL.fullmatch(line)
        if label and (label["label"].lower() == "input" or found):
            if label["label"].lower() == "input":
                found.append(_Example())
                into = found[-1].input
            else:
                into = found[-1].output
            into.append(label["text"] or "")
            fenced = False
            if into is found[-1].output and label["text"]:
                found[-1].output_at.append(at)
        elif END.match(line):
            into = None
        elif into is not None and line.lstrip().startswith("```"):
            fenced, into = not fenced, None if fenced else into  # what follows the second fence is prose
        elif into is not None:
            into.append(line)
            if into is found[-1].output and line.strip():
                found[-1].output_at.append(at)
    return found
