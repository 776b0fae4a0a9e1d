"""What is computed from a ref is computed once, follows its content, and is made again when lost or damaged."""

import struct
from collections.abc import Callable

import pyarrow as pa
import pytest

from promptcot_assets.lake import Lake, Ref
from promptcot_assets.lake.derived import derived, mapped
from promptcot_assets.tables import open_lake
from tests.lake.lake_examples import PROBLEMS, problems, provenance


class Lengths:
    """A derived table, and how often it was computed."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.made = lake, 0

    def of(self, ref: Ref, kind: str = "lengths") -> list[int]:
        def make() -> pa.Table:
            self.made += 1
            return pa.table({"length": [len(text) for text in self.lake.table(ref)["problem"].to_pylist()]})

        return derived(self.lake.home, kind, ref, make)["length"].to_pylist()


@pytest.fixture
def ref(lake: Lake) -> Ref:
    return lake.commit("problems", [problems(3)], PROBLEMS, provenance(), "b1")


def files(lake: Lake) -> list[str]:
    """Without the checksums in their names."""
    paths = [path.relative_to(lake.home / "derived") for path in lake.home.glob("derived/*/*/*")]
    return sorted(str(path.with_name(path.name.rsplit(".", 2)[0] + ".arrow")) for path in paths)


def test_computed_once_also_by_another_process(lake: Lake, ref: Ref) -> None:
    lengths, others = Lengths(lake), Lengths(open_lake(lake.home))
    assert lengths.of(ref) == lengths.of(ref) == others.of(ref) == [4, 4, 4]
    assert (lengths.made, others.made) == (1, 0)
    assert files(lake) == [f"lengths/problems/b1-{ref.data_version}.arrow"]


def test_another_kind_partition_or_content_is_another_table(lake: Lake, ref: Ref) -> None:
    lengths = Lengths(lake)
    lengths.of(ref)
    lengths.of(ref, "lengths-v2")
    other = lake.commit("problems", [problems(2, "longer")], PROBLEMS, provenance(), "b1-x")
    assert lengths.of(other) == [9, 9] and lengths.made == 3 and len(files(lake)) == 3


def test_a_new_version_of_a_partition_replaces_the_old_one_s_table(lake: Lake, ref: Ref) -> None:
    lengths = Lengths(lake)
    lengths.of(ref)
    sibling = lake.commit("problems", [problems(1)], PROBLEMS, provenance(), "b1-more")
    lengths.of(sibling)
    newer = lake.commit("problems", [problems(2, "longer")], PROBLEMS, provenance(1), "b1")
    assert lengths.of(newer) == [9, 9]
    left = {f"lengths/problems/{one.partition}-{one.data_version}.arrow" for one in (newer, sibling)}
    assert set(files(lake)) == left
    assert lengths.of(ref) == [4, 4, 4]  # who asks for the old one gets it


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {
    "cut": lambda content: content[:-100],
    "empty": lambda content: b"",
    "a bit of a value": lambda content: flip(content, content.index(struct.pack("<q", 4))),
    "a bit of the footer": lambda content: flip(content, len(content) - 20),
    "a sector of zeros": lambda content: bytes(512) + content[512:],
    "all of another file": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_table_is_made_again_with_a_warning(lake: Lake, ref: Ref, damage: Callable[[bytes], bytes]) -> None:
    lengths = Lengths(lake)
    lengths.of(ref)
    (path,) = lake.home.glob("derived/*/*/*.arrow")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged and will be computed again"):
        assert lengths.of(ref) == [4, 4, 4]
    assert lengths.made == 2 and lengths.of(ref) == [4, 4, 4] and lengths.made == 2


def test_a_failure_leaves_nothing_behind(lake: Lake, ref: Ref) -> None:
    def fail() -> pa.Table:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        derived(lake.home, "lengths", ref, fail)
    assert files(lake) == []


def test_a_mapped_table_is_the_same_table(lake: Lake) -> None:
    table = pa.concat_tables([problems(3), problems(2, "q")])
    found = mapped(lake.home / "spool" / "some.arrow", table)
    assert found.equals(table) and found["problem"].num_chunks == 1
