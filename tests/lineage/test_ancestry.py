from __future__ import annotations

import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.lineage import ancestry
from promptcot_assets.lineage.history import History
from promptcot_assets.tables import TABLES
from tests.small_home import BATCH, STUDENT, Home


def test_the_tree_shows_what_is_recorded(arc: Home) -> None:
    history = History(arc.path)
    (entry,) = ancestry.commits_named(history, "raw_problems", None)
    lines = ancestry.as_text(history, entry).splitlines()
    data, when = entry.ref.data_version[:12], f"{entry.commit.timestamp:%Y-%m-%d %H:%M:%S}"
    assert lines[0] == (
        f"raw_problems[first]@1  data {data}, 4 rows, code 1, "
        f"settings {entry.commit.provenance.settings_hash}, seed 0, 40 tokens, 1.5 s, {when}"
    )
    assert lines[1].startswith("├─ concept_sets[first]@1  data ")
    assert sum("seed_triples[all]@1  data" in line for line in lines) == 1  # unfolded once
    assert any(line.endswith("seed_triples[all]@1 (above)") for line in lines)


def test_json_has_every_commit_once_nearest_first(arc: Home) -> None:
    history = History(arc.path)
    commits = ancestry.with_ancestors(history, ancestry.commits_named(history, "self_play_model", STUDENT))
    documents = [ancestry.as_json(entry) for entry in commits]
    refs = [(one["asset"], one["version"]) for one in documents]
    assert len(refs) == len(set(refs)) and refs[0] == ("self_play_model", 1) and ("seed_problems", 1) in refs
    assert documents[0]["model_id"] == arc.models["self_play_model"]
    assert {one.asset for one in documents[0]["inputs"]} == {"sft_model", "preference_pairs"}


def test_an_exact_ref_names_an_old_version(own_arc: Home) -> None:
    own_arc.commit("problems", [], "raw_problems", partition=BATCH)
    history = History(own_arc.path)
    assert [str(one.ref) for one in ancestry.commits_named(history, "problems", None)] == ["problems[first]@2"]
    for spelled in ("problems[first]@1", "problems@1"):
        assert [str(one.ref) for one in ancestry.commits_named(history, spelled, None)] == ["problems[first]@1"]


@pytest.mark.parametrize(("asset", "partition", "message"), [
    ("problem", None, "no table or model 'problem' in .*there are base_model, benchmark_generations"),
    ("problems", "second", r"no commit problems of partition second; the last ones are problems\[first\]@1"),
    ("problems[first]@1", "second", r"problems\[first\]@1 is not of partition second"),
    ("problems@9", None, r"no commit problems@9; the last ones are problems\[first\]@1"),
])  # fmt: skip
def test_what_is_not_there_is_told_with_what_is(arc: Home, asset: str, partition: str | None, message: str) -> None:
    with pytest.raises(LakeError, match=message):
        ancestry.commits_named(History(arc.path), asset, partition)


def test_nothing_is_stale_after_one_pass(arc: Home) -> None:
    assert ancestry.stale(History(arc.path)) == {}


def test_newer_data_makes_everything_below_stale(own_arc: Home) -> None:
    own_arc.commit("preference_pairs", [], "rollouts", "verdicts", partition=STUDENT)
    found = {str(ref): why for ref, why in ancestry.stale(History(own_arc.path)).items()}
    assert found["self_play_model[tiny]@1"] == ["preference_pairs[tiny]@1 is preference_pairs[tiny]@2 now"]
    assert found["benchmark_generations[tiny]@1"] == ["self_play_model[tiny]@1 is stale"]
    below = ("self_play_model", "benchmark_generations", "benchmark_verdicts", "benchmark_scores", "scaling")
    assert found.keys() == {f"{name}[tiny]@1" for name in below}


def test_a_new_version_of_equal_data_makes_nothing_stale(own_arc: Home) -> None:
    before = own_arc.refs["math_answers"]
    again = own_arc.lake.commit("math_answers", [own_arc.lake.table(before)], own_arc.lake.table(before).schema,
                                own_arc.lake.commit_of(before).provenance, BATCH)  # fmt: skip
    assert (again.version, again.data_version) == (2, before.data_version)
    assert ancestry.stale(History(own_arc.path)) == {}


def test_a_batch_that_has_come_since_makes_what_reads_all_batches_stale(own_arc: Home) -> None:
    own_arc.commit("teacher_traces", [], "problems", partition="second")
    found = {str(ref): why for ref, why in ancestry.stale(History(own_arc.path)).items()}
    assert found["sft_examples[tiny]@1"] == ["teacher_traces[second]@2 has come since"]
    assert found["sft_model[tiny]@1"] == ["sft_examples[tiny]@1 is stale"]
    assert "yield_report[first]@1" not in found  # of one batch


def test_what_reads_all_partitions_is_what_the_definitions_say() -> None:
    import dagster as dg

    from promptcot_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    whole: dict[str, set[str]] = {}
    for key in graph.materializable_asset_keys:
        for parent in graph.get(key).parent_keys:
            mapping = graph.get_partition_mapping(key, parent)
            if graph.get(parent).partitions_def and isinstance(mapping, dg.AllPartitionMapping):
                whole.setdefault(key.path[-1], set()).add(parent.path[-1])
    there = {name: one for name, one in TABLES.items() if one.reads_every and not one.optional}
    assert whole == {name: set(one.reads_every) for name, one in there.items()}
