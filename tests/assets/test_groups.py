"""The graph of groups, as the UI draws it from left to right."""

from promptcot_assets.assets.everything import STEPS
from promptcot_assets.definitions import defs


def edges() -> set[tuple[str, str]]:
    """(from, to) of every two groups of which one reads the other."""
    graph = defs.resolve_asset_graph()
    group_of = {key: str(graph.get(key).group_name) for key in graph.materializable_asset_keys}
    return {
        (group_of[parent], group_of[key])
        for key in group_of
        for parent in graph.get(key).parent_keys
        if group_of[parent] != group_of[key]
    }


def groups() -> list[str]:
    """The groups of this profile, in their order; some are there only where a profile asks for their assets."""
    graph = defs.resolve_asset_graph()
    used = {str(graph.get(key).group_name) for key in graph.materializable_asset_keys}
    order = dict.fromkeys(member.table.group for step in STEPS for member in step.members)
    assert used <= order.keys()
    return [group for group in order if group in used]


def test_data_flow_from_group_to_group_in_their_order_and_never_back() -> None:
    order = groups()
    assert {name for edge in edges() for name in edge} == set(order)
    assert [edge for edge in edges() if order.index(edge[0]) > order.index(edge[1])] == []
