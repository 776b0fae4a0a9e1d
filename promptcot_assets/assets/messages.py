"""What a child process says over Dagster Pipes, read a whole line at a time.

Dagster's own reader of a file takes what it finds for a line. The kernel shows a write that crosses a page in two
parts, and a child may be killed within one; such half of a message ended the reader, and with it the step.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dagster as dg
from dagster_pipes import PipesDefaultMessageWriter

POLL_SECONDS = 0.02


class WholeLines(dg.PipesMessageReader):
    """Reads the file that the child writes its messages to, as they come; the file goes with the session."""

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:  # Dagster names no handler's type in public
        self.path.write_bytes(b"")  # without what an earlier attempt left
        ended = Event()
        reading = Thread(target=self._read, args=(handler, ended), daemon=True)
        reading.start()
        try:
            yield {PipesDefaultMessageWriter.FILE_PATH_KEY: str(self.path)}
        finally:
            ended.set()
            reading.join()
            self.path.unlink(missing_ok=True)

    def _read(self, handler: Any, ended: Event) -> None:
        try:
            for line in whole_lines(self.path, ended.wait):
                handler.handle_message(json.loads(line))
        except Exception:
            handler.report_pipes_framework_exception(type(self).__name__, sys.exc_info())
            raise

    def no_messages_debug_text(self) -> str:
        return f"Attempted to read messages from {self.path}."


def whole_lines(path: Path, ended: Callable[[float], bool]) -> Iterator[bytes]:
    """The lines of a file that grows, each when its end has been written; ends with what is there once it has `ended`.

    ended: waits so many seconds at most, and says whether nothing more will be written. What follows the last end of
    a line by then is half of a line, and left out.
    """
    half, last = bytearray(), False
    with path.open("rb") as lines:
        while True:
            while part := lines.readline():
                half += part
                if part.endswith(b"\n"):
                    yield bytes(half[:-1])
                    half.clear()
            if last:
                return
            last = ended(POLL_SECONDS)
