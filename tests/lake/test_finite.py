"""Numbers in the lake are finite, in whatever they are nested, unless a column says otherwise."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from promptcot_assets.lake import Lake, LakeError
from tests.lake.lake_examples import provenance

REAL = pa.float64()
COLUMNS = {
    "a number": (REAL, lambda odd: odd),
    "a small number": (pa.float32(), lambda odd: odd),
    "a list": (pa.list_(REAL), lambda odd: [1.0, odd]),
    "a list of lists": (pa.list_(pa.list_(REAL)), lambda odd: [[], [0.0, odd]]),
    "a struct": (pa.struct([("x", REAL)]), lambda odd: {"x": odd}),
    "a list of structs": (pa.list_(pa.struct([("n", pa.int64()), ("x", REAL)])), lambda odd: [{"n": 1, "x": odd}]),
}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_what_is_not_finite_is_refused_with_its_row(lake: Lake, column: tuple, odd: float) -> None:  # type: ignore[type-arg]
    kind, value = column
    batches = [pa.table({"x": pa.array(rows, kind)}) for rows in ([value(0.5), None], [None, value(1.0), value(odd)])]
    with pytest.raises(LakeError, match=rf"scores: column 'x' holds {odd} in row 4; it must be a finite number"):
        lake.commit("scores", batches, pa.schema([("x", kind)]), provenance())
    assert lake.newest("scores") is None
    allowed = pa.schema([pa.field("x", kind, metadata={"not_finite": "true"})])
    assert lake.commit("scores", batches, allowed, provenance()).rows == 5


def test_a_sliced_batch_is_looked_at_where_it_is(lake: Lake) -> None:
    rows = pa.table({"x": pa.array([[math.nan], [1.0], [2.0]], pa.list_(REAL))})
    assert lake.commit("scores", [rows.slice(1)], rows.schema, provenance()).rows == 2
    with pytest.raises(LakeError, match="in row 0"):
        lake.commit("scores", [rows.slice(0, 1)], rows.schema, provenance())
