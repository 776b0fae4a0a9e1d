"""One flipped bit or lost file of every kind that a lake writes is named with its mend, and costs itself only."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptcot_assets.lake import Lake, LakeError, Ref
from tests.lake.lake_examples import PROBLEMS, problems, provenance, train

PLACES = 60  # bits of each file, evenly spread


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Ref]]:
    """seeds -> two versions of problems -> a model -> its scores."""
    lake = Lake(tmp_path_factory.mktemp("damage") / "home")
    refs = {"seeds": lake.commit("seeds", [problems(4, "s")], PROBLEMS, provenance(0))}
    lake.commit("problems", [problems(3)], PROBLEMS, provenance(1, refs["seeds"]))
    refs["problems"] = lake.commit("problems", [problems(30, "q")], PROBLEMS, provenance(2, refs["seeds"]))
    refs["model"] = train(lake, "student", b"weights" * 20, provenance(3, refs["problems"]))
    return lake.home, refs


@pytest.fixture
def home(template: tuple[Path, dict[str, Ref]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(template[0], tmp_path / "home"))


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def faults(home: Path) -> str:
    """What a fresh lake says of all that is in use."""
    lake, said = Lake(home), []
    for asset in lake.assets():
        try:
            lake.check_log(asset)
            for ref in lake.current(asset):
                lake.check(ref)
        except LakeError as error:
            said.append(str(error))
    return "\n".join(said)


KINDS = {
    "rows": ("lake/problems/_part=all/*.parquet", 1),
    "a commit file between others": (f"lake/problems/_delta_log/{1:020d}.json", 0),
    "the first commit file": (f"lake/problems/_delta_log/{0:020d}.json", 0),
    "weights": ("models/student/*/model.safetensors", 0),
    "a file beside the weights": ("models/student/*/tokenizer/vocab.json", 0),
    "a manifest": ("models/student/*/manifest.json", 0),
    "the row about a model": ("lake/student/_part=all/*.parquet", 0),
}


@pytest.mark.parametrize(("pattern", "newest"), KINDS.values(), ids=KINDS)
def test_every_bit_is_named_with_its_mend(home: Path, pattern: str, newest: int) -> None:
    assert faults(home) == ""
    path = sorted(home.glob(pattern), key=lambda path: path.stat().st_mtime_ns)[newest]
    whole = path.read_bytes()
    for place in range(PLACES):
        flip(path, place * (8 * len(whole) - 1) // (PLACES - 1))
        said = faults(home)
        assert str(path) in said and "restore" in said, (place, said)
        path.write_bytes(whole)
    assert faults(home) == ""


def test_a_bit_of_what_a_commit_says_is_seen_by_every_reader(home: Path, template: tuple[Path, dict[str, Ref]]) -> None:
    """In the newest commit file, that no later one vouches for: whatever we read of it has a checksum of its own."""
    path = home / "lake" / "problems" / "_delta_log" / f"{2:020d}.json"
    whole = path.read_text()
    start, end = whole.index('"promptcot":{'), whole.index('"clientVersion"')
    for place in range(start + 12, end, 7):
        flip(path, 8 * place)
        with pytest.raises(LakeError, match=f"commit file {path} is damaged"):
            Lake(home).table(template[1]["problems"])
        path.write_text(whole)


LOST = {
    "between others": 1,
    "the newest": 2,
    "the first": 0,
}


@pytest.mark.parametrize("version", LOST.values(), ids=LOST)
def test_a_lost_commit_file_costs_its_table_only(home: Path, version: int) -> None:
    lake = Lake(home)
    lake.publish()
    file = home / "lake" / "problems" / "_delta_log" / f"{version:020d}.json"
    file.unlink()
    lost = Lake(home)
    (said,) = lost.lost()
    assert f"table problems: commit file {file}" in str(said) and "restore it from a copy" in str(said)
    with pytest.raises(LakeError, match="missing"):
        lost.publish()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        ref = lost.commit("others", [problems(2)], PROBLEMS, provenance(5))  # goes through, and warns
    assert [one for one in warned if str(file) in str(one.message)]
    assert lost.verify(ref)
    assert len(Lake(home).lost()) == 1  # nothing that was published since has forgotten it


def test_rows_in_another_order_are_not_what_was_committed(home: Path, template: tuple[Path, dict[str, Ref]]) -> None:
    ref, lake = template[1]["problems"], Lake(home)
    (path,) = (path for path in home.glob("lake/problems/_part=all/*.parquet") if pq.read_metadata(path).num_rows == 30)
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.take(pa.array(range(rows.num_rows)[::-1])), path)
    for read in (lake.table, lambda ref: list(lake.batches(ref)), lake.check):
        with pytest.raises(LakeError, match=rf"problems\[all\]@2: file {path} is damaged"):
            read(ref)
    assert not lake.verify(ref)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the footer": lambda content: content[:-60] + bytes([content[-60] ^ 1]) + content[-59:],
    "a bit of the footer's length": lambda content: content[:-8] + bytes([content[-8] ^ 1]) + content[-7:],
    "the end is cut off": lambda content: content[:-100],
    "a sector of zeros": lambda content: bytes(512) + content[512:],
    "nothing is left": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_making_the_rows_again_heals(
    home: Path, template: tuple[Path, dict[str, Ref]], damage: Callable[[bytes], bytes]
) -> None:
    lake, ref = Lake(home), template[1]["problems"]
    for path in home.glob("lake/problems/_part=all/*.parquet"):
        path.write_bytes(damage(path.read_bytes()))
    assert lake.find("problems", provenance(2, template[1]["seeds"]).fingerprint) is None
    lake.publish()  # no other table is spoilt
    again = lake.commit("problems", [problems(30, "q")], PROBLEMS, provenance(2, template[1]["seeds"]))
    assert again.data_version == ref.data_version and lake.verify(again)
    assert lake.verify(ref)  # the version that the model rests on, too


def test_a_damaged_checkpoint_of_the_log_is_done_without(lake: Lake) -> None:
    for seed in range(52):  # Delta writes one every fifty commits
        lake._commit("problems", [problems(1, str(seed))], PROBLEMS, provenance(seed), "all")
    (path,) = lake.home.glob("lake/problems/_delta_log/*.checkpoint.parquet")
    path.write_bytes(path.read_bytes()[:100])
    fresh = Lake(lake.home)
    ref = fresh.commit("problems", [problems(2)], PROBLEMS, provenance(99))
    assert fresh.verify(ref) and len(fresh.history("problems")) == 53
    fresh.check_log("problems")
