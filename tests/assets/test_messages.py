"""What a child says over Dagster Pipes: every message once, however its writes are cut."""

import os
import sys
import tracemalloc
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


def test_however_much_was_written_one_line_is_held_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 999 + b"\n" + (b"y" * 999 + b"\n") * 20_000)
    tracemalloc.start()
    try:
        count = sum(len(line) == 999 for line in whole_lines(path, lambda seconds: True))
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_001 and held < 1_000_000


def test_what_a_killed_child_left_of_a_message_is_not_in_the_way_of_the_next_attempt(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    dies = """
import os, signal, sys
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    pipes.report_custom_message({"figures": 1})
    if not os.path.exists(sys.argv[1] + ".second"):
        open(sys.argv[1] + ".second", "w").close()
        with open(sys.argv[1], "a") as file:
            file.write('{"method": "report_custom_message", "params": {"payl')
        os.kill(os.getpid(), signal.SIGKILL)
    pipes.report_custom_message({"figures": 2})
"""
    said = list[list[int]]()

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipes = dg.PipesSubprocessClient(message_reader=WholeLines(path))
        run = pipes.run(context=context, command=[sys.executable, "-c", dies, str(path)])
        said.append([message["figures"] for message in run.get_custom_messages()])
        return dg.MaterializeResult()

    result = dg.materialize([model])
    assert result.success and said == [[1, 2]] and not path.exists()
    assert [event for event in result.all_events if "framework exception" in (event.message or "")] == []
