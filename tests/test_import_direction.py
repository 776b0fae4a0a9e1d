"""The house's import direction, and that loading the code location stays light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "trl", "vllm", "ray", "sympy", "datasets", "matplotlib", "scipy", "math_verify"}
# room -> rooms of ours it may import; `lake`, `inference`, ... are packages of promptcot_assets
ALLOWED = {
    "lake": {"lake"},
    "inference": {"inference"},
    "domains": {"domains"},
    "settings": {"settings"},
    "stages": {"stages", "domains", "inference", "lake", "settings", "sandbox"},
    "reports": {"reports", "stages", "lake", "settings", "sandbox", "domains"},
}
DAGSTER_ROOMS = {"assets", "automation", "definitions"}


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] in ("sandbox", "training"):
        return parts[0]
    return parts[1] if parts[0] == "promptcot_assets" and len(parts) > 1 else None


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_lies_below_them(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(f"promptcot_assets/{room}")
        for name in imported(path)
        if room_of(name) not in {None, *ALLOWED[room]}
    }
    assert not wrong


def test_training_and_sandbox_import_nothing_of_the_project() -> None:
    for path in modules("training", "sandbox"):
        own = path.relative_to(ROOT).parts[0]
        wrong = {name for name in imported(path) if room_of(name) not in (None, own)}
        assert not wrong, f"{path}: {wrong}"


def test_dagster_is_imported_only_where_things_are_decided() -> None:
    for path in modules("promptcot_assets"):
        room = path.relative_to(ROOT / "promptcot_assets").parts[0].removesuffix(".py")
        uses = {name for name in imported(path) if name.split(".")[0] == "dagster"}
        assert not uses or room in DAGSTER_ROOMS, f"{path} imports {uses}"


def test_no_module_of_the_package_imports_heavy_libraries_when_it_loads() -> None:
    for path in modules("promptcot_assets"):
        heavy = {name for name in imported(path, top_level_only=True) if name.split(".")[0] in HEAVY}
        loads_an_engine = path.name in ("transformers_engine.py", "language_model.py", "kv_cache.py", "sampling.py")
        assert not heavy or loads_an_engine, f"{path} imports {heavy}"


def test_loading_the_code_location_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import json, sys, promptcot_assets.definitions; print(json.dumps(sorted(sys.modules)))"
    environment = {"PROMPTCOT_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert not HEAVY & loaded
