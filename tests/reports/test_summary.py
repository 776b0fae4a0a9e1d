"""The last screen of an arc, on a lake of a few rows."""

from pathlib import Path

import pyarrow as pa
from pytest import MonkeyPatch

from promptcot_assets.lake import Lake, Ref
from promptcot_assets.reports.summary import summary
from tests.reports.small_home import Home


def test_the_well_posed_rate_is_told_without_reading_completions(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    home, read = Home(tmp_path / "home"), list[list[str]]()
    raw = [{"raw_problem_id": f"raw_{n}", "completion": "long", "well_posed": n < 3} for n in range(4)]
    home.commit("raw_problems", raw[:2], partition="first")
    home.commit("raw_problems", raw[2:], partition="second")
    read_table = Lake.table

    def noting(lake: Lake, ref: Ref, columns: list[str] | None = None) -> pa.Table:
        table = read_table(lake, ref, columns)
        read.append(table.column_names)
        return table

    monkeypatch.setattr(Lake, "table", noting)
    assert "  mini_maths: well-posed rate of completions 0.750\n" in summary(home.lake, home.path)
    assert read == [["domain", "well_posed"]] * 2
