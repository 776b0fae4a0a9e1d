"""The judge of an online trainer: a process that says of completions what they are worth."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from training.child import SpecError

# A process of its own: trainers import nothing of the project. A line in, {"labels": [...], "completions": [...]};
# a line out, a list of what is said of each: an object with its `reward`, 1, 0, or null where the judge itself failed.
JUDGE = (sys.executable, "-m", "promptcot_assets.stages.students.reward_service")


class Judge:
    """The judging process. A context manager."""

    def __init__(self, command: Sequence[str] = JUDGE, limits: str = "{}") -> None:
        """limits: what it judges within, the sandbox's settings as JSON."""
        self._process = subprocess.Popen([*command, limits], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):  # of a judge that has ended already, as `rewards` has told
            self._process.stdin.close()  # the judge ends with its input
        self._process.wait()
        self._process.stdout.close()

    def verdicts(self, labels: Sequence[str], completions: Sequence[str]) -> list[dict[str, Any]]:
        """Raises: SpecError when the judge has ended; what it had to say is on standard error."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"labels": list(labels), "completions": list(completions)}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise SpecError("the judge has ended before its time; see its message above") from error
        answer = self._process.stdout.readline()
        if not answer:
            raise SpecError("the judge has ended without an answer; see its message above")
        said: list[dict[str, Any]] = json.loads(answer)
        return said
