"""What a child says over Dagster Pipes: every message once, however its writes are cut."""

import os
import sys
from pathlib import Path
from threading import Event, Thread

import dagster as dg

from promptcot_assets.assets.messages import WholeLines, whole_lines

# Writes as the kernel shows a write that crosses a page: the first part a while before the second.
IN_HALVES = """
import json, sys, time
from dagster_pipes import PipesMessageWriter, PipesFileMessageWriterChannel, open_dagster_pipes
import dagster_pipes

def in_halves(self, message):
    line = json.dumps(message) + "\\n"
    with open(self._path, "a", encoding="utf-8") as file:
        file.write(line[:len(line) // 2])
        file.flush()
        time.sleep(0.1)
        file.write(line[len(line) // 2:])

PipesFileMessageWriterChannel.write_message = in_halves
with open_dagster_pipes() as pipes:
    for n in range(5):
        pipes.report_custom_message({"figures": n, "text": "ä" * 50})
"""


def test_a_message_that_is_read_while_it_is_written_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    path.write_text('{"method": "of an attempt that was kil')
    pipes = dg.PipesSubprocessClient(message_reader=WholeLines(path))
    said: list[int] = []

    @dg.asset
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        run = pipes.run(context=context, command=[sys.executable, "-c", IN_HALVES])
        said.extend(message["figures"] for message in run.get_custom_messages())
        return dg.MaterializeResult()

    assert dg.materialize([model]).success
    assert said == [0, 1, 2, 3, 4]
    assert not path.exists()


def test_lines_are_whole_in_order_and_without_the_half_that_a_kill_leaves(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.touch()
    ended, found = Event(), list[bytes]()
    reading = Thread(target=lambda: found.extend(whole_lines(path, ended.wait)))
    reading.start()
    written = os.open(path, os.O_WRONLY | os.O_APPEND)
    for byte in b"one\n\ntwo\nthree\nfour is never end":
        os.write(written, bytes([byte]))
    os.close(written)
    ended.set()
    reading.join()
    assert found == [b"one", b"", b"two", b"three"]
