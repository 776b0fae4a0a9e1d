import json
from collections import Counter
from pathlib import Path

import pytest

from promptcot_assets.domains import procedural_domain
from promptcot_assets.domains.layout import solution_text
from promptcot_assets.lake import Row
from promptcot_assets.lake.ids import content_id
from promptcot_assets.settings.profile import Corpus, ProblemFile, ProcedureSizes
from promptcot_assets.stages.corpus.seed_tables import (
    cases_of,
    concept_corpus,
    concept_set_id,
    seed_problems,
    seed_triples,
)
from promptcot_assets.stages.corpus.sources import SeedError
from tests.published_samples import COUNTS

SMALL = ProcedureSizes(seeds=30, held_out=6)


def problems_file(folder: Path, count: int, name: str = "seeds.jsonl", start: int = 0) -> str:
    rows = [
        {"problem": f"What is {n} + 1?", "answer": str(n + 1), "solution": f"{n} + 1 = {n + 1}", "concepts": ["sums"],
         "rationale": f"Take {n}."}
        for n in range(start, start + count)
    ]  # fmt: skip
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_procedural_seeds_keep_what_their_writer_knows() -> None:
    rows, dropped = seed_problems(Corpus(procedural={"mini_maths": SMALL, "mini_code": SMALL}), seed=1)
    assert not dropped
    counts = Counter((row["domain"], row["split"]) for row in rows)
    assert counts == {
        (name, split): n for name in ("mini_maths", "mini_code") for split, n in (("train", 30), ("held_out", 6))
    }
    written = procedural_domain("mini_code").write_seeds(30, 6, SMALL.annotators, 1)
    first = next(row for row in rows if row["domain"] == "mini_code" and row["split"] == "train")
    assert first["problem"] == written.train[0].problem
    assert json.loads(first["tests"]) == written.train[0].tests
    assert (first["source"], first["source_row"], first["annotator"]) == ("mini_code", 1, written.train[0].annotator)
    assert all(row["problem_id"] == content_id(row["domain"], row["problem"]) for row in rows)


def test_a_files_problem_is_held_out_by_its_text_so_that_rows_may_be_added(tmp_path: Path) -> None:
    sources = [problems_file(tmp_path, 400)]
    before = {row["problem_id"]: row["split"] for row in seed_problems(Corpus(files={"maths": sources}), 0)[0]}
    new, old = Path(problems_file(tmp_path, 100, "new.jsonl", start=1000)), Path(sources[0])
    old.write_text(new.read_text() + old.read_text())
    after = {row["problem_id"]: row["split"] for row in seed_problems(Corpus(files={"maths": sources}), 5)[0]}
    assert before.items() <= after.items()
    held_out = Counter(before.values())["held_out"]
    assert abs(held_out - 40) < 4 * (400 * 0.1 * 0.9) ** 0.5
    for share, split in ((0.0, "train"), (1.0, "held_out")):
        rows, _ = seed_problems(Corpus(files={"maths": sources}, held_out_share=share), 0)
        assert {row["split"] for row in rows} == {split}


def test_a_files_solution_is_put_in_the_form_students_are_taught(tmp_path: Path) -> None:
    rows, _ = seed_problems(Corpus(files={"maths": [problems_file(tmp_path, 2)]}), 0)
    assert rows[1]["solution"] == solution_text("1 + 1 = 2", "\\boxed{2}")
    assert (rows[1]["level"], rows[1]["annotator"], rows[1]["source"], rows[1]["source_row"]) == (
        "standard", "source", "seeds.jsonl", 2,
    )  # fmt: skip


def test_the_first_of_equal_texts_stays_and_the_others_are_counted(tmp_path: Path) -> None:
    sources = [problems_file(tmp_path, 5, "a.jsonl"), problems_file(tmp_path, 7, "b.jsonl")]
    rows, dropped = seed_problems(Corpus(files={"maths": sources}), 0)
    assert Counter((row["domain"], row["source"]) for row in rows) == {
        ("maths", "a.jsonl"): 5, ("maths", "b.jsonl"): 2,
    }  # fmt: skip
    assert [row["reason"] for row in dropped] == ["same text as an earlier seed"] * 5
    assert len({row["problem_id"] for row in rows}) == len(rows)


def test_unusable_rows_of_a_file_are_listed_and_a_file_of_nothing_else_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"problem": "Is 1 < 2?", "answer": "yes"}\n{"problem": ""}\n{not json\n')
    rows, dropped = seed_problems(Corpus(files={"maths": [str(path)]}), 0)
    assert len(rows) == 1
    assert [(row["source"], row["source_row"], row["reason"]) for row in dropped] == [
        ("seeds.jsonl", 2, "empty problem"), ("seeds.jsonl", 3, "not JSON; mend or delete the line"),
    ]  # fmt: skip
    assert all(row["domain"] == "maths" and row["dropped_row_id"] for row in dropped)
    path.write_text('{"problem": "Prove it.", "answer": "proof"}\n')
    with pytest.raises(SeedError, match=r"seeds.jsonl: no seed is left \(1 x a proof is asked for"):
        seed_problems(Corpus(files={"maths": [str(path)]}), 0)


def test_equal_texts_with_different_answers_are_both_named(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(f'{{"problem": "What is 1 + 1?", "answer": "{answer}"}}\n' for answer in (2, 3, 2)))
    rows, dropped = seed_problems(Corpus(files={"maths": [str(path)]}), 0)
    assert [row["answer"] for row in rows] == ["2"]
    assert [(row["source_row"], row["reason"], row["detail"]) for row in dropped] == [
        (2, "same text as an earlier seed, with another answer; keep the row that is right",
         "seeds.jsonl, row 1 says 2, this row 3"),
        (3, "same text as an earlier seed", "seeds.jsonl, row 1"),
    ]  # fmt: skip


def test_a_source_whose_answers_are_not_read_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"problem": "What is 1 + 1?", "my_answer": "2", "test_note": "x"}\n')
    told: list[str] = []
    assert len(seed_problems(Corpus(files={"maths": [str(path)]}), 0, told.append)[0]) == 1
    assert len(told) == 2 and "0 of 1 rows have an answer" in told[0] and "my_answer" in told[0]
    told.clear()
    mapped = ProblemFile(source=str(path), columns={"problem": "problem", "answer": "my_answer"})
    assert [row["answer"] for row in seed_problems(Corpus(files={"maths": [mapped]}), 0, told.append)[0]] == ["2"]
    assert not told


def test_tests_of_a_function_name_it() -> None:
    cases = [{"stdin": "1", "expected": "2"}]
    assert cases_of({"tests": cases, "fn_name": None}) == cases
    assert cases_of({"tests": cases, "fn_name": "f"}) == [{"stdin": "1", "expected": "2", "fn_name": "f"}]
    assert cases_of({"tests": None, "fn_name": None}) is None


def seed(number: int, **changed: object) -> Row:
    return {
        "problem_id": f"p{number}", "domain": "maths", "problem": f"{number}?", "concepts": ["a", "b"], "level": "easy",
        "rationale": "why", "annotator": "source", "source": "a.jsonl", "split": "train", **changed,
    }  # fmt: skip


def test_the_concept_corpus_counts_training_seeds_by_domain() -> None:
    rows = [seed(0), seed(1, concepts=["b"]), seed(2, domain="code"), seed(3, split="held_out"), seed(4, concepts=[])]
    counts = {(row["domain"], row["concept"]): row["problems"] for row in concept_corpus(rows)}
    assert counts == {("maths", "a"): 1, ("maths", "b"): 2, ("code", "a"): 1, ("code", "b"): 1}
    assert len({row["concept_id"] for row in concept_corpus(rows)}) == 4


def test_triples_are_the_annotated_training_seeds_and_the_rest_is_counted() -> None:
    rows = [
        seed(0), seed(1, rationale=None), seed(2, concepts=[]), seed(3, concepts=[], rationale=None),
        seed(4, rationale=""),        seed(5, split="held_out"), seed(6, split="held_out", rationale=None),
    ]  # fmt: skip
    triples, dropped = seed_triples(rows)
    assert [row["problem_id"] for row in triples] == ["p0"]
    assert dropped == {"no rationale": 2, "no concepts": 2}
    assert triples[0]["concept_set_id"] == concept_set_id(rows[0]) != concept_set_id(seed(0, level="hard"))
    assert triples[0]["rationale_id"] == content_id("p0", "why")


def test_seeds_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    corpus = Corpus(procedural={"mini_maths": SMALL})
    assert seed_problems(corpus, 3) == seed_problems(corpus, 3) != seed_problems(corpus, 4)


def test_annotated_seeds_in_their_published_shape_become_triples(published: Path) -> None:
    rows, dropped = seed_problems(Corpus(files={"maths": [str(published / "seed_triples_math.jsonl")]}), 0)
    triples, fallen = seed_triples(rows)
    assert len(rows) == COUNTS["seed_triples_math"] and not dropped
    train = sum(row["split"] == "train" for row in rows)
    assert 0.75 * len(rows) < train < len(rows)
    assert len(triples) + sum(fallen.values()) == train and len(triples) > 100
    assert not any("<" + "｜" in row["problem"] for row in triples)


def test_problems_that_are_only_played_on_are_no_seeds(tmp_path: Path) -> None:
    seeds, more = problems_file(tmp_path, 8), problems_file(tmp_path, 8, "more.jsonl", start=5)
    corpus = Corpus(files={"maths": [seeds]}, play_files={"maths": [more]}, held_out_share=0.3)
    rows, dropped = seed_problems(corpus, 0)
    splits = {row["problem"]: row["split"] for row in rows}
    assert all(splits[f"What is {n} + 1?"] == "play" for n in range(8, 13))
    assert all(splits[f"What is {n} + 1?"] != "play" for n in range(8))  # a seed that is in both is a seed
    assert [row["reason"] for row in dropped] == ["same text as an earlier seed"] * 3
    assert {row["problem_id"] for row in seed_triples(rows)[0]} == {
        row["problem_id"] for row in rows if row["split"] == "train"
    }
    assert sum(row["problems"] for row in concept_corpus(rows)) == sum(row["split"] == "train" for row in rows)
    assert corpus.sources() == [seeds, more] and Corpus().canonical() == Corpus(play_files={}).canonical()


def test_a_mix_is_read_once_under_each_of_its_domains(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    rows = (
        {"problem": "What is 1 + 1?", "answer": "2", "source": "synthetic_math"},
        {"problem": "Print a + b.", "tests": [{"stdin": "1 2", "expected": "3"}], "source": "synthetic_code"},
        {"problem": "Who knows?", "answer": "me", "source": "elsewhere"},
        {"problem": ""},
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seeds, dropped = seed_problems(Corpus(files={"maths": [str(path)], "code": [str(path)]}), 0)
    assert [(row["domain"], row["source_row"]) for row in seeds] == [("maths", 1), ("maths", 3), ("code", 2)]
    assert {row["reason"] for row in dropped} == {"empty problem"}
    seeds, dropped = seed_problems(Corpus(files={"maths": [str(path)]}), 0)
    assert [row["source_row"] for row in seeds] == [1, 3]
    assert {row["source_row"]: row["reason"] for row in dropped}[2] == "is code, and maths is read; read it under code"
