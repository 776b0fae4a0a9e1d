import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.lake.ids import content_id, in_share, seed_from

PART = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.text(st.characters(codec=None), max_size=3)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
PINNED = [  # ids that are on disk already: a change here orphans every lake
    (("maths", "What is 1 + 1?"), "4e51a13dfc64243d"),
    ((), "4f53cda18c2baa0c"),
    (("é", None, ["a", 3]), "0ae9974c1350017e"),
]


@given(st.lists(PART, max_size=4), st.lists(PART, max_size=4))
def test_equal_content_has_equal_ids_and_other_content_others(one: list, other: list) -> None:
    same = repr(one) == repr(other)
    assert (content_id(*one) == content_id(*other)) == same
    assert (seed_from(*one) == seed_from(*other)) == same


@given(st.lists(PART, max_size=4))
def test_an_id_is_16_hex_digits_and_a_seed_fits_a_signed_column(parts: list) -> None:
    assert len(content_id(*parts)) == 16 and int(content_id(*parts), 16) >= 0
    assert 0 <= seed_from(*parts) < 2**63


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", "b"), (["a", "b"],)),
        (("1",), (1,)),
        (("",), (None,)),
        (("a", None), ("a",)),
        (("é",), ("e\u0301",)),
        ((1, 23), (12, 3)),
    ],
)
def test_parts_do_not_run_into_each_other(one: tuple, other: tuple) -> None:
    assert content_id(*one) != content_id(*other)


def test_half_a_surrogate_pair_has_an_id_too() -> None:
    assert content_id("\ud800") != content_id("\ud801")


@pytest.mark.parametrize(("parts", "expected"), PINNED)
def test_ids_never_change(parts: tuple, expected: str) -> None:
    assert content_id(*parts) == expected


def test_ids_do_not_depend_on_the_process() -> None:
    code = "from promptcot_assets.lake.ids import content_id, seed_from; print(content_id('a', [1]), seed_from('a'))"
    said = set()
    for hash_seed in "12":
        environment = {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        said.add(done.stdout.strip())
    assert said == {f"{content_id('a', [1])} {seed_from('a')}"}


def test_seeds_are_spread_and_no_ids() -> None:
    seeds = [seed_from("x", k) for k in range(2000)]
    assert len(set(seeds)) == 2000
    assert 0.45 < sum(seed >> 62 for seed in seeds) / 2000 < 0.55
    assert seed_from("x") != int(content_id("x"), 16) >> 1


def test_a_share_of_all_is_drawn_by_the_hash_and_a_larger_one_gives_none_back() -> None:
    small, large = ({n for n in range(4000) if in_share(share, "draw", n)} for share in (0.1, 0.3))
    assert small < large and abs(len(small) - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5
    assert not any(in_share(0, "draw", n) for n in range(100)) and all(in_share(1, "draw", n) for n in range(100))
