from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from promptcot_assets.lake import Lake, LakeError, checkpoints, disk
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import LOSS, PROBLEMS, problems, provenance, train

Writer = Callable[..., subprocess.Popen[str]]


def test_a_checkpoint_is_a_folder_a_row_and_a_manifest(lake: Lake) -> None:
    data = lake.commit("problems", [problems(2)], PROBLEMS, provenance())
    ref = train(lake, "problem_generator", b"weights", provenance(1, data), "round_01", loss=0.5)
    folder = lake.checkpoint(ref)
    assert folder == lake.home / "models" / "problem_generator" / folder.name
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["model.safetensors", "tokenizer/vocab.json"]
    assert manifest["bytes"] == len(b"weights") + 2
    assert manifest["inputs"] == [json.loads(data.json())]
    assert manifest["provenance"]["fingerprint"] == provenance(1, data).fingerprint
    assert ref.data_version.startswith(folder.name)
    (row,) = lake.table(ref, ["loss", "model_id", "path"]).to_pylist()
    path = f"problem_generator/{folder.name}"
    assert row == {"loss": 0.5, "model_id": path, "path": f"models/{path}"}
    assert lake.verify(ref)
    assert lake.find("problem_generator", provenance(1, data).fingerprint, "round_01") == ref
    assert not list((lake.home / "models" / ".partial").iterdir())


def test_a_schema_may_name_the_two_columns_itself(lake: Lake) -> None:
    schema = pa.schema([pa.field("path", pa.string(), False), pa.field("model_id", pa.string(), False), *LOSS])
    made = provenance()
    folder = lake.work_folder("student", made.fingerprint)
    (folder / "w").write_text("x")
    ref = lake.commit_checkpoint("student", folder, schema, {"loss": None}, made)
    assert lake.table(ref).schema.equals(schema)


def test_the_same_weights_are_the_same_checkpoint(lake: Lake) -> None:
    first = train(lake, "student", b"weights", provenance(1), "a", loss=1.0)
    second = train(lake, "student", b"weights", provenance(2), "b", loss=2.0)
    other = train(lake, "student", b"Weights", provenance(3), "c")
    assert first.data_version == second.data_version != other.data_version
    assert lake.checkpoint(first) == lake.checkpoint(second)
    assert len(list((lake.home / "models" / "student").iterdir())) == 2
    assert not list((lake.home / "models" / ".partial").iterdir())


BAD_ROWS = [
    ({}, "'loss' is missing"),
    ({"loss": 1.0, "typo": 1}, "'typo' is unknown"),
    ({"loss": "high"}, "'loss' cannot hold 'high'"),
]


@pytest.mark.parametrize(("row", "words"), BAD_ROWS, ids=[words for _, words in BAD_ROWS])
def test_a_bad_row_does_not_cost_the_weights(lake: Lake, row: dict[str, object], words: str) -> None:
    folder = lake.work_folder("student", provenance().fingerprint)
    (folder / "w").write_text("weeks of training")
    with pytest.raises(LakeError, match=words):
        lake.commit_checkpoint("student", folder, LOSS, row, provenance())
    assert (folder / "w").read_text() == "weeks of training"
    lake.commit_checkpoint("student", folder, LOSS, {"loss": 1.0}, provenance())


def test_folders_that_are_no_checkpoints_are_refused(lake: Lake, tmp_path: Path) -> None:
    def commit(folder: Path) -> None:
        lake.commit_checkpoint("student", folder, LOSS, {"loss": 1.0}, provenance())

    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(LakeError, match=r"write it in work_folder\(\)"):
        commit(tmp_path / "elsewhere")
    folder = lake.work_folder("student", provenance().fingerprint)
    with pytest.raises(LakeError, match="no files"):
        commit(folder)
    with pytest.raises(LakeError, match="no checkpoint folder"):
        commit(folder / "missing")
    (tmp_path / "weights").write_text("x")
    (folder / "w").symlink_to(tmp_path / "weights")
    with pytest.raises(LakeError, match="is a link"):
        commit(folder)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def forge_manifest(folder: Path) -> None:
    """A manifest that agrees with altered weights: it is not the committed one."""
    import hashlib

    flip(folder / "model.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte": (
        lambda f: flip(f / "model.safetensors"),
        r"model\.safetensors was altered.*re-materialize student",
    ),
    "a missing file": (lambda f: (f / "tokenizer/vocab.json").unlink(), r"vocab\.json is missing.*restore"),
    "a missing manifest": (lambda f: (f / "manifest.json").unlink(), r"manifest\.json is missing.*restore"),
    "a cut manifest": (lambda f: (f / "manifest.json").write_text("{"), r"manifest\.json is damaged.*restore"),
    "a forged manifest": (forge_manifest, r"manifest\.json is not the one that was committed"),
    "a missing folder": (lambda f: shutil.rmtree(f), r"manifest\.json is missing.*re-materialize student"),
    "an added file": (
        lambda f: (f / "adapter_config.json").write_text("{}"),
        r"adapter_config\.json was added.*remove",
    ),
}


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_names_the_file_and_the_mend(
    lake: Lake, damage: Callable[[Path], object], words: str, is_cached: bool
) -> None:
    ref = train(lake, "student", b"weights", provenance())
    folder = lake.home / lake.table(ref)["path"][0].as_py()
    if is_cached:
        lake.checkpoint(ref)
        for path in folder.rglob("*"):  # changes within one tick of the clock are beyond a cache by time
            os.utime(path, (1, 1))
        lake.checkpoint(ref)
    damage(folder)
    with pytest.raises(LakeError, match=words):
        lake.checkpoint(ref)
    assert lake.verify(ref) is False


@pytest.mark.parametrize("damage", ["a flipped byte", "a cut manifest", "a missing folder"])
def test_training_again_mends_a_damaged_checkpoint(lake: Lake, damage: str) -> None:
    ref = train(lake, "student", b"weights", provenance())
    assert lake.find("student", provenance().fingerprint) == ref
    DAMAGE[damage][0](lake.home / lake.table(ref)["path"][0].as_py())
    assert lake.find("student", provenance().fingerprint) is None  # else nobody would train again
    again = train(lake, "student", b"weights", provenance())
    assert lake.checkpoint(ref) == lake.checkpoint(again)
    assert lake.verify(ref) and lake.verify(again)


def test_unchanged_files_are_hashed_once_per_process(lake: Lake) -> None:
    """What the cache promises, seen from outside: same size and times are taken on trust, `verify` never does."""
    ref = train(lake, "student", b"weights", provenance())
    folder = lake.checkpoint(ref)
    path = folder / "model.safetensors"
    known = {key for key in disk._hashed if key[0] == path}
    lake.checkpoint(ref)
    assert {key for key in disk._hashed if key[0] == path} == known and len(known) == 1


def test_a_table_is_no_checkpoint(lake: Lake) -> None:
    ref = lake.commit("problems", [problems(1)], PROBLEMS, provenance())
    with pytest.raises(LakeError, match=r"not a checkpoint; read it with table\(\)"):
        lake.checkpoint(ref)


def test_a_work_folder_is_found_again_with_its_content(lake: Lake) -> None:
    folder = lake.work_folder("student", "f" * 64)
    (folder / "step_10").write_text("x")
    assert lake.work_folder("student", "f" * 64) == open_lake(lake.home).work_folder("student", "f" * 64) == folder
    assert lake.work_folder("student", "e" * 64) != folder
    assert lake.work_folder("teacher", "f" * 64) != folder


def test_a_killed_process_leaves_its_work_folder_to_the_next(lake: Lake, writer: Writer) -> None:
    first, second = writer("twin", lake.home, "student"), writer("twin", lake.home, "student")
    assert first.stdout is not None and second.stdout is not None
    folders = {process: Path(process.stdout.readline().strip()) for process in (first, second) if process.stdout}
    assert len(set(folders.values())) == 2  # both alive: two folders
    owner = min(folders, key=lambda process: len(str(folders[process])))
    (folders[owner] / "step_10").write_text("x")
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert (lake.work_folder("student", provenance().fingerprint) / "step_10").exists()
    for process in folders:
        process.kill()
        process.communicate()


def test_two_processes_make_the_same_checkpoint(lake: Lake, writer: Writer) -> None:
    twins = [writer("twin", lake.home, "student") for _ in range(3)]
    folders = [twin.stdout.readline().strip() for twin in twins if twin.stdout]
    assert len(set(folders)) == 3
    for twin in twins:
        assert twin.stdin is not None
        twin.stdin.write("go\n")
        twin.stdin.flush()
    answers = {twin.communicate()[0] for twin in twins}
    assert [twin.returncode for twin in twins] == [0, 0, 0]
    assert len(answers) == 1
    assert all(lake.verify(commit.ref) for commit in lake.history("student"))
    assert len(lake.history("student")) == 3
    assert len(list((lake.home / "models" / "student").iterdir())) == 1
    assert not list((lake.home / "models" / ".partial").iterdir())


KILLED_BEFORE_THE_COMMIT = """
import os, signal, sys, pathlib
sys.path.insert(0, sys.argv[3])
from tests.lake.lake_examples import LOSS, provenance
from promptcot_assets.lake import Lake
lake = Lake(pathlib.Path(sys.argv[1]))
folder = lake.work_folder("student", provenance().fingerprint) / sys.argv[2]
folder.mkdir(exist_ok=True)
(folder / "w").write_text("weeks of training")
def kill_at_the_row(event, args):  # the checkpoint is sealed when the row about it is spooled
    if event == "open" and ".commit-" in str(args[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill_at_the_row)
lake.commit_checkpoint("student", folder, LOSS, {"loss": 1.0}, provenance())
"""


@pytest.mark.parametrize("inside", [".", "final"])
def test_a_kill_between_seal_and_commit_costs_no_training(lake: Lake, inside: str) -> None:
    program = [sys.executable, "-c", KILLED_BEFORE_THE_COMMIT, str(lake.home), inside, str(Path(__file__).parents[2])]
    assert subprocess.run(program, check=False).returncode == -signal.SIGKILL
    assert lake.newest("student") is None
    assert len(list((lake.home / "models" / "student").iterdir())) == 1
    work = lake.work_folder("student", provenance().fingerprint)
    assert (work / inside / "w").read_text() == "weeks of training"
    assert not list((lake.home / "models" / "student").iterdir())
    ref = lake.commit_checkpoint("student", work / inside, LOSS, {"loss": 1.0}, provenance())
    assert lake.verify(ref)
    assert not list((lake.home / "models" / ".partial").iterdir())


def test_a_finished_process_does_not_remove_the_next_ones_work(lake: Lake, writer: Writer) -> None:
    """Between moving its folder away and letting go, another process may have started under the same name."""
    folder = lake.work_folder("student", provenance().fingerprint)
    (folder / "w").write_text("x")
    checkpoints.seal(lake.models, "student", folder, provenance())
    next_one = writer("twin", lake.home, "student")
    assert next_one.stdout is not None and Path(next_one.stdout.readline().strip()) == folder
    checkpoints.release_work_folder(lake.models, folder)
    assert folder.is_dir()
    next_one.communicate("go\n")
    assert next_one.returncode == 0


def test_a_committed_checkpoint_is_never_taken_back(lake: Lake) -> None:
    ref = train(lake, "student", b"weights", provenance())
    assert list(lake.work_folder("student", provenance().fingerprint).iterdir()) == []
    assert lake.verify(ref)


def test_a_copied_home_has_its_checkpoints(lake: Lake, tmp_path: Path) -> None:
    ref = train(lake, "student", b"weights", provenance())
    shutil.copytree(lake.home, tmp_path / "copy")
    shutil.rmtree(lake.home)
    assert open_lake(tmp_path / "copy").checkpoint(ref).is_relative_to(tmp_path / "copy")
