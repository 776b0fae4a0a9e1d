"""Models that are asked and never trained, for real: tiny ones on a real Dagster instance, from seeds to a student."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptcot_assets.assets.evaluation import _stages as stages_asked
from promptcot_assets.automation.arc import legs
from promptcot_assets.lake import Lake, Row
from promptcot_assets.settings import load_settings
from promptcot_assets.settings.profile import BaseModel, Student, TinyModel
from promptcot_assets.tables import open_lake
from tests.assets.teacher_chain import BOX, CODE, CONCEPTS, MATHS, PROFILE, ROOT, SEEDS

BASE = BaseModel(scratch=TinyModel())
pytestmark = pytest.mark.timeout(1600)  # a minute of CPU, most of it in a child: long on a busy machine


def test_the_arc_fetches_teachers_before_they_are_asked(tmp_path: Path) -> None:
    (tmp_path / "teachers.yaml").write_text(PROFILE.format(folder=tmp_path))
    plan = {leg.name: leg for leg in legs(load_settings(str(tmp_path / "teachers.yaml")))}
    assert plan["annotations one"].after == ("teacher one",) and plan["annotations one"].partition == "one"
    assert plan["corpus"].after == ("annotations one", "annotations two")
    assert {f"teacher {name}" for name in ("voter", "tester", "tracer")} <= set(plan["batch first"].after)
    assert set(plan["zero shot first"].after) == {"batch first", "teacher tracer", "teacher voter"}
    assert not any("teacher" in leg.name for leg in legs(load_settings("demo")))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("teachers")
    ours = ("PROMPTCOT_HOME", "PROMPTCOT_PROFILE", "PROMPTCOT_SEED")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-m", "tests.assets.teacher_chain", str(folder / "home"), str(folder / "models")],
        cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return open_lake(folder / "home")


def rows(lake: Lake, asset: str, partition: str = "all") -> list[Row]:
    ref = lake.newest(asset, partition)
    assert ref, f"{asset}[{partition}] was not made"
    return lake.table(ref).to_pylist()


def model_of(lake: Lake, teacher: str) -> str:
    return str(rows(lake, "teacher_model", teacher)[0]["model_id"])


@pytest.mark.slow
def test_annotators_give_every_seed_a_triple_each_and_their_concepts_reach_the_corpus(lake: Lake) -> None:
    for name, said in CONCEPTS.items():
        written = rows(lake, "seed_annotations", name)
        assert len(written) == len(SEEDS) and {row["model"] for row in written} == {model_of(lake, name)}
        assert [row["concepts"] for row in written] == [said] * len(SEEDS)
        assert all((row["rationale"] is None) == (row["split"] == "held_out") for row in written)
    seeds, triples = rows(lake, "seed_problems"), rows(lake, "seed_triples")
    train = [row for row in seeds if row["split"] == "train" and row["domain"] == "maths"]
    assert {row["split"] for row in seeds} == {"train", "held_out"} and all(row["concepts"] for row in seeds)
    assert len(triples) == 2 * len(train) + 1  # and the one that its source annotates
    assert {row["annotator"] for row in triples} == {"one", "two", "source"}
    assert {row["concept"] for row in rows(lake, "concept_corpus") if row["domain"] == "maths"} == {
        concept for row in train for concept in row["concepts"]
    }


@pytest.mark.slow
def test_votes_tests_and_traces_come_from_three_models(lake: Lake) -> None:
    answers, tests = rows(lake, "math_answers", "first"), rows(lake, "code_tests", "first")
    assert [row["answer"] for row in answers] == ["4"] * len(MATHS)
    assert {row["voter"] for row in answers} == {model_of(lake, "voter")}
    kept = [row for row in tests if row["expected"] is not None]
    assert len(kept) == len(CODE) and {(row["expected"], row["agree"]) for row in kept} == {("4", 3)}
    assert {row["writer"] for row in tests} == {model_of(lake, "tester")}
    traces = rows(lake, "teacher_traces", "first")
    assert {row["teacher"] for row in traces} == {model_of(lake, "tracer")}
    # written in channels, kept in the students' form; most of the samples at temperature 1 are the answer it learned
    assert sum(row["valid"] for row in traces) >= len(traces) / 2
    assert f"<think>so</think>{BOX}" in {row["trace"] for row in traces}
    hard = rows(lake, "zero_shot_difficulty", "first")
    assert {(row["teacher"], row["model"]) for row in hard} == {(model_of(lake, "tracer"), model_of(lake, "voter"))}
    assert len(hard) == 5 and all(row["passed"] for row in hard)


@pytest.mark.slow
def test_a_student_learns_and_answers_through_its_template(lake: Lake) -> None:
    """Tables hold plain prompts; what its template begins stands at the head of what it wrote."""
    examples, drawn = rows(lake, "sft_examples", "thinker"), rows(lake, "rollouts", "thinker")
    assert examples and drawn and all("<|im_start|>" not in row["prompt"] for row in [*examples, *drawn])
    assert all(row["completion"].startswith("<think>so") for row in examples)
    assert all(row["completion"].startswith("<think>\n") for row in drawn)
    passed = [row["passed"] for row in rows(lake, "verdicts", "thinker") if row["usable"]]
    assert len(passed) >= len(drawn) / 2 and sum(passed) >= len(drawn) / 4  # untaught, it writes nothing of the kind


@pytest.mark.slow
def test_who_was_asked_and_how_is_in_the_lineage(lake: Lake) -> None:
    ref = lake.newest("math_votes", "first")
    assert ref
    made = lake.commit_of(ref).provenance
    assert {one.asset: one.partition for one in made.inputs} == {"problems": "first", "teacher_model": "voter"}
    assert (
        '"batch_size":32' in made.settings and '"required":true' in made.settings and "test_writer" not in made.settings
    )
    ref = lake.newest("seed_triples")
    assert ref
    used = {str(one).partition("@")[0] for one in lake.commit_of(ref).provenance.inputs}
    assert used == {"seed_problems[all]", "seed_annotations[one]", "seed_annotations[two]"}


@pytest.mark.slow
def test_of_a_model_that_a_server_runs_only_what_its_prompts_need_is_kept(lake: Lake) -> None:
    own, served = (lake.newest("teacher_model", name) for name in ("voter", "served"))
    assert own and served
    files, without = ({one.name for one in lake.checkpoint(ref).iterdir()} for ref in (own, served))
    assert files - without == {"model.safetensors"} and "chat_template.jinja" in without


@pytest.mark.slow
def test_without_sft_a_student_plays_as_its_base(lake: Lake) -> None:
    (base,), (model,) = rows(lake, "student_base", "untaught"), rows(lake, "sft_model", "untaught")
    assert model["base"] == base["model_id"] and model["steps"] == 0
    assert [stage for stage, _ in stages_asked(Student(base=BASE, taught=False))] == ["base", "self_play"]
    assert [stage for stage, _ in stages_asked(Student(base=BASE, plays=False))] == ["base", "sft"]
    assert [stage for stage, _ in stages_asked(Student(base=BASE))] == ["base", "sft", "self_play"]
