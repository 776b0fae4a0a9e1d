"""Single flipped bits in every kind of file of a finished home: is each found and named, or without effect?

    python -m benchmarks.bit_rot HOME [FLIPS] [HEALED] [SEED]    (default: 1,000 flips, 0 healed; Ctrl-C ends it early)

HOME is the finished home of PROMPTCOT_PROFILE, as `promptcot run` left it; it is copied, and stays as it is. Each flip
is examined in a process of its own kind's turn and undone:

    named         `promptcot doctor --data` fails and names the file, or what it belongs to
    made again    the file follows from others, and was written anew before anything was read from it
    no effect     everything that can be read (rows, lineage, models, SQL, Delta's own view) is equal to before
    outside       a file of Dagster's, from which no row and no version is made
    SILENT        none of these
    CRASH         the process that examined it died

HEALED flips of rows and models are not undone: `promptcot run` must end with the data versions that it started from.
Ends with exit code 1 when there was a SILENT, a CRASH, or a run that did not heal.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

KINDS = {
    "rows": ["lake/*/_part=*/*.parquet"],
    "commits": ["lake/*/_delta_log/*.json"],
    "weights": ["models/[!.]*/*/*.safetensors"],
    "models' other files": ["models/[!.]*/*/**/*"],
    "manifests": ["models/[!.]*/*/manifest.json"],
    "search indexes": ["derived/*/*/*.arrow"],
    "catalogue": ["catalog.duckdb"],
    "Dagster's databases": ["dagster/**/*.db"],
    "Dagster's other files": ["dagster/**/*"],
}
OUTSIDE = ("Dagster's databases", "Dagster's other files")
HEALED_KINDS = ("rows", "weights", "models' other files")


def files_by_kind(home: Path) -> dict[str, list[Path]]:
    """Every file with content once, under the first kind that fits it best; paths relative to the home."""
    taken = set[Path]()
    kinds = dict[str, list[Path]]()
    for kind in sorted(KINDS, key=lambda kind: "other" in kind):
        found = {path for pattern in KINDS[kind] for path in home.glob(pattern) if path.is_file()}
        kinds[kind] = sorted(path.relative_to(home) for path in found - taken if path.stat().st_size)
        taken |= found
    return {kind: kinds[kind] for kind in KINDS if kinds[kind]}


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def examine(home: Path, kind: str, name: Path, bit: int, before: str) -> str:
    """The outcome of one flip, which is undone with all that the examination wrote."""
    path, catalogue = home / name, home / "catalog.duckdb"
    kept, kept_catalogue = path.read_bytes(), catalogue.read_bytes()
    flip(path, bit)
    try:
        return _outcome(home, kind, path, before)
    finally:
        catalogue.write_bytes(kept_catalogue)
        path.write_bytes(kept)


def _outcome(home: Path, kind: str, path: Path, before: str) -> str:
    from promptcot_assets.doctor.diagnosis import examine_data

    flipped = path.read_bytes()
    if kind == "search indexes":
        return "made again" if _is_asked_for_again(home, path) else "SILENT"
    named = [finding.found for finding in examine_data(home) if finding.level == "fail"]
    if named:
        owner = {path.name, *path.relative_to(home).parts[1:3]}  # the file, its table or its model
        return "named" if any(part in said for said in named for part in owner) else "SILENT"
    if kind == "catalogue" and path.read_bytes() != flipped:
        return "made again" if seen(home) == before else "SILENT"
    if kind in OUTSIDE:
        return "outside"
    return "no effect" if seen(home) == before else "SILENT"


def _is_asked_for_again(home: Path, path: Path) -> bool:
    """Whether a step that opens this index makes it anew instead."""
    import pyarrow as pa

    from promptcot_assets.lake import Ref
    from promptcot_assets.lake.derived import derived

    kind, asset, name = path.relative_to(home / "derived").parts
    partition, _, rest = name.rpartition("-")
    made = list[bool]()

    def make() -> pa.Table:
        made.append(True)
        return pa.table({"made": [1]})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is damaged, which is the point
        derived(home, kind, Ref(asset, 1, partition, rest.split(".")[0], 0), make)
    for other in set(path.parent.iterdir()) - {path}:
        other.unlink()
    return bool(made)


def seen(home: Path) -> str:
    """A hash of all that anybody can read in a home; of what cannot be read, the error."""
    from deltalake import DeltaTable

    from promptcot_assets.lake.ref import canonical_json
    from promptcot_assets.reports.query import query
    from promptcot_assets.tables import open_lake

    lake, digest = open_lake(home), hashlib.sha256()
    for commit in lake.lineage():
        digest.update(canonical_json([commit.ref.json(), commit.provenance.to_dict(), commit.timestamp]).encode())
    for asset in lake.assets():
        digest.update(canonical_json(sorted(DeltaTable(str(home / "lake" / asset)).file_uris())).encode())
        for ref in lake.current(asset):
            rows = lake.table(ref)
            digest.update(canonical_json([str(rows.schema.metadata), rows.to_pylist()]).encode())
            if "path" in rows.column_names and rows.num_rows:
                digest.update(str(sorted(path.name for path in lake.checkpoint(ref).rglob("*"))).encode())
        digest.update(repr(query(home, f"from {asset}").rows).encode())
    for view in ("lineage", "models", "runs"):
        digest.update(repr(query(home, f"from {view} order by all").rows).encode())
    return digest.hexdigest()


def rot(home: Path, flips: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Outcomes by kind of as many flips, the kinds in turn; what was SILENT or a CRASH, each in one line."""
    draw = random.Random(seed)
    kinds = files_by_kind(home)
    outcomes, faults = {kind: Counter[str]() for kind in kinds}, list[str]()
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=spawn)
    before = pool.submit(seen, home).result()
    for number in range(flips):
        kind = list(kinds)[number % len(kinds)]
        name = draw.choice(kinds[kind])
        kept = (home / name).read_bytes()
        bit = draw.randrange(8 * len(kept))
        try:
            outcome = pool.submit(examine, home, kind, name, bit, before).result()
        except KeyboardInterrupt:
            break
        except BrokenProcessPool:
            outcome, pool = "CRASH", ProcessPoolExecutor(1, mp_context=spawn)
            (home / name).write_bytes(kept)
        except Exception as error:  # noqa: BLE001  (of the kind that nobody explained)
            outcome = f"SILENT: {type(error).__name__}"
            faults.append(f"{kind}: bit {bit} of {name}: {error}")
        outcomes[kind][outcome] += 1
        if outcome in ("SILENT", "CRASH"):
            faults.append(f"{kind}: bit {bit} of {name}: {outcome}")
        if sys.stderr.isatty() or number % 100 == 99:
            print(f"{number + 1} of {flips} flips", file=sys.stderr)
    pool.shutdown()
    return outcomes, faults


def heal(home: Path, count: int, seed: int) -> list[str]:
    """Flip, run the arc again, compare the versions of data; what did not heal."""
    draw, kinds, faults = random.Random(seed), files_by_kind(home), list[str]()
    before = data_versions(home)
    for number in range(count):
        kind = HEALED_KINDS[number % len(HEALED_KINDS)]
        name = draw.choice(kinds[kind])
        flip(home / name, draw.randrange(8 * (home / name).stat().st_size))
        environment = os.environ | {"PROMPTCOT_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
        run = subprocess.run(
            [sys.executable, "-m", "promptcot_assets.cli", "run"], env=environment, capture_output=True, text=True
        )
        after = data_versions(home)
        if run.returncode or after != before:
            faults.append(f"{kind}: {name}: {run.stderr[-500:] or sorted(set(after.items()) ^ set(before.items()))}")
        print(f"{number + 1} of {count} runs after a flip", file=sys.stderr)
    return faults


def data_versions(home: Path) -> dict[str, tuple[str, bool]]:
    """By table and partition, the newest version of the data and whether it is whole."""
    from promptcot_assets.tables import open_lake

    lake = open_lake(home)
    newest = [ref for asset in lake.assets() for ref in lake.current(asset)]
    return {f"{ref.asset}[{ref.partition}]": (ref.data_version, lake.verify(ref)) for ref in newest}


def main() -> int:
    given = [int(number) for number in sys.argv[2:5]]
    flips, healed, seed = [*given, *(1000, 0, 1)[len(given) :]]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(shutil.copytree(sys.argv[1], Path(folder) / "home"))
        outcomes, faults = rot(home, flips, seed)
        print(f"{'kind':<24}{'flips':>6}  outcomes")
        for kind, counts in outcomes.items():
            print(f"{kind:<24}{counts.total():>6}  {', '.join(f'{what} {n}' for what, n in counts.most_common())}")
        unhealed = heal(home, healed, seed) if healed else []
        if healed:
            print(f"{healed} runs after a flip: {healed - len(unhealed)} ended with the data versions of before")
    print("\n".join([*faults, *unhealed]) or "every bit was named, made again, or without effect")
    return bool(faults or unhealed)


if __name__ == "__main__":
    sys.exit(main())
