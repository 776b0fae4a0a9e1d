"""Starting servers: the flags, and the process that ends them. vLLM itself is started in tests/vllm."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from promptcot_assets.inference import EngineError, SamplingParams, guardian
from promptcot_assets.inference.server_engine import ServerEngine
from promptcot_assets.inference.serving import flags
from promptcot_assets.settings.engines import Engine

# It starts a process of its own group, one of its own session that outlives every polite signal, and says who they are
IGNORE = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
COMMAND = """
    import os, signal, subprocess, sys, time
    {ignore}
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    deaf = "import signal, time; {IGNORE}; print('deaf', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
    print("started", flush=True)
    {then}
"""


def test_flags_are_those_of_the_command_line() -> None:
    arguments = {
        "max_num_seqs": 8,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "max_model_len": None,
        "hf_overrides": {"a": 1},
        "stops": ["x", "y"],
        "dtype": "float32",
    }
    assert flags(arguments) == [
        *("--max-num-seqs", "8", "--enforce-eager", "--no-enable-prefix-caching"),
        *("--hf-overrides", '{"a": 1}', "--stops", "x", "y", "--dtype", "float32"),
    ]


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed in this environment")
def test_without_urls_and_without_vllm_the_message_says_what_to_do(taught_model: Path) -> None:
    with ServerEngine(taught_model, Engine(name="server")) as engine:
        with pytest.raises(
            EngineError, match=r"engine\.server\.urls is empty and there is no vllm in .*make setup-vllm"
        ):
            engine.generate(["let A"], SamplingParams())
        assert engine.embed(["let A"]).shape[0] == 1, "which needs no server"


def start(tmp_path: Path, then: str = "time.sleep(600)", ignore: str = "", before: str = "") -> subprocess.Popen[bytes]:
    """A guardian over COMMAND, once everything has been started; told to be patient for a moment only.

    before: code that it runs first.
    """
    code = textwrap.dedent(COMMAND).format(then=then, ignore=ignore, IGNORE=IGNORE)
    quick = f"import sys; sys.path.insert(0, {str(Path(guardian.__file__).parent)!r})\nimport guardian\n" + (
        f"{textwrap.dedent(before)}\nguardian.GRACE_S = 0.5; sys.exit(guardian.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", quick, sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PROMPTCOT_TEST_MARK": str(tmp_path)},
    )
    assert process.stdout is not None and process.stdout.readline() == b"started\n"
    assert len(marked(tmp_path)) == 4
    return process


def marked(tmp_path: Path) -> list[int]:
    """Running processes whose environment bears this test's mark: the guardian and all that it started."""
    mark, found = f"PROMPTCOT_TEST_MARK={tmp_path}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended, or is another user's
            continue
    return found


ENDINGS: dict[str, Callable[[subprocess.Popen[bytes]], None]] = {
    "its input is closed": lambda process: process.stdin.close(),  # type: ignore[union-attr]
    "SIGTERM": lambda process: process.send_signal(signal.SIGTERM),
    "SIGINT": lambda process: process.send_signal(signal.SIGINT),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("ignore", ["", IGNORE], ids=["a polite command", "a deaf command"])
def test_however_it_is_ended_nothing_is_left(tmp_path: Path, ending: str, ignore: str) -> None:
    process = start(tmp_path, ignore=ignore)
    ENDINGS[ending](process)
    assert process.wait(60) == 128 + (signal.SIGKILL if ignore else signal.SIGTERM)
    assert marked(tmp_path) == []


def test_a_signal_that_comes_while_the_command_starts_ends_it_too(tmp_path: Path) -> None:
    """On a busy machine the command may have started all its processes before the guardian has it in hand."""
    process = start(
        tmp_path,
        before="""
            import os, signal, subprocess, time
            class Busy(subprocess.Popen):
                def _execute_child(self, *given):
                    super()._execute_child(*given)
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(1)
            subprocess.Popen = Busy
        """,
    )
    assert process.wait(60) == 128 + signal.SIGTERM
    assert marked(tmp_path) == []


def test_a_command_that_ends_by_itself_leaves_nothing_and_its_exit_code(tmp_path: Path) -> None:
    go = tmp_path / "go"
    process = start(tmp_path, then=f"while not os.path.exists({str(go)!r}): time.sleep(0.05)\nsys.exit(7)")
    go.touch()
    assert process.wait(60) == 7
    assert marked(tmp_path) == []


def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    """Not even when another process still holds the guardian's input open."""
    parent = textwrap.dedent(f"""
        import os, signal, subprocess, sys
        read, write = os.pipe()
        os.set_inheritable(write, True)
        holder = subprocess.Popen(["sleep", "600"], pass_fds=[write])
        child = subprocess.Popen(
            [sys.executable, {guardian.__file__!r}, "sleep", "600"], stdin=read, start_new_session=True,
            env=os.environ | {{"PROMPTCOT_TEST_MARK": {str(tmp_path)!r}}},
        )
        print(holder.pid, flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdin is not None
    holder = int(process.stdout.readline())
    try:
        wait_until(lambda: len(marked(tmp_path)) == 2)
        process.stdin.close()
        assert process.wait(60) == -signal.SIGKILL
        wait_until(lambda: not marked(tmp_path))
        assert Path(f"/proc/{holder}").exists()
    finally:
        os.kill(holder, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], at_most_s: float = 60.0) -> None:
    deadline = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
