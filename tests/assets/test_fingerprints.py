"""What every result depends on: the settings that must change an asset's fingerprint, and all others that must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.assets.everything import ASSETS
from promptcot_assets.assets.partitions import keys_of
from promptcot_assets.domains import layout, procedural
from promptcot_assets.judging import verifier
from promptcot_assets.lake.ref import UNPARTITIONED, canonical_json
from promptcot_assets.settings import Settings, load_settings
from promptcot_assets.stages import prompts
from promptcot_assets.stages.corpus import annotation
from promptcot_assets.stages.labels import written_judges, written_tests

# ---- assets that share a dependence
ASKED = {
    "cold_start_bounds", "em_rationales", "em_m_step", "em_bounds", "control_bounds", "proposal_pool",
    "common_bounds", "raw_problems", "rollouts", "self_play_gate", "benchmark_generations", "distribution",
}  # fmt: skip
MEASURED = {
    "cold_start_bounds", "em_bounds", "control_bounds", "proposal_pool",
}  # fmt: skip
CONTROL_MODELS = {"control_rationale_model", "control_problem_generator"}
ROUND_MODELS = {"rationale_model", "problem_generator", *CONTROL_MODELS}
PLAYED = {
    "rollouts", "self_play_gate",
}  # fmt: skip
LABELLED = {"math_votes", "proposed_tests", "candidate_programs"}  # what the labels' models are asked for
JUDGED = {
    "candidate_programs", "code_tests", "teacher_traces", "verdicts", "self_play_gate", "benchmark_verdicts",
}  # fmt: skip

JUDGING = {"written_judges", "tested_judges", "code_tests", "yield_report"}  # what is made with judges of code tests

# A change of the demo's settings -> the assets whose fingerprint it changes, and no other's. What follows from these by
# way of their rows is not listed: other rows are another input.
CHANGES: dict[str, set[str]] = {
    "lanes: 5": set(),
    "leg_seconds: {SFT: 5}": set(),
    "prices: {machine_hour: 3}": {"yield_report"},
    "base: {scratch: {layers: 3}}": {"base_model"},
    "corpus: {held_out_share: 0.3}": {"seed_problems", "dropped_seed_rows"},
    "corpus: {procedural: {mini_maths: {seeds: 900}}}": {"seed_problems", "dropped_seed_rows"},
    "corpus: {procedural: {mini_maths: {teacher_error: 0.3}}}": {
        "seed_problems",
        "dropped_seed_rows",
        "math_votes",
        "proposed_tests",
        "candidate_programs",
        "teacher_traces",
    },
    "corpus: {procedural: {mini_maths: {misread: 0.3}}}": {
        "math_votes",
        "proposed_tests",
        "candidate_programs",
        "teacher_traces",
    },
    "corpus: {procedural: {mini_maths: {base_problems: 7}}}": {
        "seed_problems",
        "dropped_seed_rows",
        "student_base",
        "sft_examples",
    },
    "benchmarks: {limit: 3}": {"benchmark_generations"},
    "em: {patience: 1}": set(),
    "em: {cold_start_share: 0.5}": {"cold_rationale_model", "cold_problem_generator"} | CONTROL_MODELS,
    "em: {candidates: 3}": {"em_rationales"},
    "em: {sampling: {temperature: 0.9}}": MEASURED | {"em_rationales", "em_m_step"},
    "em: {problem_sampling: {temperature: 0.9}}": MEASURED - {"proposal_pool"},
    "em: {selection: random}": {"em_rationales"},
    "em: {selection: posterior}": {"em_rationales", "em_m_step"},  # whose rows say how the models are trained
    "em: {m_step: sampled}": {"em_m_step"},
    "em: {reward: {rationale_weight: 0.5}}": {"em_rationales"},
    "em: {reward: {rationale: false}}": {"em_rationales"},
    "em: {filters: {max_tokens: 9}}": {"em_rationales", "em_m_step"},
    "em: {restart_from: cold_start}": ROUND_MODELS,
    "em: {replay: 0.5}": ROUND_MODELS,
    "em: {mixture: {domains: {mini_maths: 2}}}": ROUND_MODELS | {"cold_rationale_model", "cold_problem_generator"},
    "em: {cold_start: {arguments: {learning_rate: 0.5}}}": {"cold_rationale_model", "cold_problem_generator"},
    "em: {e_step: {arguments: {learning_rate: 0.5}}}": {"rationale_model", "control_rationale_model"},
    "em: {m_step_training: {arguments: {learning_rate: 0.5}}}": {"problem_generator", "control_problem_generator"},
    "em: {held_out: {proposals: 3}}": MEASURED | {"common_bounds"},
    "em: {held_out: {others: 3}}": MEASURED - {"proposal_pool"},
    "em: {held_out: {large_pool: 99}}": {"proposal_pool", "common_bounds"},
    "em: {held_out: {large_pool_problems: 3}}": {"proposal_pool"},
    "em: {gate: {standard_errors: 3}}": set(),
    "em: {gate: {min_information: 0.5}}": set(),
    "em: {shard_rows: 3}": MEASURED | {"em_rationales", "em_m_step"},
    "synthesis: {concept_temperature: 0.5}": {"concept_sets"},
    "synthesis: {problems_per_set: 9}": {"raw_problems"},
    "synthesis: {sampling: {temperature: 0.5}}": {"raw_problems"},
    "deduplication: {threshold: 0.5}": {"problems", "dropped_problems"},
    "labels: {votes: 9}": {"math_votes", "math_answers"},
    "labels: {ties: first}": {"math_answers"},
    "labels: {share: 0.5}": LABELLED,
    "labels: {stated: drop}": {"math_answers"},
    "labels: {keep: none}": {"math_votes", "candidate_programs"},
    "labels: {keep: deciding}": {"math_votes", "candidate_programs"},
    "labels: {sampling: {temperature: 0.1}}": set(),
    "labels: {test_programs: 3}": {"candidate_programs"},
    "labels: {min_test_agreement: 0.3}": {"code_tests"},
    "labels: {min_mutation_score: 0.3}": {"code_tests"},
    "labels: {shard_rows: 3}": LABELLED | {"math_answers", "code_tests"},
    "distillation: {traces_per_problem: 3}": {"teacher_traces"},
    "distillation: {unlabelled: true}": {"teacher_traces"},
    "students: {tiny: {sft: {arguments: {learning_rate: 0.5}}}}": {"sft_model"},
    "students: {tiny: {base_training: {arguments: {learning_rate: 0.5}}}}": {"student_base"},
    "students: {tiny: {replay_seed_solutions: false}}": {"sft_examples"},
    "students: {tiny: {taught: false}}": {"sft_model", "benchmark_generations"},
    "students: {tiny: {plays: false}}": PLAYED | {"benchmark_generations"},
    "students: {tiny: {engine: {dtype: bfloat16}}}": PLAYED | {"benchmark_generations"},
    "students: {tiny: {chat: {system: hello}}}": PLAYED
    | {"student_base", "sft_model", "self_play_model", "benchmark_generations"},
    "self_play: {pool_share: 0.5}": PLAYED | {"sft_examples"},
    "self_play: {held_out_share: 0.5}": PLAYED,
    "self_play: {held_out_share: 0.5}\nsynthesis: {focus: {first: {student: tiny}}}": PLAYED | {"concept_sets"},
    "self_play: {held_out_share: 0.5}\nsynthesis: {focus: {second: {student: tiny}}}": PLAYED,
    "self_play: {real_problems: {mini_maths: 3}}": PLAYED | {"verdicts"},
    "self_play: {synthetic_problems: {mini_maths: 3}}": PLAYED,
    "self_play: {band_mix: {mini_maths: {hard: 1}}}": {"rollouts"},
    "self_play: {rollouts: 3}": PLAYED,
    "self_play: {think_block: false}": {"verdicts", "self_play_gate"},
    "self_play: {sampling: {temperature: 0.1}}": PLAYED,
    "self_play: {max_pass_rate: 0.1}": {"preference_pairs", "self_play_examples"},
    "self_play: {max_pairs_per_problem: 1}": {"preference_pairs", "self_play_examples"},
    "self_play: {optimiser: sft}": {"self_play_model"},
    "self_play: {training: {arguments: {learning_rate: 0.5}}}": {"self_play_model"},
    "self_play: {shard_rows: 3}": PLAYED,
    "evaluation: {generations: 3}": {"benchmark_generations", "benchmark_scores"},
    "evaluation: {sampling: {temperature: 0.1}}": {"benchmark_generations"},
    "evaluation: {prompts: published}": {"benchmark_generations"},
    "evaluation: {shard_rows: 3}": {"benchmark_generations"},
    "evaluation: {engine: {dtype: bfloat16}}": {"benchmark_generations"},
    "distribution: {problems: 3}": {"distribution"},
    "engine: {dtype: bfloat16}": ASKED,
    "engine: {workers: 7}": set(),
    "engine: {batch_size: 7}": ASKED,
    "engine: {server: {concurrency: 3}}": set(),
    "sandbox: {workers: 7}": set(),
    "sandbox: {cpu_s: 0.7}": JUDGED,
    "labels: {mutants: 1}": {"code_tests"},
    "labels: {min_votes: 2}": {"math_answers"},
    "labels: {repair_examples: true}": {"code_tests"},
    "labels: {tests_per_problem: 9}": {"proposed_tests"},
    "labels: {validators: 2}": JUDGING,
    "labels: {checkers: 1}": JUDGING,
    "em: {m_step: selected, selection: random}": {"em_rationales"},
}


def facts(settings: Settings) -> dict[str, str]:
    """By asset, what its fingerprint is made of besides code version, seed and the content of its inputs."""
    found = {}
    for name, asset in ASSETS.items():
        if asset.when(settings):
            partition = [UNPARTITIONED, *keys_of(asset.table.unit, settings)][-1]
            inputs = asset.read(settings, partition)
            found[name] = canonical_json([inputs, asset.recorded(settings, partition, inputs)])
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def profile(folder: Path, text: str, extends: str = "demo") -> Settings:
    path = folder / "own.yaml"
    path.write_text(f"extends: {extends}\n{text}\n")
    return load_settings(str(path))


def changed_over(own: str, change: str, folder: Path) -> set[str]:
    """What a change of a profile changes that has settings of its own over the demo's."""
    (folder / "base.yaml").write_text(f"extends: demo\n{own}\n")
    before, after = (facts(profile(folder, text, "base.yaml")) for text in ("", change))
    return changed(before, after)


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_changes_the_fingerprints_of_what_depends_on_it_and_no_others(change: str, tmp_path: Path) -> None:
    assert changed(facts(profile(tmp_path, "")), facts(profile(tmp_path, change))) == CHANGES[change]


def test_every_section_of_the_settings_is_in_the_table() -> None:
    """A section that nobody tries could be forgotten by the assets that use it."""
    tried = {change.partition(":")[0] for change in CHANGES}
    # below, or of no asset
    elsewhere = {"profile", "seed", "teachers", "annotation", "zero_shot", "tuning", "ablations"}
    assert set(Settings.model_fields) == tried | elsewhere


# ---- what enters by itself
GENERATOR = {
    "base_model", "cold_problem_generator", "cold_start_bounds", "em_rationales", "problem_generator", "em_bounds",
    "control_problem_generator", "control_bounds", "common_bounds", "raw_problems",
}  # fmt: skip
RATIONALE = {
    "base_model", "cold_rationale_model", "cold_start_bounds", "em_rationales", "rationale_model", "em_m_step",
    "em_bounds", "control_rationale_model", "control_bounds", "proposal_pool",
}  # fmt: skip
SOLVE = {
    "base_model", "student_base", "math_votes", "candidate_programs", "teacher_traces", "sft_examples",
    "sft_model", "rollouts",
    "self_play_model", "self_play_gate", "benchmark_generations",
}  # fmt: skip
PROMPTS: dict[str, tuple[Any, str, Any, set[str]]] = {
    # q reads p's prompt too
    "generator": (procedural.ProceduralWorld, "generator_prompt", lambda *_: "Other:", GENERATOR | RATIONALE),
    "rationale": (procedural.ProceduralWorld, "rationale_prompt", lambda *_: "Other:", RATIONALE),
    "solve": (procedural.ProceduralWorld, "solve_prompt", lambda *_: "Other:", SOLVE),
    "a marker": (layout, "END_PROBLEM", "<!-- END -->", GENERATOR),
    "thoughts": (layout, "END_THINK", "</thought>", SOLVE),
    "tests": (written_tests, "PROMPT", "Other {problem} {focus}", {"proposed_tests"}),
    "published programs": (prompts, "published_prompt", lambda *_: "Other", {"benchmark_generations"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROMPTS)
def test_a_changed_prompt_changes_what_is_asked_or_trained_with_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = profile(tmp_path, "")
    before = facts(demo)
    where, name, other, expected = PROMPTS[kind]
    monkeypatch.setattr(where, name, other)
    assert changed(before, facts(demo)) == expected


def test_a_new_grader_makes_everything_that_it_judged_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptcot_assets.assets import fingerprint

    demo = profile(tmp_path, "")
    before = facts(demo)
    monkeypatch.setattr(fingerprint, "MATHS_GRADER", "sandbox.maths/999")
    assert verifier.MATHS_GRADER != "sandbox.maths/999"
    assert changed(before, facts(demo)) == JUDGED | {"math_answers", "label_agreement"}


# ---- written validators and checkers
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("labels: {validators: 3}", {"written_judges"}),
        ("labels: {checkers: 3}", {"written_judges"}),
        ("labels: {mutants: 1}", {"tested_judges", "code_tests"}),
        ("labels: {shard_rows: 3}", LABELLED | {"math_answers", "code_tests", "written_judges", "tested_judges"}),
        ("labels: {share: 0.5}", LABELLED | {"written_judges"}),
        ("labels: {min_test_agreement: 0.3}", {"code_tests"}),
        ("labels: {keep: deciding}", {"math_votes", "candidate_programs"}),
        ("labels: {keep: deciding, min_test_agreement: 0.3}", {"math_votes", "candidate_programs", "code_tests"}),
        ("sandbox: {cpu_s: 0.7}", JUDGED | {"tested_judges"}),
        ("corpus: {procedural: {mini_code: {misread: 0.3}}}", LABELLED | {"teacher_traces", "written_judges"}),
    ],
)
def test_what_judges_are_asked_for_and_tested_with_changes_them_alone(
    change: str, expected: set[str], tmp_path: Path
) -> None:
    assert changed_over("labels: {validators: 2, checkers: 2}", change, tmp_path) == expected


def test_a_judges_prompt_changes_what_is_written_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = profile(tmp_path, "labels: {validators: 2, checkers: 2}")
    before = facts(settings)
    for kind in written_judges.KINDS:
        monkeypatch.setitem(written_judges.PROMPTS, kind, "Other {problem}")
        assert changed(before, facts(settings)) == {"written_judges"}
        before = facts(settings)
    demo = facts(profile(tmp_path, ""))
    monkeypatch.undo()
    assert demo == facts(profile(tmp_path, ""))  # where none are asked for their prompts enter nothing


# ---- teachers, base models as teachers, online self-play
TEACHERS = """
teachers:
  one: {model: {hub_id: a/one, revision: {revision}}}
  two: {model: {hub_id: a/two, revision: {revision}}, chat: {}}
annotation: {annotators: [{teacher: one, sampling: {}}]}
labels: {voter: {teacher: two, sampling: {}}, test_writer: {teacher: one, sampling: {}}}
distillation: {teacher: {teacher: two, sampling: {}}}
zero_shot: {solver: {teacher: one, sampling: {}}, reference: {teacher: two, sampling: {}}}
""".replace("{revision}", "a" * 40)
BY_TWO = {"math_votes", "teacher_traces", "zero_shot_difficulty"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("teachers: {two: {engine: {dtype: bfloat16}}}", BY_TWO),
        ("teachers: {two: {engine: {server: {concurrency: 3}}}}", set()),
        ("teachers: {two: {engine: {name: server, server: {urls: ['http://10.0.0.1/v1']}}}}",
         BY_TWO | {"teacher_model"}),  # without weights
        ("teachers: {two: {chat: {system: hello}}}", BY_TWO),
        ("labels: {voter: {teacher: two, sampling: {temperature: 0.1}}}", {"math_votes"}),
        ("labels: {test_writer: {teacher: one, sampling: {temperature: 0.1}}}",
         {"proposed_tests", "candidate_programs"}),
        ("annotation: {concepts: 3}", {"seed_annotations"}),
        ("zero_shot: {problems: 3}", {"zero_shot_difficulty"}),
        ("labels: {sampling: {temperature: 0.1}}", set()),
    ],
)  # fmt: skip
def test_what_a_teacher_is_asked_with_changes_what_it_is_asked_for(
    change: str, expected: set[str], tmp_path: Path
) -> None:
    assert changed_over(TEACHERS, change, tmp_path) == expected


def test_an_annotators_prompt_changes_the_annotations_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = profile(tmp_path, TEACHERS)
    before = facts(settings)
    monkeypatch.setattr(annotation, "RATIONALE_PROMPT", "Other {kind} {concepts} {level} {problem}")
    assert changed(before, facts(settings)) == {"seed_annotations"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("engine: {dtype: bfloat16}", ASKED | LABELLED | {"teacher_traces"}),
        ("engine: {batch_size: 7}", ASKED | LABELLED | {"teacher_traces"}),
        ("students: {tiny: {chat: {}}}", {"teacher_traces", "student_base", "sft_model",
                                          "self_play_model", "benchmark_generations"} | LABELLED | PLAYED),
        ("labels: {sampling: {temperature: 0.1}}", LABELLED | {"teacher_traces"}),
    ],
)  # fmt: skip
def test_labels_by_the_base_model_depend_on_how_it_is_asked(change: str, expected: set[str], tmp_path: Path) -> None:
    assert changed_over("labels: {teacher: base_model}", change, tmp_path) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("self_play: {synthetic_problems: {mini_maths: 3}}", PLAYED | {"rollouts_online"}),
        ("self_play: {training: {arguments: {learning_rate: 0.5}}}", {"rollouts_online"}),
        ("self_play: {resample_groups: 2}", {"rollouts_online"}),
        ("sandbox: {cpu_s: 0.7}", JUDGED | {"rollouts_online"}),
        ("sandbox: {workers: 7}", set()),
    ],
)
def test_online_self_play_depends_on_its_problems_and_its_judge(
    change: str, expected: set[str], tmp_path: Path
) -> None:
    assert changed_over("self_play: {optimiser: grpo}", change, tmp_path) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("tuning: {pass_rate: 0.4}", {"tuning_examples"}),
        ("tuning: {within: 0.1}", {"tuning_examples"}),
        ("tuning: {anchors: 0.1}", {"tuning_examples"}),
        ("tuning: {training: {arguments: {learning_rate: 0.5}}}", {"tuned_generator"}),
        ("tuning: {samples: 3}", {"tuning_samples"}),
        ("tuning: {shard_rows: 3}", {"tuning_samples"}),
        ("tuning: {min_diversity: 0.3}", set()),  # a gate is asked anew
        ("synthesis: {written_by: {second: tiny}}", set()),
        ("synthesis: {written_by: {first: tiny}}", {"raw_problems"}),
        ("labels: {repair_examples: true}", {"tuning_examples", "code_tests"}),
        ("em: {problem_sampling: {temperature: 0.9}}", MEASURED - {"proposal_pool"} | {"tuning_samples"}),
        ("engine: {dtype: bfloat16}", ASKED | {"tuning_samples"}),
    ],
)
def test_tuning_depends_on_its_settings(change: str, expected: set[str], tmp_path: Path) -> None:
    assert changed_over("tuning: {}", change, tmp_path) == expected


def test_a_changed_prompt_of_generators_is_another_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = profile(tmp_path, "tuning: {}")
    before = facts(settings)
    monkeypatch.setattr(procedural.ProceduralWorld, "generator_prompt", lambda *_: "Other:")
    assert {"tuned_generator", "tuning_samples"} <= changed(before, facts(settings))


BIG = "base: {scratch: {hidden_size: 64, intermediate_size: 128, layers: 1, heads: 2}}, plays: false"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("self_play: {teacher: other}", {"rollouts_online"}),
        ("students: {big: {sft: {arguments: {learning_rate: 0.5}}}}", set()),  # by way of the teacher's weights
        ("self_play: {training: {arguments: {beta: 0.0}}}", {"rollouts_online"}),
    ],
)
def test_distillation_depends_on_its_teacher(change: str, expected: set[str], tmp_path: Path) -> None:
    own = f"students: {{big: {{{BIG}}}, other: {{{BIG}}}}}\nself_play: {{optimiser: distill, teacher: big}}"
    assert changed_over(own, change, tmp_path) == expected


def test_a_student_that_does_not_play_has_no_teacher(tmp_path: Path) -> None:
    settings = profile(tmp_path, f"students: {{big: {{{BIG}}}}}\nself_play: {{optimiser: distill, teacher: big}}")
    asset = ASSETS["rollouts_online"]
    assert sum(name.startswith("sft_model") for name in asset.read(settings, "big")) == 1
    assert {"plays": False} in asset.recorded(settings, "big", []) and {"plays": False} not in asset.recorded(
        settings, "tiny", []
    )


@pytest.mark.parametrize(
    ("teacher", "named"),
    [("big", "sft_model[big]"), ("hub", "teacher_model[hub]")],
)
def test_the_teacher_is_an_input_of_the_students_play(teacher: str, named: str, tmp_path: Path) -> None:
    hub = "{model: {hub_id: org/big, revision: '" + "0" * 40 + "'}}"
    text = (
        f"students: {{big: {{{BIG}}}}}\nteachers: {{hub: {hub}}}\nself_play: {{optimiser: distill, teacher: {teacher}}}"
    )
    assert named in ASSETS["rollouts_online"].read(profile(tmp_path, text), "tiny")
