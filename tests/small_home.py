"""A whole arc in a lake of a few rows made by hand: three seeds (one held out), one round, one batch, one student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from promptcot_assets.lake import Lake, Provenance, Ref
from promptcot_assets.tables import SCHEMAS, open_lake
from promptcot_assets.tables.models import MODEL

ROUND, BATCH, STUDENT = "round_01", "first", "tiny"
DOMAIN = "mini_maths"
Row = dict[str, Any]


def row(table: str, **given: Any) -> Row:
    """A row of `table`: what is given, null where that is allowed, else an empty value of the column's type."""
    assert given.keys() <= set(SCHEMAS[table].names), (table, given.keys() - set(SCHEMAS[table].names))
    return {field.name: given.get(field.name, _empty(field)) for field in SCHEMAS[table]}


def _empty(field: pa.Field) -> Any:
    if field.name == "domain":
        return DOMAIN
    if field.nullable:
        return None
    return [] if pa.types.is_list(field.type) else {"int64": 0, "double": 0.0, "bool": False}.get(str(field.type), "")


class Unpublished(Lake):
    """A lake whose catalogue is written when asked for: thirty commits in a row need it once."""

    def _publish_around_damage(self) -> None:
        """What a commit ends with; see `Home.publish`."""


class Home:
    """A lake that is filled commit by commit; `refs` and `models` hold the newest ones by asset."""

    def __init__(self, path: Path) -> None:
        self.path, self.lake = path, Unpublished(path)
        self.refs: dict[str, Ref] = {}
        self.models: dict[str, str] = {}

    def commit(self, table: str, rows: list[Row], *inputs: str, partition: str = "all", tokens: int = 0) -> Ref:
        """Commit rows (filled up by `row`) as made from the newest versions of `inputs`."""
        content = pa.Table.from_pylist([row(table, **one) for one in rows], SCHEMAS[table])
        self.refs[table] = self.lake.commit(
            table, [content], SCHEMAS[table], self._made_from(inputs, tokens), partition
        )
        return self.refs[table]

    def train(
        self,
        role: str,
        *inputs: str,
        partition: str = "all",
        weights: str = "",
        base: str | None = None,
        examples: int = 2,
    ) -> str:
        """Commit a checkpoint of one small file; gives its model id. base: the role of the model it starts from."""
        made = self._made_from(inputs, 7)
        folder = self.lake.work_folder(role, made.fingerprint)
        (folder / "model.safetensors").write_text(role + weights)
        started = self.models[base] if base else None
        about = {"base": started, "examples": examples, "steps": 1, "tokens": 7, "loss": 0.5}
        self.refs[role] = ref = self.lake.commit_checkpoint(role, folder, MODEL, about, made, partition)
        self.models[role] = self.lake.table(ref)["model_id"][0].as_py()
        return self.models[role]

    def publish(self) -> None:
        open_lake(self.path).publish()

    def _made_from(self, inputs: tuple[str, ...], tokens: int) -> Provenance:
        return Provenance("1", '{"size":1}', 0, "run-1", tuple(self.refs[name] for name in inputs), tokens, 1.5)


def seeds(home: Home) -> None:
    home.commit(
        "seed_problems",
        [
            {
                "problem_id": "seed_1",
                "problem": "one?",
                "concepts": ["ratios", "sums"],
                "split": "train",
                "source": "s.jsonl",
                "source_row": 1,
            },
            {
                "problem_id": "seed_2",
                "problem": "two?",
                "concepts": ["ratios"],
                "split": "train",
                "source": "s.jsonl",
                "source_row": 2,
            },
            {
                "problem_id": "seed_3",
                "problem": "three?",
                "concepts": ["sums"],
                "split": "held_out",
                "source": "s.jsonl",
                "source_row": 3,
            },
        ],
    )
    home.commit(
        "concept_corpus",
        [
            {"concept_id": "ratios", "concept": "ratios", "problems": 2},
            {"concept_id": "sums", "concept": "sums", "problems": 1},
        ],
        "seed_problems",
    )
    home.commit(
        "benchmark_items",
        [{"item_id": f"item_{n}", "benchmark": "aime", "problem": f"item {n}?"} for n in (1, 2)],
        "seed_problems",
    )
    home.commit(
        "seed_triples",
        [
            {"rationale_id": "triple_1", "problem_id": "seed_1", "rationale": "because"},
            {"rationale_id": "triple_2", "problem_id": "seed_2", "rationale": "hence"},
        ],
        "seed_problems",
    )


def cold_start(home: Home) -> None:
    home.train("base_model", "seed_problems", "seed_triples")
    q = home.train("cold_rationale_model", "base_model", "seed_triples")
    p = home.train("cold_problem_generator", "base_model", "seed_triples")
    home.commit(
        "cold_start_bounds",
        [_bound("bound_0", "cold_start", 0, q, p)],
        "seed_problems",
        "cold_rationale_model",
        "cold_problem_generator",
    )


def em(home: Home) -> None:
    q, p = home.models["cold_rationale_model"], home.models["cold_problem_generator"]
    models = {"rationale_model": q, "problem_generator": p, "round": 1}
    home.commit(
        "em_rationales",
        [
            {"rationale_id": "candidate_1a", "problem_id": "seed_1", "selected": True, "reward": -1.0, **models},
            {"rationale_id": "candidate_1b", "problem_id": "seed_1", "candidate": 1, "reward": -2.0, **models},
            {"rationale_id": "candidate_2a", "problem_id": "seed_2", "selected": True, "reward": -3.0, **models},
        ],
        "seed_triples",
        "cold_rationale_model",
        "cold_problem_generator",
        partition=ROUND,
        tokens=30,
    )
    q = home.train("rationale_model", "em_rationales", "cold_rationale_model", partition=ROUND)
    home.commit(
        "em_m_step",
        [
            {"rationale_id": "greedy_1", "problem_id": "seed_1", "round": 1, "origin": "greedy", "rationale_model": q},
            {
                "rationale_id": "winner_2",
                "problem_id": "seed_2",
                "round": 1,
                "origin": "selected",
                "rationale_model": q,
                "selected_rationale_id": "candidate_2a",
            },
        ],
        "em_rationales",
        "seed_triples",
        "rationale_model",
        partition=ROUND,
    )
    p = home.train("problem_generator", "em_m_step", "cold_problem_generator", partition=ROUND)
    home.commit(
        "em_bounds",
        [_bound("bound_1", "em", 1, q, p)],
        "seed_problems",
        "rationale_model",
        "problem_generator",
        partition=ROUND,
    )
    home.commit(
        "common_bounds",
        [{"bound_id": "common_1", "series": "em", "round": 1, "problem_id": "seed_3", "iw_bound": -8.5}],
        "cold_problem_generator",
        "problem_generator",
    )
    home.commit(
        "em_curves",
        [
            {
                "point_id": "curve_1",
                "series": "em",
                "round": 1,
                "steps": 20,
                "split": "held_out",
                "metric": "log_p_problem",
                "value": -8.0,
                "standard_error": 0.5,
                "problems": 1,
            }
        ],
        "cold_start_bounds",
        "em_bounds",
        "common_bounds",
        "problem_generator",
    )


def batch(home: Home) -> None:
    p = home.models["problem_generator"]
    home.commit(
        "concept_sets",
        [
            {"concept_set_id": "set_1", "concepts": ["ratios"], "seed_problem_ids": json.dumps(["seed_1", "seed_2"])},
            {"concept_set_id": "set_2", "concepts": ["sums"], "seed_problem_ids": json.dumps(["seed_1"])},
        ],
        "seed_problems",
        "concept_corpus",
        partition=BATCH,
    )
    home.commit(
        "raw_problems",
        [
            {
                "raw_problem_id": f"raw_{n}",
                "concept_set_id": of,
                "problem": f"new {n}?",
                "problem_generator": p,
                "batch": BATCH,
            }
            for n, of in ((1, "set_1"), (2, "set_2"), (3, "set_2"), (4, "set_2"))
        ],
        "concept_sets",
        "problem_generator",
        partition=BATCH,
        tokens=40,
    )
    read = ("raw_problems", "seed_problems", "benchmark_items")
    home.commit(
        "problems",
        [
            {
                "problem_id": "problem_1",
                "raw_problem_id": "raw_1",
                "concept_set_id": "set_1",
                "problem": "new 1?",
                "concepts": ["ratios"],
                "problem_generator": p,
                "batch": BATCH,
            },
            {
                "problem_id": "problem_2",
                "raw_problem_id": "raw_2",
                "concept_set_id": "set_2",
                "problem": "new 2?",
                "concepts": ["sums"],
                "problem_generator": p,
                "batch": BATCH,
            },
        ],
        *read,
        partition=BATCH,
    )
    home.commit(
        "dropped_problems",
        [
            {"raw_problem_id": "raw_3", "problem": "new 3?", "reason": "near", "survivor_id": "raw_1", "batch": BATCH},
            {
                "raw_problem_id": "raw_4",
                "problem": "new 4?",
                "reason": "contaminated by aime",
                "survivor_id": "item_1",
                "batch": BATCH,
            },
        ],
        *read,
        partition=BATCH,
    )
    home.commit(
        "math_answers",
        [
            {"label_id": f"label_{n}", "problem_id": f"problem_{n}", "voter": "procedural", "answer": "7"}
            for n in (1, 2)
        ],
        "problems",
        partition=BATCH,
    )
    home.commit(
        "code_tests",
        [{"test_id": "test_2", "problem_id": "problem_2", "stdin": "1", "writer": "procedural"}],
        "problems",
        partition=BATCH,
    )
    labels = ("problems", "math_answers", "code_tests")
    home.commit(
        "teacher_traces",
        [
            {
                "trace_id": f"trace_{n}",
                "problem_id": f"problem_{n}",
                "trace": "so 7",
                "valid": True,
                "teacher": "procedural",
            }
            for n in (1, 2)
        ],
        *labels,
        partition=BATCH,
    )
    home.commit(
        "yield_report",
        [{"step_id": "step_1", "batch": BATCH, "step": "raw", "rows": 4, "dropped": "{}"}],
        "raw_problems",
        "dropped_problems",
        "teacher_traces",
        *labels,
        partition=BATCH,
    )


def student(home: Home) -> None:
    at = {"partition": STUDENT}
    home.train("student_base", "base_model", "seed_problems", **at)
    home.commit(
        "sft_examples",
        [
            {
                "example_id": "example_1",
                "problem_id": "problem_1",
                "source": "synthetic",
                "trace_id": "trace_1",
                "prompt": "new 1?",
                "completion": "so 7",
            },
            {"example_id": "example_2", "problem_id": "seed_1", "source": "seed", "prompt": "one?", "completion": "1"},
        ],
        "seed_problems",
        "teacher_traces",
        **at,
    )
    model = home.train("sft_model", "student_base", "sft_examples", **at)
    labels = ("problems", "math_answers", "code_tests")
    about = {"problem_id": "problem_2"}
    home.commit(
        "rollouts",
        [{"rollout_id": f"rollout_{n}", "completion": str(n), "model": model, **about} for n in (1, 2)],
        "sft_model",
        *labels,
        **at,
    )
    home.commit(
        "verdicts",
        [{"rollout_id": f"rollout_{n}", "usable": True, "passed": n == 1, "verdict": "ok", **about} for n in (1, 2)],
        "rollouts",
        *labels,
        **at,
    )
    home.commit(
        "preference_pairs",
        [
            {
                "pair_id": "pair_1",
                "chosen_rollout_id": "rollout_1",
                "rejected_rollout_id": "rollout_2",
                "prompt": "new 2?",
                "chosen": "1",
                "rejected": "2",
                "pass_rate": 0.5,
                **about,
            },
        ],
        "rollouts",
        "verdicts",
        **at,
    )
    home.train("self_play_model", "sft_model", "preference_pairs", **at)
    home.commit(
        "difficulty", [{"model": model, "pass_rate": 0.5, "rollouts": 2, **about}], "rollouts", "verdicts", **at
    )


def benchmarks(home: Home) -> None:
    at, stages = {"partition": STUDENT}, {"base": "student_base", "sft": "sft_model", "self_play": "self_play_model"}
    asked = [
        {
            "generation_id": f"{stage}_{n}",
            "item_id": f"item_{n}",
            "benchmark": "aime",
            "stage": stage,
            "model": home.models[role],
        }
        for stage, role in stages.items()
        for n in (1, 2)
    ]
    home.commit("benchmark_generations", asked, "benchmark_items", *stages.values(), tokens=60, **at)
    home.commit(
        "benchmark_verdicts",
        [{**one, "passed": one["generation_id"] != "base_1"} for one in asked],
        "benchmark_generations",
        "benchmark_items",
        **at,
    )
    home.commit(
        "benchmark_scores",
        [
            {
                "score_id": f"score_{stage}",
                "benchmark": "aime",
                "metric": "avg@1",
                "stage": stage,
                "model": home.models[role],
                "value": 0.5 if stage == "base" else 1.0,
            }
            for stage, role in stages.items()
        ],
        "benchmark_verdicts",
        **at,
    )
    home.commit(
        "scaling",
        [
            {
                "point_id": "scale_1",
                "benchmark": "aime",
                "student": STUDENT,
                "stage": "self_play",
                "model": home.models["self_play_model"],
                "examples": 3,
                "value": 1.0,
            }
        ],
        "benchmark_scores",
        *stages.values(),
        **at,
    )
    home.commit(
        "distribution",
        [{"dataset": "seed problems", "problems": 2}, {"dataset": "synthetic problems", "problems": 2}],
        "seed_problems",
        "benchmark_items",
        "problems",
        "problem_generator",
    )


def whole_arc(path: Path) -> Home:
    home = Home(path)
    for part in (seeds, cold_start, em, batch, student, benchmarks):
        part(home)
    home.publish()
    return home


def _bound(name: str, series: str, round_: int, q: str, p: str) -> Row:
    return {
        "bound_id": name,
        "series": series,
        "round": round_,
        "problem_id": "seed_3",
        "iw_bound": -9.0 + round_,
        "proposals": 4,
        "rationale_model": q,
        "problem_generator": p,
    }


def vote(home: Home) -> None:
    """A vote that lost, a label that its problem's rationale contradicts, a program that prints something else."""
    about = {"problem_id": "problem_1", "answer": "8"}
    home.commit("math_votes", [{"vote_id": "vote_1", **about}], "problems", partition=BATCH)
    said = {"label_id": "label_1", "stated": "8", "stated_agrees": False}
    home.commit("label_agreement", [about | {"answer": "7"} | said], "math_answers", partition=BATCH)
    asked = {"problem_id": "problem_2", "stdin": "1"}
    proposed = {"proposal_id": "proposal_1", "number": 0, "becomes": "test_3"}
    home.commit("proposed_tests", [asked | proposed], "problems", partition=BATCH)
    program = {"program_id": "program_1", "problem_id": "problem_2", "outputs": ["2"]}
    home.commit("candidate_programs", [program], "proposed_tests", partition=BATCH)
    home.commit("code_tests", [asked | {"test_id": "test_3", "expected": "1"}], "candidate_programs", partition=BATCH)
