"""Every optimiser of the self-play step, through Dagster: a student that half knows eight problems plays on them, real
verdicts, a real trainer process, a new checkpoint. The home is made here, row by row."""

import json
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from promptcot_assets.assets import self_play
from promptcot_assets.assets.step import RESUME_TAG
from promptcot_assets.domains import domain_named
from promptcot_assets.domains.layout import TOKENIZER_MARKERS, solution_text
from promptcot_assets.lake import Lake, Provenance, Ref
from promptcot_assets.lake.ids import content_id
from promptcot_assets.lineage.recall import recall
from promptcot_assets.lineage.trace import trace
from promptcot_assets.settings.profile import OPTIMISERS
from promptcot_assets.stages.base_models import from_scratch
from promptcot_assets.tables import SCHEMAS, open_lake
from promptcot_assets.tables.models import MODEL
from tests.assets.materialized import built, resources_of
from tests.tiny_models import TinySettings
from training import sft

pytestmark = pytest.mark.slow
STUDENT, TEACHER, BATCH = "tiny", "taught", "first"
MADE = Provenance("1", "{}", 0, "made here", ())
BOXED = "\\boxed{"
SUMS = [(a, b) for a in (2, 3, 4, 5) for b in (6, 7)]
STEP = "{learning_rate: 2.0e-3, per_device_train_batch_size: %%d, warmup_steps: 0, lr_scheduler_type: constant, %s}"
# what of the demo's arguments another trainer does not know is taken away
SETTINGS = {
    "dpo": STEP % "max_steps: 3",
    "sft": STEP % "max_steps: 3, beta: null",
    "grpo": STEP % "max_steps: 2, num_train_epochs: null, max_length: null, num_generations: 4, temperature: 1.0, "
    "max_completion_length: 12, beta: 0.0",
    "distill": STEP % "max_steps: 2, num_train_epochs: null, max_length: null, max_completion_length: 12, beta: 0.5",
}
PROFILE = """
extends: demo
engine: {{workers: 1}}
students: {{taught: {{base: {{scratch: {{layers: 1}}}}, plays: false}}}}
self_play:
  pool_share: 1.0
  rollouts: 6
  optimiser: {optimiser}
  teacher: taught
  sampling: {{temperature: 1.0, max_new_tokens: 12}}
  training: {{arguments: {arguments}{more}}}
"""


def text_of(a: int, b: int) -> str:
    return f"Find {a} + {b}."


def half_taught(folder: Path, base: Path | None = None, off: tuple[int, ...] = (0, 1)) -> Path:
    """A model that answers each sum rightly about half of the time, by our own trainer. off: what it adds."""
    world = domain_named("mini_maths")
    prompts = [world.solve_prompt(text_of(*terms)) for terms in SUMS]
    values = [a + b + more for more in off for a, b in SUMS]
    answers = [f" {solution_text('sum', f' {BOXED}{value}}}')}" for value in values]
    base = base or from_scratch(prompts + answers, TinySettings(), folder / "base", markers=TOKENIZER_MARKERS)
    pq.write_table(pa.table({"prompt": prompts * len(off), "completion": answers}), folder / "data.parquet")
    arguments = {"learning_rate": 1e-2, "per_device_train_batch_size": 16, "num_train_epochs": 60}
    paths = {"base": base, "data": folder / "data.parquet", "output": folder / "model", "checkpoints": folder / "ck"}
    spec = {name: str(path) for name, path in paths.items()} | {"arguments": arguments}
    (folder / "spec.json").write_text(json.dumps(spec))
    sft.main(["sft", str(folder / "spec.json")])
    return folder / "model"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with eight labelled problems and a student after SFT."""
    home = tmp_path_factory.mktemp("home")
    lake = open_lake(home)
    problems, answers = [], []
    for a, b in SUMS:
        text = text_of(a, b)
        identity = {"problem_id": content_id("mini_maths", text), "domain": "mini_maths"}
        problems.append(identity | {
            "raw_problem_id": content_id(text), "concept_set_id": content_id("sum"), "concepts": ["sum"],
            "level": "easy", "rationale": "two terms", "problem": text, "well_posed": None,
            "problem_generator": "made here", "batch": BATCH,
        })  # fmt: skip
        answers.append(identity | {
            "label_id": content_id("label", text), "answer": str(a + b), "votes": 3, "asked": 3, "share": 1.0,
            "answers": [str(a + b)] * 3, "seeds": [0, 1, 2], "drop_reason": None, "voter": "made here",
        })  # fmt: skip
    for asset, rows in (("problems", problems), ("math_answers", answers), ("code_tests", [])):
        lake.commit(asset, [pa.Table.from_pylist(rows, SCHEMAS[asset])], SCHEMAS[asset], MADE, BATCH)
    folder = lake.work_folder("sft_model", MADE.fingerprint)
    about = {"base": None, "examples": 16, "steps": 60, "tokens": 0, "loss": None}
    student = half_taught(folder)
    taught = half_taught(lake.work_folder("student_base", MADE.fingerprint), folder / "base", off=(0,))
    lake.commit_checkpoint("sft_model", taught, MODEL, about, MADE, TEACHER)
    lake.commit_checkpoint("sft_model", student, MODEL, about, MADE, STUDENT)
    return home


@dataclass(frozen=True)
class Played:
    lake: Lake
    run: dg.ExecuteInProcessResult

    def newest(self, asset: str) -> Ref:
        ref = self.lake.newest(asset, STUDENT)
        assert ref
        return ref

    def rows(self, asset: str) -> list[dict]:
        return self.lake.table(self.newest(asset)).to_pylist()

    def page(self, asset: str) -> dict:
        (event,) = self.run.asset_materializations_for_node(asset)
        return {name: value.value for name, value in event.metadata.items()}


def play(
    home: Path, profile: Path, optimiser: str, more: str = "", tags: dict[str, str] | None = None, a_process: int = 8
) -> Played:
    """Materialize the group for the student, in this process; the trainer is a child of it."""
    arguments = SETTINGS[optimiser] % a_process
    profile.write_text(PROFILE.format(optimiser=optimiser, arguments=arguments, more=more))
    assets = [self_play.rollouts, self_play.verdicts, self_play.preference_pairs, self_play.self_play_examples,
              *([self_play.rollouts_online] if OPTIMISERS[optimiser].online else []),
              self_play.self_play_model]  # fmt: skip
    resources = resources_of(profile, home)
    with dg.instance_for_test() as instance:
        run = dg.materialize(
            built(profile, *assets), instance=instance, resources=resources, partition_key=STUDENT, tags=tags
        )
    assert run.success
    return Played(open_lake(home), run)


LEARNED_FROM = {name: one.learns_from for name, one in OPTIMISERS.items()}


@pytest.mark.parametrize("optimiser", LEARNED_FROM)
def test_the_student_learns_from_its_own_play(optimiser: str, home: Path, tmp_path: Path) -> None:
    played = play(home, tmp_path / "profile.yaml", optimiser)
    passed = [row["passed"] for row in played.rows("verdicts")]
    assert len(passed) == 6 * len(SUMS) and {True, False} <= set(passed) <= {True, False}
    assert played.rows("preference_pairs") and played.rows("self_play_examples")

    model, student = played.newest("self_play_model"), played.newest("sft_model")
    folder = played.lake.checkpoint(model)
    report = json.loads((folder / "training.json").read_text())
    learned_from = SUMS if OPTIMISERS[optimiser].online else played.rows(LEARNED_FROM[optimiser])
    assert (report["trainer"], report["rows"]) == (optimiser, len(learned_from))
    before, after = (load_file(played.lake.checkpoint(ref) / "model.safetensors") for ref in (student, model))
    assert before.keys() == after.keys() and any(not before[name].equal(after[name]) for name in before)

    (row,) = played.rows("self_play_model")
    (base,) = played.rows("sft_model")
    assert (row["base"], row["examples"], row["steps"]) == (base["model_id"], report["rows"], report["steps"])
    inputs = {ref.asset for ref in played.lake.commit_of(model).provenance.inputs}
    assert {"sft_model", LEARNED_FROM[optimiser]} <= inputs
    if OPTIMISERS[optimiser].teacher:
        of_play = played.lake.commit_of(played.newest("rollouts_online")).provenance.inputs
        assert {ref.partition for ref in of_play if ref.asset == "sft_model"} == {STUDENT, TEACHER}

    page = played.page("self_play_model")
    assert page["training_processes"] == 1 and page["training_tokens_per_second"] > 0
    assert page["training_accelerator_seconds"] == page["training_seconds"] > 0
    assert 0 <= page["training_padded_share"] < 1
    assert not any("second" in name for name in report)  # no time in what the version is made of

    if OPTIMISERS[optimiser].online:
        _every_rollout_is_reached(home, played)

    again = play(home, tmp_path / "profile.yaml", optimiser, tags={RESUME_TAG: "true"})
    assert again.newest("self_play_model") == model


def _every_rollout_is_reached(home: Path, played: Played) -> None:
    """From the model upwards, from a label downwards: what a search of the tables finds by hand."""
    rows = played.rows("rollouts_online")
    assert len(rows) == 2 * 8 == len({row["rollout_id"] for row in rows}) and {row["step"] for row in rows} == {0, 1}
    (student,) = played.rows("sft_model")
    assert {row["weights"] for row in rows} == {f"{student['model_id']} + {step} steps" for step in (0, 1)}
    assert all((row["reward"] == 1.0) == (row["passed"] and row["usable"]) for row in rows)
    (model,) = played.rows("self_play_model")
    _, above = trace(home, model["model_id"])
    assert played.newest("rollouts_online") in {node.ref for node in above.edges}
    assert {ref.asset for ref in played.lake.commit_of(played.newest("self_play_model")).provenance.inputs} == {
        "sft_model", "rollouts_online",
    }  # fmt: skip
    labels = {row["problem_id"]: row["label_id"] for row in played.lake.table(
        played.lake.newest("math_answers", BATCH)  # type: ignore[arg-type]
    ).to_pylist()}  # fmt: skip
    for problem in {row["problem_id"] for row in rows}:
        by_hand = {row["rollout_id"] for row in rows if row["problem_id"] == problem}
        found = recall(home, labels[problem])
        (affected,) = [one for one in found.tables if one.ref.asset == "rollouts_online"]
        assert set(affected.rows[: affected.named]) == by_hand
        assert model["model_id"] in {one["model_id"] for one in found.models}
        _, below = trace(home, labels[problem], down=True)
        assert {node.row for node in below.edges if node.ref.asset == "rollouts_online"} == by_hand
    untouched = next(
        (label for problem, label in labels.items() if problem not in {r["problem_id"] for r in rows}), None
    )
    if untouched:
        assert model["model_id"] not in {one["model_id"] for one in recall(home, untouched).models}


def test_an_adapter_on_two_processes_ends_up_as_one_model(home: Path, tmp_path: Path) -> None:
    """Online, so that each process has a judge, and with groups of completions that lie across both."""
    launcher = "[accelerate, launch, --config_file, training/configs/cpu_2.yaml]"
    more = f", lora: {{r: 4}}, launcher: {launcher}"
    played = play(home, tmp_path / "profile.yaml", "grpo", more, a_process=2)
    folder = played.lake.checkpoint(played.newest("self_play_model"))
    assert json.loads((folder / "training.json").read_text())["lora"]["r"] == 4
    student = played.lake.checkpoint(played.newest("sft_model"))
    before, after = (load_file(one / "model.safetensors") for one in (student, folder))
    assert before.keys() == after.keys() and any(not before[name].equal(after[name]) for name in before)
    page = played.page("self_play_model")
    assert page["training_processes"] == 2
    assert page["training_accelerator_seconds"] == pytest.approx(2 * page["training_seconds"], abs=0.002)  # rounded


def test_a_launch_configuration_that_is_not_there_is_named_before_anything_runs(home: Path, tmp_path: Path) -> None:
    launcher = "[accelerate, launch, --config_file, training/configs/fsdp_64.yaml]"
    with pytest.raises(
        dg.Failure, match=r"self_play_model: launcher: there is no training/configs/fsdp_64.yaml; known"
    ):
        play(home, tmp_path / "profile.yaml", "dpo", f", launcher: {launcher}")
