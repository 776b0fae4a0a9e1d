from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcot_assets.lake import LakeError, Provenance, Ref

REF = Ref("problems", 3, "all", "ab" * 16, 10)
BASE = Provenance("1", '{"n":8}', 0, "run", (REF, replace(REF, asset="concepts")), tokens=5, seconds=1.5)


@given(st.builds(Ref, st.text(), st.integers(0), st.text(), st.text(), st.integers(0)))
def test_json_round_trip(ref: Ref) -> None:
    assert Ref.from_json(ref.json()) == ref


def test_from_a_dict_as_dagster_metadata_gives_it() -> None:
    fields = {"asset": "problems", "version": 3, "partition": "all", "data_version": "ab" * 16, "rows": 10}
    assert Ref.from_json(fields) == REF


@pytest.mark.parametrize("text", ["", "[]", "null", "3", '{"asset": "a"}', REF.json().replace("}", ',"more":1}')])
def test_what_is_not_a_ref_is_named(text: str) -> None:
    with pytest.raises(LakeError, match="ref"):
        Ref.from_json(text)


CHANGES = [
    ("the code", replace(BASE, code_version="2"), True),
    ("a setting", replace(BASE, settings='{"n":9}'), True),
    ("the seed", replace(BASE, seed=1), True),
    ("the content of an input", replace(BASE, inputs=(replace(REF, data_version="c"), BASE.inputs[1])), True),
    ("the partition of an input", replace(BASE, inputs=(replace(REF, partition="b"), BASE.inputs[1])), True),
    ("an input more", replace(BASE, inputs=(*BASE.inputs, REF)), True),
    ("the order of inputs, which may tell teacher from student", replace(BASE, inputs=BASE.inputs[::-1]), True),
    (
        "an input committed again with the same rows",
        replace(BASE, inputs=(replace(REF, version=9), BASE.inputs[1])),
        False,
    ),
    ("the run", replace(BASE, run_id="other"), False),
    ("the cost", replace(BASE, tokens=6, seconds=9.0), False),
]


@pytest.mark.parametrize(("what", "changed", "differs"), CHANGES, ids=[what for what, *_ in CHANGES])
def test_fingerprint_covers_what_determines_the_result(what: str, changed: Provenance, differs: bool) -> None:
    assert (changed.fingerprint != BASE.fingerprint) == differs, what
