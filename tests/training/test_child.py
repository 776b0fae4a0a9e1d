import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from training.child import (
    CHILD_ENVIRONMENT,
    LAST_WORDS_VARIABLE,
    STARTED_BY,
    Lora,
    Spec,
    SpecError,
    is_gone,
    obituary,
    own_mark,
    read_spec,
    starter,
)

GOOD = {"base": "base", "data": "data.parquet", "output": "out", "checkpoints": "checkpoints"}


def test_a_spec_is_read_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({**GOOD, "save_steps": 5, "revision": None}))
    expected = Spec("base", Path("data.parquet"), Path("out"), Path("checkpoints"), save_steps=5)
    assert read_spec(tmp_path / "spec.json") == expected


def test_an_adapter_is_read_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({**GOOD, "lora": {"r": 8, "target_modules": ["q_proj"]}}))
    assert read_spec(tmp_path / "spec.json").lora == Lora(r=8, alpha=32, dropout=0.0, target_modules=["q_proj"])


WRONG_SPECS = [
    ("{", "not JSON"),
    ("[]", "one JSON object"),
    ({**GOOD, "learning_rate": 1e-3}, "unknown field 'learning_rate'; known: arguments, base"),
    ({**GOOD, "output": ""}, "field 'output' must be a path"),
    ({key: GOOD[key] for key in GOOD if key != "data"}, "field 'data' must be a path"),
    ({**GOOD, "seed": "0"}, "field 'seed' must be int; got '0'"),
    ({**GOOD, "threads": 0}, "field 'threads' must be at least 1"),
    ({**GOOD, "threads": True}, "field 'threads' must be int"),
    ({**GOOD, "arguments": []}, "field 'arguments' must be dict"),
    ({**GOOD, "save_steps": 0}, "field 'save_steps' must be a positive number"),
    ({**GOOD, "lora": 16}, "field 'lora' is null or an object of alpha, dropout, r, target_modules; got 16"),
    ({**GOOD, "lora": {"rank": 16}}, "field 'lora' is null or an object of alpha"),
    ({**GOOD, "lora": {"r": 0}}, "field 'lora.r' must be at least 1; got 0"),
    ({**GOOD, "lora": {"alpha": 0.5}}, "field 'lora.alpha' must be at least 1"),
    ({**GOOD, "lora": {"dropout": 1}}, "field 'lora.dropout' must be at least 0 and below 1"),
    ({**GOOD, "lora": {"target_modules": []}}, "field 'lora.target_modules' must be a name or a list"),
]


@pytest.mark.parametrize(("spec", "message"), WRONG_SPECS)
def test_a_wrong_spec_is_named(spec: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    with pytest.raises(SpecError, match=message) as error:
        read_spec(path)
    assert str(path) in str(error.value)


def test_a_wrong_spec_ends_the_process_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.sft", str(tmp_path / "nowhere.json")]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 2
    assert child.stderr.splitlines() == [f"training.sft: {tmp_path / 'nowhere.json'}: no such spec file"]


def test_the_child_environment_is_importable_without_torch() -> None:
    modules = ", ".join(f"training.{name}" for name in ("child", "folders", "launch", "loop", "lora", "rows", "watch"))
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "False"
    assert CHILD_ENVIRONMENT["OMP_WAIT_POLICY"] == "passive"


ENDS = """
import os, signal, sys
from training.child import OutputError, SpecError, started

class OutOfMemoryError(RuntimeError): ...

with started(sys.argv[:2], "training.sft"):
    exec(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("raise SpecError('data: no such file')", 2, "data: no such file"),
        ("raise OutputError('cannot write /x')", 1, "cannot write /x"),
        ("raise OutOfMemoryError('CUDA out of memory.\\n Tried 2 GiB')", 1,
         "OutOfMemoryError: CUDA out of memory. Tried 2 GiB; a smaller arguments.per_device_train_batch_size"),
        ("raise IndexError('index 300 is out of bounds')", 1, "IndexError: index 300 is out of bounds"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9,
         "the trainer was killed (exit code -9), most likely by the kernel because memory ran out"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", -11, "the trainer was ended by SIGSEGV (exit code -11)"),
        ("os._exit(3)", 3, "the trainer ended with exit code 3; see the end of its output"),
    ],
)  # fmt: skip
def test_what_ends_a_trainer_is_told_in_one_sentence(end: str, code: int, said: str, tmp_path: Path) -> None:
    spec, words = tmp_path / "spec.json", tmp_path / "last words"
    spec.write_text(json.dumps(GOOD))
    command = [sys.executable, "-c", ENDS, str(spec), end]
    child = subprocess.run(command, env=os.environ | {LAST_WORDS_VARIABLE: str(words)}, capture_output=True)
    assert child.returncode == code
    told = obituary(child.returncode, words)
    assert told.startswith(said) and "\n" not in told


CHILD = "import time; from training.child import *; {}; print('ready', flush=True); "
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], stdout=subprocess.PIPE, text=True)
line = child.stdout.readline()
print(child.pid if line.strip() == "ready" else line.strip(), flush=True)
time.sleep(60)
"""


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether `pid` ends in time. A zombie is dead, and nobody's to reap but init's."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("launched", [False, True], ids=["by the step", "by a launcher of the step"])
def test_a_child_dies_with_its_killed_step(launched: bool) -> None:
    dies = "die_with_parent(); die_with_launchers_parent(None)" if launched else "die_with_parent()"
    child = CHILD.format(dies) + "time.sleep(60)"
    command = [sys.executable, "-c", *([PARENT, PARENT, child] if launched else [PARENT, child])]
    step = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert step.stdout is not None
    pid = int(step.stdout.readline())
    os.kill(pid, 0)
    step.send_signal(signal.SIGKILL)
    step.wait()
    step.stdout.close()
    assert gone(pid)


def killed_while_its_child_loads(command: list[str], **how: Any) -> int:
    """The child, whose number the command prints first, once the command is killed."""
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    return pid


LATE = """
import os, sys, time
from pathlib import Path
from training.child import {imported}

while os.getppid() == int(os.environ["STARTER"]):  # Python loads, and meanwhile the parent is killed
    time.sleep(0.01)
{dies}
Path(sys.argv[1]).write_text("goes on")
time.sleep(60)
"""
STARTS = """
import os, subprocess, sys, time
from training.child import STARTED_BY, own_mark
environment = os.environ | {STARTED_BY: own_mark(), "STARTER": str(os.getpid())}
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env=environment)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "dies",
    ["die_with_parent(starter())", "die_with_launchers_parent(starter())"],
)
def test_a_child_whose_parent_was_killed_while_it_loaded_does_not_go_on(dies: str, tmp_path: Path) -> None:
    code = LATE.format(imported=f"{dies.partition('(')[0]}, starter", dies=dies)
    pid = killed_while_its_child_loads([sys.executable, "-c", STARTS, code, str(tmp_path / "word")])
    assert gone(pid) and not (tmp_path / "word").exists()


@pytest.mark.parametrize(
    "dies", ["die_with_parent(starter())", "die_with_parent(); die_with_launchers_parent(starter())"]
)
@pytest.mark.parametrize("wrapper", [[], ["timeout", "100"], ["timeout", "100", "timeout", "100"]], ids=len)
def test_a_wrapper_between_a_child_and_who_started_it_kills_nobody(
    dies: str, wrapper: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STARTED_BY, own_mark())
    code = f"import time; from training.child import *; {dies}; time.sleep(1); print('lives')"
    done = subprocess.run([*wrapper, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "lives\n")


MULTIPROCESSING = """
import multiprocessing, os, sys, time
from pathlib import Path
from training.child import die_with_starter

def late(word, starter):
    print(os.getpid(), flush=True)
    while os.getppid() == starter:
        time.sleep(0.01)
    die_with_starter()
    Path(word).write_text("goes on")
    time.sleep(60)

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=late, args=(sys.argv[1], os.getpid()))
    child.start()
    time.sleep(60)
"""


def test_a_step_whose_run_was_killed_while_it_loaded_does_not_go_on(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(MULTIPROCESSING)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "word")]
    pid = killed_while_its_child_loads(command, env=environment)
    assert gone(pid) and not (tmp_path / "word").exists()


def test_a_process_is_gone_with_its_start_and_not_on_other_machines() -> None:
    host, pid, began = own_mark().split(" ")
    assert not is_gone(f"{host} {pid} {began}")
    assert is_gone(f"{host} {pid} {int(began) - 1}")  # a later one of its number
    assert not is_gone(f"elsewhere {pid} 1")
    child = subprocess.Popen(
        [sys.executable, "-c", "from training.child import *; print(own_mark())"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    mark = child.stdout.read().strip()
    assert gone(child.pid) and is_gone(mark)  # a zombie until it is reaped
    child.wait()
    assert is_gone(mark)


def test_who_started_a_process_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STARTED_BY, "here 12 34")
    assert starter() == "here 12 34" and STARTED_BY not in os.environ and starter() is None


TRAINER = """
import os, signal, sys, time
from training.child import started

if sys.argv[2] == "deaf":  # as one that is stuck in the driver of its device
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with started(sys.argv[:2], "training.sft") as (_, report):
    report.line("at work")
    print(os.getpid(), flush=True)
    time.sleep(100)
"""
STEP = """
import sys
import dagster as dg

@dg.asset
def model(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient) -> None:
    pipes.run(context=context, command=[sys.executable, "-c", *sys.argv[2:]])

with dg.DagsterInstance.ephemeral() as instance:
    client = dg.PipesSubprocessClient(termination_timeout_seconds=float(sys.argv[1]))
    dg.materialize([model], resources={"pipes": client}, instance=instance)
"""


@pytest.mark.parametrize(
    ("trainer", "patience", "cancel"),
    [("listens", 60.0, signal.SIGINT), ("deaf", 1.0, signal.SIGTERM)],
    ids=["that listens", "that is deaf"],
)
def test_a_cancelled_step_leaves_no_trainer(
    trainer: str, patience: float, cancel: signal.Signals, tmp_path: Path
) -> None:
    """Dagster asks it to end, and after `patience` seconds leaves a deaf one behind: the kernel does not."""
    spec, log = tmp_path / "spec.json", tmp_path / "log"
    spec.write_text(json.dumps(GOOD))
    command = [sys.executable, "-c", STEP, str(patience), TRAINER, str(spec), trainer]
    step = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log.open("w"), text=True)
    assert step.stdout is not None
    pid = int(step.stdout.readline())
    step.stdout.close()
    os.kill(pid, 0)
    step.send_signal(cancel)
    assert step.wait(timeout=90) != 0
    assert gone(pid)
    said = log.read_text()
    assert "sending SIGINT to subprocess" in said
    assert (f"timed out after {patience} seconds" in said) == (trainer == "deaf")
