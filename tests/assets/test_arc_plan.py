"""The plan of the arc: what `promptcot run --until` takes, and that every asset is in it."""

import pytest

from promptcot_assets.automation.arc import ArcError, legs, until
from promptcot_assets.definitions import build_definitions
from promptcot_assets.settings import load_settings


def test_every_asset_is_made_by_one_leg_after_what_it_needs() -> None:
    plan = legs(load_settings("demo"))
    made = [(asset, leg.partition) for leg in plan for asset in leg.assets]
    assert len(made) == len(set(made))
    graph = build_definitions("demo").resolve_asset_graph()
    assert {asset for asset, _ in made} == {key.to_user_string() for key in graph.get_all_asset_keys()}
    done: set[str] = set()
    for leg in plan:
        assert done.issuperset(leg.after), leg.name
        done.add(leg.name)


def test_until_takes_a_leg_and_what_it_needs() -> None:
    plan = legs(load_settings("demo"))
    assert [leg.name for leg in until(plan, "EM round_01")] == [
        "corpus", "base model", "cold start q", "cold start p", "cold start bounds", "EM round_01",
    ]  # fmt: skip
    assert until(plan, "corpus") == plan[:1]
    with pytest.raises(ArcError, match=r"no leg 'EM round_99'; the legs of this profile are corpus, base model"):
        until(plan, "EM round_99")
