"""The house's import direction, and that loading the code location stays light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "trl", "vllm", "ray", "sympy", "datasets", "matplotlib", "scipy", "math_verify"}
# room -> rooms of ours it may import, itself always; a room is a package or a module of promptcot_assets
ALLOWED: dict[str, set[str]] = {
    "lake": set(),
    "inference": set(),
    "domains": set(),
    "settings": set(),
    "text": set(),
    "tables": {"lake"},
    "judging": {"domains", "inference", "lake", "sandbox", "settings"},
    "stages": {"judging", "text", "tables", "domains", "inference", "lake", "sandbox", "settings"},
    "lineage": {"lake", "tables", "text"},
    "doctor": {"reports", "lineage", "tables", "domains", "lake", "sandbox", "settings"},
    "reports": {"lineage", "stages", "judging", "tables", "text", "lake", "settings", "domains"},
    "assets": {
        "reports",
        "lineage",
        "stages",
        "judging",
        "tables",
        "domains",
        "inference",
        "lake",
        "settings",
        "training",
    },
    "automation": {
        "assets",
        "lineage",
        "reports",
        "stages",
        "tables",
        "inference",
        "lake",
        "sandbox",
        "settings",
        "training",
    },
    "definitions": {"assets", "automation", "tables", "settings"},
    "cli": {
        "automation",
        "definitions",
        "doctor",
        "lineage",
        "reports",
        "stages",
        "tables",
        "text",
        "lake",
        "sandbox",
        "settings",
    },
}
DAGSTER_ROOMS = {"assets", "automation", "definitions"}


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path, top_level_only: bool = False, root: Path = ROOT) -> set[str]:
    """Full names of what the file at `path` imports, relative imports resolved."""
    tree = ast.parse(path.read_text())
    package = path.relative_to(root).parent.parts
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] in ("sandbox", "training"):
        return parts[0]
    return parts[1] if parts[0] == "promptcot_assets" and len(parts) > 1 else None


def dagster_of(path: Path) -> set[str]:
    """What of Dagster a file imports; dagster_pipes is the child's end of it, without dagster itself."""
    tops = {name: name.split(".")[0] for name in imported(path)}
    return {name for name, top in tops.items() if top.startswith("dagster") and top != "dagster_pipes"}


RELATIVE = {
    "from . import elo": "promptcot_assets.stages.elo",
    "from .elo import judge": "promptcot_assets.stages.elo.judge",
    "from .. import assets": "promptcot_assets.assets",
    "from ..assets.em import em_round": "promptcot_assets.assets.em.em_round",
    "def f():\n    from ...training import sft": "training.sft",
}


@pytest.mark.parametrize("source", RELATIVE)
def test_a_relative_import_counts_as_what_it_names(source: str, tmp_path: Path) -> None:
    path = tmp_path / "promptcot_assets" / "stages" / "some.py"
    path.parent.mkdir(parents=True)
    path.write_text(source + "\n")
    assert imported(path, root=tmp_path) == {RELATIVE[source]}


def files_of(room: str) -> list[Path]:
    module = ROOT / "promptcot_assets" / f"{room}.py"
    return [module] if module.exists() else list(modules(f"promptcot_assets/{room}"))


def test_every_room_is_known_and_none_is_stale() -> None:
    folder = ROOT / "promptcot_assets"
    rooms = {
        path.name.removesuffix(".py") for path in folder.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))
    }
    assert rooms - {"__init__"} == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_lies_below_them(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files_of(room)
        for name in imported(path)
        if room_of(name) not in {None, room, *ALLOWED[room]}
    }
    assert not wrong


@pytest.mark.parametrize("room", ALLOWED)
def test_no_permission_is_stale(room: str) -> None:
    used = {room_of(name) for path in files_of(room) for name in imported(path)}
    assert not (unused := ALLOWED[room] - used), f"{room} may import {unused} and does not; delete the permission"


def test_no_file_imports_in_a_circle() -> None:
    """Lazy imports count: a circle that is opened by importing late is still one idea in two files."""
    files = {module_of(path): path for path in modules("promptcot_assets", "training", "sandbox")}
    edges = {
        name: {module for one in imported(path) if (module := _module(one, files))} - {name}
        for name, path in files.items()
    }
    order = TopologicalSorter({name: to - PACKAGES for name, to in edges.items() if name not in PACKAGES})
    order.prepare()  # raises graphlib.CycleError with the circle


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


PACKAGES = {
    module_of(path) for path in modules("promptcot_assets", "training", "sandbox") if path.name == "__init__.py"
}


def _module(name: str, files: dict[str, Path]) -> str | None:
    """The file that an imported name is, or is in."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def test_training_and_sandbox_import_nothing_of_the_project() -> None:
    for path in modules("training", "sandbox"):
        own = path.relative_to(ROOT).parts[0]
        wrong = {name for name in imported(path) if room_of(name) not in (None, own)}
        assert not wrong, f"{path}: {wrong}"


def test_dagster_is_imported_only_where_things_are_decided() -> None:
    for path in modules("promptcot_assets"):
        room = path.relative_to(ROOT / "promptcot_assets").parts[0].removesuffix(".py")
        uses = dagster_of(path)
        assert not uses or room in DAGSTER_ROOMS, f"{path} imports {uses}"


def test_a_trainer_and_the_sandbox_need_no_dagster() -> None:
    for path in modules("training", "sandbox"):
        assert not (uses := dagster_of(path)), f"{path} imports {uses}"
    assert any("dagster_pipes" in name for path in modules("training") for name in imported(path))


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
