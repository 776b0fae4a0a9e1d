"""What is said of the difference between the computations behind two versions."""

from __future__ import annotations

import json

from promptcot_assets.lake import Provenance, Ref
from promptcot_assets.lineage.changes import in_words


def ref(asset: str, partition: str = "all", content: str = "a") -> Ref:
    return Ref(asset, 1, partition, content, 5)


def provenance(code: str = "1", seed: int = 0, inputs: tuple[Ref, ...] = (), **settings: object) -> Provenance:
    return Provenance(code, json.dumps([{"em": settings}]), seed, inputs=inputs)


def test_every_kind_of_difference_has_its_words() -> None:
    assert in_words(provenance(k=4), provenance(k=4), "all") == ""
    assert in_words(provenance("1", k=4), provenance("2", k=4), "all") == "code: 1 before, 2 now"
    assert in_words(provenance(k=4), provenance(k=8), "all") == "setting em.k: 4 before, 8 now"
    assert in_words(provenance(a=1), provenance(a=1, k=8), "all") == "setting em.k: nothing before, 8 now"
    before, after = (ref("problems", "first"), ref("old")), (ref("problems", "first", "b"), ref("new"))
    assert in_words(provenance(inputs=before), provenance(inputs=after), "tiny") == (
        "input problems[first] has other content; input old is gone; input new is new"
    )


def test_many_differences_are_counted_and_long_values_cut() -> None:
    before, after = provenance("1", 0, a="x" * 100, b=1), provenance("2", 1, a="y" * 100, b=2)
    said = in_words(before, after, "all")
    assert said.startswith("code: 1 before, 2 now; seed: 0 before, 1 now; setting em.a: ")
    assert said.endswith("; and 1 more") and len(said) < 200
