from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from promptcot_assets.lake import LakeError
from promptcot_assets.lake.schemas import SCHEMAS
from promptcot_assets.reports.export import TRAINING_COLUMNS, export_figure, export_table
from promptcot_assets.reports.history import History
from tests.reports.small_home import BATCH, Home


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


def test_an_empty_table_is_exported_with_its_columns(own_arc: Home, tmp_path: Path) -> None:
    own_arc.commit("preference_pairs", [], "rollouts", "verdicts", partition="tiny")
    export_table(own_arc.path, "preference_pairs", "tiny", tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "data" / "tiny.parquet")  # `datasets` refuses splits without rows
    assert (rows.column_names, rows.num_rows) == (["prompt", "chosen", "rejected"], 0)


def test_the_card_tells_versions_meaning_origin_and_cost(arc: Home, tmp_path: Path) -> None:
    export_table(arc.path, "sft_examples", None, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    ref = arc.refs["sft_examples"]
    assert f"`{ref}` | 2 | `{ref.data_version}`" in text
    assert "| `completion` | what it learns to write |" in text
    assert f"- `{arc.refs['seed_problems']}`, data version `{arc.refs['seed_problems'].data_version}`, 3 rows" in text
    ancestors = [one.ref for one in arc.lake.ancestors(ref)]
    above = [entry for entry in History(arc.path).entries.values() if entry.ref in ancestors]
    tokens = sum(entry.commit.provenance.tokens for entry in above)
    assert tokens and f"In all {tokens:,} tokens" in text


@pytest.mark.parametrize(("table", "partition", "message"), [
    ("problem", None, "no table 'problem'; there are benchmark_generations"),
    ("problems", "second", "problems has no partition 'second'; it has first"),
    ("control_bounds", None, "control_bounds is not in the lake yet"),
    ("sft_model", None, "sft_model is a model"),
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


def test_an_unknown_figure_is_told(arc: Home, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no figure 'pie'; there are em, funnel, distribution"):
        export_figure(arc.path, "pie", tmp_path / "pie.png")
