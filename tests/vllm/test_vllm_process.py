"""The child that holds vLLM: nothing of it is left, whoever ends first, and a crash is never a result."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from promptcot_assets.inference import EngineError, SamplingParams
from promptcot_assets.inference.protocol import EngineLost
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.inference.vllm_engine import VllmEngine
from tests.tiny_models import tiny_texts
from tests.vllm.conftest import engine_settings

ROOT = Path(__file__).parents[2]
PROMPTS = tiny_texts(30, seed=3)
LONG = SamplingParams(max_new_tokens=200, n=100)  # minutes of work: whoever kills, kills in the middle of it
SHORT = SamplingParams(max_new_tokens=2)


def child_of(engine: VllmEngine) -> int:
    assert engine._process is not None
    return engine._process._child.pid


def group(leader: int) -> list[int]:
    """Living processes of the group that `leader` leads or led. A zombie is dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process_group) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def left_of(leader: int, seconds: float = 20.0) -> list[int]:
    deadline = time.monotonic() + seconds
    while (left := group(leader)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_nothing_is_left_after_close_also_when_an_exception_escapes(model: Path) -> None:
    with pytest.raises(ZeroDivisionError), VllmEngine(model, engine_settings()) as engine:
        engine.generate(["let"], SHORT)
        child, scratch = child_of(engine), Path(engine._process._scratch.name)  # type: ignore[union-attr]
        assert group(child) and (scratch / "log").stat().st_size
        raise ZeroDivisionError
    assert not group(child) and not scratch.exists()
    with pytest.raises(EngineError, match="closed"):
        engine.generate(["let"], SHORT)


def test_a_crash_during_a_call_is_an_error_and_ends_the_engine(model: Path) -> None:
    with VllmEngine(model, engine_settings()) as engine:
        engine.generate(["let"], SHORT)
        child = child_of(engine)
        raised: list[BaseException] = []

        def ask() -> None:
            try:
                engine.generate(PROMPTS, LONG)
            except EngineLost as error:
                raised.append(error)

        calls = [threading.Thread(target=ask) for _ in range(2)]
        for call in calls:
            call.start()
        time.sleep(0.3)
        os.kill(child, signal.SIGKILL)
        for call in calls:
            call.join(60)
        assert len(raised) == 2 and all("vLLM ended during a call: exit code -9" in str(error) for error in raised)
        assert not left_of(child)
        with pytest.raises(EngineLost):
            engine.score(["let"], [" A"])


def test_a_model_that_cannot_be_loaded_is_an_error_with_vllms_own_words(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    with (
        VllmEngine(broken, engine_settings()) as engine,
        pytest.raises(EngineError, match=r"vLLM cannot load .*broken(.|\n)*Cannot find any model weights"),
    ):
        engine.generate(["let"], SHORT)


# A step's main module is Dagster's command line; this one has no main guard, which vLLM's own processes would trip over
SCRIPT = """
import os, sys
from pathlib import Path
from promptcot_assets.inference import SamplingParams
from promptcot_assets.inference.vllm_engine import VllmEngine
from tests.vllm.conftest import engine_settings

engine = VllmEngine(Path(sys.argv[1]), engine_settings())
((one,),) = engine.generate(["let A be"], SamplingParams(temperature=0, max_new_tokens=4))
print(engine._process._child.pid, one.tokens, flush=True)
if sys.argv[2] == "close":
    engine.close()
else:
    engine.generate(["let"] * 50, SamplingParams(max_new_tokens=200, n=100))
"""


@pytest.mark.parametrize(
    "core",
    [
        pytest.param("0", id="one process"),
        pytest.param("1", id="a core and a worker of its own", marks=pytest.mark.slow),
    ],
)
def test_a_parent_that_is_killed_takes_vllm_with_it(model: Path, core: str) -> None:
    """vLLM itself would leave its engine core behind, and with it the memory of the device."""
    parent = start(model, "stay", core)
    child, _ = map(int, first_line(parent).split())
    members = group(child)
    assert child in members and len(members) >= (3 if core == "1" else 1)
    time.sleep(0.3)  # in the middle of a call
    parent.kill()
    parent.wait()
    assert not left_of(child)


def test_vllm_prints_nothing_into_the_log_of_a_step(model: Path) -> None:
    parent = start(model, "close", "0")
    out, err = parent.communicate(timeout=120)
    assert parent.returncode == 0, err
    assert len(out.splitlines()) == 1 and "vllm" not in (out + err).lower()


@pytest.mark.slow
def test_an_engine_core_that_dies_takes_the_call_and_the_rest_with_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the core is a process of its own below the child."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with VllmEngine(model, engine_settings()) as engine:
        engine.generate(["let"], SHORT)
        child = child_of(engine)
        (core,) = [pid for pid in group(child) if "EngineCore" in Path(f"/proc/{pid}/cmdline").read_text()]
        timer = threading.Timer(0.3, os.kill, (core, signal.SIGKILL))
        timer.start()
        with pytest.raises(EngineLost, match="vLLM ended during a call"):
            engine.generate(PROMPTS, LONG)
        timer.join()
        assert not left_of(child)


@pytest.mark.slow
def test_a_model_split_over_two_devices_is_the_same_model(model: Path) -> None:
    """Two workers of a core: on a CPU they exchange their halves by shared memory."""
    greedy = SamplingParams(temperature=0, max_new_tokens=20)
    with TransformersEngine(model) as whole, VllmEngine(model, engine_settings(vllm={"tensor_parallel": 2})) as split:
        assert [one.text for (one,) in split.generate(PROMPTS, greedy)] == [
            one.text for (one,) in whole.generate(PROMPTS, greedy)
        ]
        child = child_of(split)
        assert len([pid for pid in group(child) if "Worker" in Path(f"/proc/{pid}/cmdline").read_text()]) == 2
    assert not group(child)


def start(model: Path, then: str, core: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(model), then],
        cwd=ROOT,
        env=os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": core},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return line
