from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.reports import plots
from promptcot_assets.reports.export import (
    CHATS,
    FIGURES,
    TRAINING_COLUMNS,
    Format,
    export_figure,
    export_model,
    export_table,
    push,
)
from promptcot_assets.tables import SCHEMAS
from tests.small_home import BATCH, Home


def loaded(folder: Path, cache: Path):
    import datasets

    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
@pytest.mark.parametrize("table", ["sft_examples", "preference_pairs"])
def test_training_tables_load_in_trls_columns(arc: Home, tmp_path: Path, table: str, format_) -> None:
    export_table(arc.path, table, None, tmp_path / "out", format_)
    rows = loaded(tmp_path / "out", tmp_path / "cache")
    assert rows.column_names == list(TRAINING_COLUMNS[table])
    stored = arc.lake.table(arc.refs[table], list(TRAINING_COLUMNS[table])).to_pylist()
    assert rows.to_list() == stored


def test_other_tables_load_with_every_column(arc: Home, tmp_path: Path) -> None:
    refs = export_table(arc.path, "problems", BATCH, tmp_path / "out")
    assert refs == [arc.refs["problems"]]
    rows = loaded(tmp_path / "out", tmp_path / "cache")
    assert rows.column_names == SCHEMAS["problems"].names
    assert rows["concepts"][0] == ["ratios"]


def test_all_partitions_are_exported_and_one_can_be_named(own_arc: Home, tmp_path: Path) -> None:
    own_arc.commit(
        "math_answers", [{"label_id": "later", "problem_id": "p", "voter": "v"}], "problems", partition="second"
    )
    assert len(export_table(own_arc.path, "math_answers", None, tmp_path / "all")) == 2
    assert sorted(path.name for path in (tmp_path / "all" / "data").iterdir()) == ["first.parquet", "second.parquet"]
    assert len(loaded(tmp_path / "all", tmp_path / "cache")) == 3
    export_table(own_arc.path, "math_answers", "second", tmp_path / "one", "jsonl")
    lines = (tmp_path / "one" / "data" / "second.jsonl").read_text().splitlines()
    assert [json.loads(line)["label_id"] for line in lines] == ["later"]


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_an_empty_table_streams_with_its_columns_and_says_so(own_arc: Home, tmp_path: Path, format_: Format) -> None:
    import datasets

    own_arc.commit("preference_pairs", [], "rollouts", "verdicts", partition="tiny")
    export_table(own_arc.path, "preference_pairs", "tiny", tmp_path / "out", format_)
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)  # the only way it reads none
    assert (list(rows), rows.column_names) == ([], ["prompt", "chosen", "rejected"])
    assert "streaming=True" in (tmp_path / "out" / "README.md").read_text()


def test_an_empty_partition_beside_others_is_no_trouble(own_arc: Home, tmp_path: Path) -> None:
    own_arc.commit("math_answers", [], "problems", partition="second")
    export_table(own_arc.path, "math_answers", None, tmp_path / "out")
    assert len(loaded(tmp_path / "out", tmp_path / "cache")) == 2


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_training_tables_load_as_chats(arc: Home, tmp_path: Path, format_: Format) -> None:
    export_table(arc.path, "sft_examples", None, tmp_path / "sft", format_, chats=True)
    first = loaded(tmp_path / "sft", tmp_path / "cache")[0]
    assert first == {"messages": [{"role": "user", "content": "new 1?"}, {"role": "assistant", "content": "so 7"}]}
    export_table(arc.path, "preference_pairs", None, tmp_path / "pairs", format_, chats=True)
    (pair,) = loaded(tmp_path / "pairs", tmp_path / "cache2")
    assert pair == {
        "prompt": [{"role": "user", "content": "new 2?"}],
        "chosen": [{"role": "assistant", "content": "1"}],
        "rejected": [{"role": "assistant", "content": "2"}],
    }
    with pytest.raises(LakeError, match="problems has no turns"):
        export_table(arc.path, "problems", None, tmp_path / "no", chats=True)
    assert set(CHATS) == set(TRAINING_COLUMNS)


def test_what_is_exported_can_be_read_as_seeds_again(arc: Home, tmp_path: Path) -> None:
    """Published problem sets have `prompt` or `problem`; our own exports are read by the same importer."""
    from promptcot_assets.stages.corpus.reading import read_seeds

    export_table(arc.path, "problems", None, tmp_path / "out", "jsonl")
    rows, dropped = read_seeds(tmp_path / "out" / "data" / f"{BATCH}.jsonl")
    stored = arc.lake.table(arc.refs["problems"]).to_pylist()
    assert dropped == []
    assert [(row["problem"], row["concepts"]) for row in rows] == [(row["problem"], row["concepts"]) for row in stored]
    export_table(arc.path, "sft_examples", None, tmp_path / "sft")
    rows, _ = read_seeds(tmp_path / "sft" / "data" / "tiny.parquet")
    assert [row["problem"] for row in rows] == ["new 1?", "one?"]


def test_a_model_is_exported_with_a_card_and_without_our_manifest(arc: Home, tmp_path: Path) -> None:
    assert export_model(arc.path, "sft_model", None, tmp_path / "out") == [arc.refs["sft_model"]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "model.safetensors"]
    assert f"# {arc.models['sft_model']}" in (tmp_path / "out" / "README.md").read_text()


def test_of_several_models_one_must_be_named(own_arc: Home, tmp_path: Path) -> None:
    own_arc.train("sft_model", "student_base", partition="other", weights="other")
    with pytest.raises(LakeError, match="name a partition, one of other, tiny"):
        export_model(own_arc.path, "sft_model", None, tmp_path / "out")
    assert export_model(own_arc.path, "sft_model", "other", tmp_path / "out") == [own_arc.refs["sft_model"]]


@pytest.mark.parametrize("repository", ["org/name", "no name"])
def test_a_push_that_fails_says_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(LakeError, match=f"cannot be pushed to {repository}.*hf upload"):
        push(tmp_path, repository, "dataset")
    assert tmp_path.is_dir()


@pytest.mark.parametrize(("table", "partition", "message"), [
    ("problem", None, "no table 'problem'; there are benchmark_generations"),
    ("problems", "second", "problems has no partition 'second'; it has first"),
    ("control_bounds", None, "control_bounds is not in the lake yet"),
])  # fmt: skip
def test_what_cannot_be_exported_is_told(
    arc: Home, tmp_path: Path, table: str, partition: str | None, message: str
) -> None:
    with pytest.raises(LakeError, match=message):
        export_table(arc.path, table, partition, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(arc: Home, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(LakeError, match="is in the way"):
        export_table(arc.path, "problems", None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_failed_export_leaves_nothing(arc: Home, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="cannot write"):
        export_table(arc.path, "problems", None, Path("/proc/nowhere/out"))


def test_the_em_figure_is_a_png_of_the_curves(arc: Home, tmp_path: Path) -> None:
    refs = export_figure(arc.path, "em", tmp_path / "figures" / "em.png")
    assert refs == [arc.refs["em_curves"]]
    assert (tmp_path / "figures" / "em.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_em_figure_takes_homes_of_frozen_rationales(
    arc: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    drawn = plots.em_figure
    monkeypatch.setitem(FIGURES, "em", ("em_curves", lambda *runs, **more: given.update(more) or drawn(*runs, **more)))
    export_figure(arc.path, "em", tmp_path / "em.png", frozen=[arc.path])
    (points,) = given["frozen"]
    assert {(row["series"], row["round"]) for row in points} == {("em", 1)}
    with pytest.raises(LakeError, match="shows one home"):
        export_figure(arc.path, "funnel", tmp_path / "funnel.png", frozen=[arc.path])


def test_an_unknown_figure_is_told(arc: Home, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no figure 'pie'; there are em, funnel, distribution"):
        export_figure(arc.path, "pie", tmp_path / "pie.png")
