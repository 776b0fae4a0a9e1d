"""Every table of the lake: its columns, what they mean, which may be null, which is the row's id.

A row carries the ids, the model version and the seed it came from, so that `trace` walks from a benchmark answer
back to the seed problems and `recall` walks forward. Ids are content hashes (promptcot_assets.lake.ids). No column
holds a wall-clock value: the same inputs, settings and seed give the same rows. Times are in the `lineage` view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import pyarrow as pa

TEXTS = pa.list_(pa.string())
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def _id(name: str, comment: str) -> pa.Field:
    return pa.field(name, pa.string(), False, {"comment": comment, "unique": "true"})


def _column(type_: pa.DataType, nullable: bool) -> Callable[[str, str], pa.Field]:
    def field(name: str, comment: str) -> pa.Field:
        return pa.field(name, type_, nullable, {"comment": comment})

    return field


text, maybe_text = _column(pa.string(), False), _column(pa.string(), True)
integer, maybe_integer = _column(pa.int64(), False), _column(pa.int64(), True)
real, maybe_real = _column(pa.float64(), False), _column(pa.float64(), True)
flag, maybe_flag = _column(pa.bool_(), False), _column(pa.bool_(), True)
texts = _column(TEXTS, False)
seeds = _column(pa.list_(pa.int64()), True)

domain = text("domain", "maths, code or a procedural domain")
problem_id = text("problem_id", "content hash of domain and problem text")
seeds_own_set = text("concept_set_id", "content hash of domain, concepts and level of a seed: no row of concept_sets")
concept_set_id = text("concept_set_id", "concept set it was written on")
concepts = texts("concepts", "what the problem is about, in the order given to the generator")
level = text("level", "difficulty level, part of the prompt")
problem = text("problem", "problem text x")
rationale = text("rationale", "rationale z: how a designer gets from the concepts to the problem (paper section 3)")
tokens = integer("tokens", "sampled tokens, the end token included")
seed = integer("seed", "seed of this one sample")
source = text("source", "procedural domain, file or hub data set that the seed is from")

SCHEMAS: dict[str, pa.Schema] = {
    "concept_corpus": pa.schema(
        [
            _id("concept_id", "content hash of domain and concept"),
            domain,
            text("concept", "name of the concept"),
            integer("problems", "seed problems annotated with it"),
        ]
    ),
    "seed_problems": pa.schema(
        [
            _id("problem_id", "content hash of domain and problem text"),
            domain,
            problem,
            maybe_text("answer", "reference answer"),
            maybe_text("solution", "reference solution"),
            maybe_text("tests", "JSON list of {stdin, expected}, for programs; fn_name where a function is called"),
            concepts,
            level,
            maybe_text("rationale", "rationale the source came with"),
            maybe_text("annotator", "who wrote the rationale"),
            text("split", "train; held_out: never trained on, measures the EM rounds; play: no seed, only played on"),
            source,
            integer("source_row", "line or row in the source, from 1"),
        ]
    ),
    "seed_annotations": pa.schema(
        [
            _id("annotation_id", "content hash of problem and annotator"),
            text("seed_problem_id", "the seed, before its row: the problem_id that it has in seed_problems"),
            domain,
            text("split", "train, or held_out: given concepts and no rationale"),
            text("annotator", "name of the teacher in the profile"),
            texts("concepts", "what it says the problem tests, or what the source says; empty when none could be read"),
            maybe_text("concept_completion", "what it wrote to name them; null where the source has them"),
            maybe_integer("concept_seed", "seed of that sample"),
            maybe_text("rationale", "rationale on these concepts; null when there is none"),
            maybe_integer("rationale_seed", "seed of that sample"),
            maybe_text("drop_reason", "why there are no concepts, or no rationale"),
            tokens,
            text("model", "model that wrote it"),
        ]
    ),
    "seed_triples": pa.schema(
        [
            _id("rationale_id", "content hash of problem and rationale"),
            problem_id,
            seeds_own_set,
            domain,
            concepts,
            level,
            problem,
            rationale,
            text("annotator", "who wrote the rationale"),
            source,
        ]
    ),
    "em_rationales": pa.schema(
        [
            _id("rationale_id", "content hash of problem, round, candidate and rationale"),
            problem_id,
            seeds_own_set,
            domain,
            source,
            integer("round", "EM round, from 1"),
            integer("candidate", "0..K-1"),
            concepts,
            level,
            problem,
            rationale,
            text("finish_reason", "stop: the end marker was written; length: cut off"),
            tokens,
            seed,
            real("log_q", "log q(z|c,x) in nats, from the sampler"),
            maybe_real("log_p_rationale", "log p(z|c) in nats under the previous generator"),
            maybe_real("log_p_problem", "log p(x|z,c) in nats under the previous generator"),
            maybe_real("log_p_problem_unquoted", "the same without the tokens of the run that z quotes"),
            maybe_real("reward", "R = log p(x|z,c) + log p(z|c) (paper section 3.2), or what em.reward makes of it"),
            real("copy_ratio", "longest common substring of x in z, over the length of x"),
            integer("quoted_from", "where it begins, character of x"),
            integer("quoted_to", "where it ends"),
            maybe_integer("rank", "1 = best reward of the seed's candidates, or first drawn"),
            flag("selected", "this candidate trains the next rationale model"),
            maybe_text("lost_because", "why it was not selected; null when it was"),
            maybe_text("style", "annotator whose style it has, where the domain can tell"),
            text("rationale_model", "q that wrote it"),
            text("problem_generator", "p that scored it"),
        ]
    ),
    "em_m_step": pa.schema(
        [
            _id("rationale_id", "content hash of problem, round and rationale"),
            problem_id,
            seeds_own_set,
            domain,
            source,
            integer("round", "EM round, from 1"),
            concepts,
            level,
            problem,
            rationale,
            text("origin", "greedy: temperature 0 from the new q; selected: the E-step's winner"),
            maybe_text("selected_rationale_id", "the E-step's winner, when origin is selected"),
            maybe_text("style", "annotator whose style it has, where the domain can tell"),
            text("rationale_model", "the new q"),
        ]
    ),
    "em_bounds": pa.schema(
        [
            _id("bound_id", "content hash of series, round and problem"),
            text("series", "cold_start, em, or extra_training: the control without an E-step"),
            integer("round", "EM round, 0 = cold start"),
            problem_id,
            seeds_own_set,
            domain,
            text("split", "held_out, or train: what the models have seen"),
            integer("proposals", "K rationales drawn from q"),
            integer("proposals_used", "of these, finished and without a marker; the others count as weight 0"),
            maybe_real("iw_bound", "log 1/K sum_k p(z_k,x|c)/q(z_k|c,x), nats; a lower bound of log p(x|c)"),
            maybe_real("iw_bound_half", "the same with the first K/2 proposals"),
            maybe_real("elbo", "mean of log p(z,x|c) - log q(z|c,x) over the used proposals + log(used/K), nats"),
            maybe_real("log_p_rationale", "mean log p(z|c), nats"),
            maybe_real("log_p_problem", "mean log p(x|z,c), nats"),
            maybe_real("log_p_problem_unquoted", "the same without the tokens of the run of x that z quotes"),
            maybe_real("log_p_problem_alone", "log p(x|c) when the rationale block is skipped, nats"),
            maybe_real("log_q", "mean log q(z|c,x), nats: minus the entropy of q"),
            maybe_real("rationale_tokens", "mean length of the used proposals"),
            maybe_real("copy_ratio", "mean longest common substring of x in z, over the length of x"),
            maybe_real("distinct_2", "distinct word pairs over word pairs of the used proposals"),
            maybe_real("acceptance_entropy", "of softmax(R) over the used proposals, nats: 0 is certain, log K chance"),
            integer("samples", "fresh problems written for the same concepts"),
            maybe_integer("samples_parsed", "of these, with both blocks"),
            maybe_integer(
                "samples_well_posed", "of these, exactly solvable as text; null where the domain cannot tell"
            ),
            text("rationale_model", "q that proposed"),
            text("problem_generator", "p that is measured"),
        ]
    ),
    "proposal_pool": pa.schema(
        [
            _id("proposal_id", "content hash of problem, number and rationale"),
            problem_id,
            seeds_own_set,
            domain,
            integer("candidate", "number among the problem's proposals"),
            concepts,
            level,
            problem,
            rationale,
            tokens,
            seed,
            maybe_real("log_q", "log of the mean of all q's probabilities of z given c and x, nats; null if unusable"),
            maybe_text("lost_because", "why it cannot be scored; it counts as weight 0"),
            text("rationale_model", "q that wrote it"),
        ]
    ),
    "common_bounds": pa.schema(
        [
            _id("bound_id", "content hash of series, round and problem"),
            text("series", "cold_start, em, or extra_training: the control without an E-step"),
            integer("round", "EM round, 0 = cold start"),
            problem_id,
            domain,
            integer("proposals", "K rationales of the common pool"),
            integer("proposals_used", "of these, usable; the others count as weight 0"),
            maybe_real("iw_bound", "log 1/K sum_k p(z_k,x|c)/mixture(z_k|c,x), nats: only p differs between series"),
            maybe_real("effective_proposals", "exp of the entropy of the normalised weights, of K"),
            text("problem_generator", "p that is measured"),
        ]
    ),
    "concept_sets": pa.schema(
        [
            _id("concept_set_id", "content hash of domain, concepts, level and position in the batch"),
            domain,
            concepts,
            level,
            maybe_text(
                "seed_problem_ids",
                "JSON list of seed problems with one of these concepts: 20 of them at most, of every concept",
            ),
            text("batch", "synthesis batch"),
        ]
    ),
    "raw_problems": pa.schema(
        [
            _id("raw_problem_id", "content hash of concept set, generator and seed"),
            concept_set_id,
            domain,
            concepts,
            level,
            text("completion", "what the generator wrote"),
            maybe_text("rationale", "rationale block"),
            maybe_text("problem", "problem block"),
            maybe_text("drop_reason", "why it is no problem; null when it is one"),
            maybe_flag("well_posed", "exactly solvable as text, where the domain can tell (never used as a filter)"),
            text("finish_reason", "stop or length"),
            tokens,
            seed,
            real("logprob", "log-probability of the completion, nats"),
            text("problem_generator", "p that wrote it"),
            text("batch", "synthesis batch"),
        ]
    ),
    "problems": pa.schema(
        [
            _id("problem_id", "content hash of domain and problem text"),
            text("raw_problem_id", "completion it was parsed from"),
            concept_set_id,
            domain,
            concepts,
            level,
            rationale,
            problem,
            maybe_flag("well_posed", "exactly solvable as text, where the domain can tell (never used as a filter)"),
            text("problem_generator", "p that wrote it"),
            text("batch", "synthesis batch"),
        ]
    ),
    "dropped_problems": pa.schema(
        [
            _id("raw_problem_id", "completion it was parsed from"),
            domain,
            problem,
            text("reason", "exact, near, contaminated, or what makes it unsolvable"),
            maybe_text("survivor_id", "problem kept in its place, or benchmark item it overlaps with"),
            maybe_real("similarity", "Jaccard similarity to the survivor"),
            maybe_text("matched_span", "shared text"),
            text("batch", "synthesis batch"),
        ]
    ),
    "math_answers": pa.schema(
        [
            _id("label_id", "content hash of problem and votes"),
            problem_id,
            domain,
            maybe_text("answer", "answer with the most votes; null when there is no label"),
            integer("votes", "votes for it"),
            integer("asked", "generations asked for"),
            real("share", "votes over asked"),
            texts("answers", "what each generation answered; empty text: no answer"),
            seeds("seeds", "seed of each generation, in their order; null where older rows have none"),
            maybe_text("drop_reason", "why there is no label"),
            text("voter", "model or procedure that voted"),
        ]
    ),
    "code_tests": pa.schema(
        [
            _id("test_id", "content hash of problem, place and stdin"),
            problem_id,
            domain,
            maybe_text("completion", "what the writer wrote; null for a drawn input and for the worked example"),
            maybe_text("stdin", "input; null when none could be read from the completion"),
            maybe_text("proposed", "output that the writer, or the worked example, gives; null for a drawn input"),
            maybe_text("expected", "output most candidate programs agree on; null when the test is dropped"),
            flag("repaired", "the programs agree on another output than the writer gives, and theirs is used"),
            integer("agree", "candidate programs with that output"),
            integer("programs", "candidate programs run, those that miss the worked example too"),
            real("trust", "agree over programs"),
            maybe_text("drop_reason", "why the test is not used"),
            integer("mutants", "mutants of a program that passes all the problem's tests, run on them"),
            maybe_real("mutation_score", "share of these that the problem's tests catch; null when none was run"),
            text("writer", "model or procedure that wrote it"),
            maybe_integer("seed", "seed of the writer's one sample; null where it sampled none"),
        ]
    ),
    "teacher_traces": pa.schema(
        [
            _id("trace_id", "content hash of problem, teacher and seed"),
            problem_id,
            domain,
            problem,
            text("trace", "completion: think block and answer or program"),
            maybe_text("answer", "extracted answer or program"),
            flag("valid", "agrees with the label (maths) or passes the trusted tests (code)"),
            maybe_text("drop_reason", "why it is not valid"),
            integer("seed", "seed of this one sample"),
            text("teacher", "model or procedure that wrote it"),
        ]
    ),
    "sft_examples": pa.schema(
        [
            _id("example_id", "content hash of prompt and completion"),
            problem_id,
            domain,
            text("source", "synthetic, or seed: a seed problem with its own solution"),
            maybe_text("trace_id", "teacher trace it is made of"),
            text("prompt", "what the student sees"),
            text("completion", "what it learns to write"),
        ]
    ),
    "rollouts": pa.schema(
        [
            _id("rollout_id", "content hash of problem, model, attempt and seed"),
            problem_id,
            domain,
            integer("attempt", "0..n-1"),
            text("prompt", "what the student saw"),
            text("completion", "what it wrote"),
            text("finish_reason", "stop or length"),
            tokens,
            seed,
            text("model", "student that wrote it"),
        ]
    ),
    "verdicts": pa.schema(
        [
            _id("rollout_id", "rollout that is judged"),
            problem_id,
            domain,
            flag("usable", "exactly one non-empty think block, then text with an answer (paper section on self-play)"),
            maybe_text("unusable_because", "first rule it breaks"),
            maybe_text("answer", "extracted answer, in normal form for maths"),
            maybe_text("reference", "the label in normal form, for maths: what `answer` was held against"),
            text("verdict", "ok, wrong_answer, ..., system_error: ours, never a fail"),
            maybe_flag("passed", "null when the infrastructure failed"),
            maybe_text("rule", "rule of the grader that decided"),
            text("grader", "grader and its version"),
        ]
    ),
    "preference_pairs": pa.schema(
        [
            _id("pair_id", "content hash of the two rollouts"),
            problem_id,
            domain,
            text("prompt", "what the student saw"),
            text("chosen", "a usable pass"),
            text("rejected", "a usable fail"),
            text("chosen_rollout_id", "rollout"),
            text("rejected_rollout_id", "rollout"),
            real("pass_rate", "of the problem's judged rollouts"),
        ]
    ),
    "self_play_examples": pa.schema(
        [
            _id("example_id", "content hash of the rollout"),
            problem_id,
            domain,
            text("rollout_id", "rollout, a usable pass"),
            text("prompt", "what the student saw"),
            text("completion", "what it wrote, and learns to write"),
            real("pass_rate", "of the problem's judged rollouts"),
        ]
    ),
    "self_play_gate": pa.schema(
        [
            _id("problem_id", "content hash of domain and problem text"),
            domain,
            real("before", "share of attempts that passed before the round"),
            real("pass_rate", "share of attempts that pass after it"),
            text("model", "model that the round made"),
        ]
    ),
    "benchmark_items": pa.schema(
        [
            _id("item_id", "content hash of benchmark and problem text"),
            text("benchmark", "name of the benchmark"),
            domain,
            problem,
            maybe_text("answer", "reference answer"),
            maybe_text("tests", "JSON list of {stdin, expected}, for programs; fn_name where a function is called"),
            text("source", "procedural domain, file or hub data set"),
            maybe_text("contest", "contest that the problem is from, where its source says so"),
            maybe_real("points", "what solving it earns in its contest"),
            maybe_flag("sample_tests", "its tests are only the samples of the statement; null where nobody knows"),
        ]
    ),
    "contest_standings": pa.schema(
        [
            _id("standing_id", "content hash of the row and its place in the source"),
            text("contest", "contest that was taken part in"),
            text("style", "codeforces: points that fall with failures; icpc: problems solved, then penalty"),
            real("rating", "rating of the participant before the contest"),
            real("points", "what the participant earned"),
            real("penalty", "minutes, ICPC style"),
            source,
        ]
    ),
    "codeforces_ratings": pa.schema(
        [
            _id("score_id", "content hash of benchmark, stage and model"),
            text("benchmark", "name of the benchmark"),
            text("stage", "base, sft or self_play"),
            text("model", "model that is rated"),
            maybe_real("rating", "Elo, the mean over contests (method section 8); null when it is refused"),
            maybe_real("low", "lower end of the 95 % bootstrap interval over contests"),
            maybe_real("high", "upper end"),
            integer("contests", "contests it is a mean over"),
            integer("problems", "problems attempted"),
            maybe_text("refused", "why there is no rating"),
        ]
    ),
    "benchmark_generations": pa.schema(
        [
            _id("generation_id", "content hash of item, model, attempt and seed"),
            text("item_id", "benchmark item"),
            text("benchmark", "name of the benchmark"),
            domain,
            text("stage", "base, sft or self_play"),
            integer("attempt", "0..k-1"),
            text("completion", "what the model wrote"),
            text("finish_reason", "stop or length"),
            tokens,
            seed,
            text("model", "model that wrote it"),
        ]
    ),
    "benchmark_verdicts": pa.schema(
        [
            _id("generation_id", "generation that is judged"),
            text("item_id", "benchmark item"),
            text("benchmark", "name of the benchmark"),
            domain,
            text("stage", "base, sft or self_play"),
            integer("attempt", "0..k-1"),
            maybe_text("answer", "extracted answer, in normal form for maths"),
            maybe_text("reference", "the label in normal form, for maths: what `answer` was held against"),
            text("verdict", "ok, wrong_answer, ..., system_error: ours, never a fail"),
            maybe_flag("passed", "null when the infrastructure failed"),
            maybe_text("rule", "rule of the grader that decided"),
            text("grader", "grader and its version"),
            text("model", "model that wrote it"),
        ]
    ),
    "benchmark_scores": pa.schema(
        [
            _id("score_id", "content hash of benchmark, metric and models"),
            text("benchmark", "name of the benchmark"),
            text("stage", "base, sft or self_play"),
            text("metric", "avg@k, or paired difference (of avg@k, to the stage in compared_with)"),
            real("value", "share of 1, or difference of shares"),
            real("low", "lower end of the 95 % interval, clustered by question"),
            real("high", "upper end"),
            maybe_text("compared_with", "stage the difference is taken to"),
            text("model", "model that is scored"),
            integer("questions", "benchmark items"),
            integer("generations", "generations a question"),
            integer("infrastructure_failures", "generations without a verdict, left out"),
            maybe_flag("significant", "the interval of a difference excludes 0"),
        ]
    ),
    "em_curves": pa.schema(
        [
            _id("point_id", "content hash of series, round, domain, split and metric"),
            text("series", "cold_start, em or extra_training"),
            integer("round", "EM round, 0 = cold start"),
            integer("steps", "optimiser steps of p until then, cold start included"),
            domain,
            text("split", "held_out or train"),
            text("metric", "a measure of em_bounds, common_bound, well_posed, or gain over ..."),
            real("value", "mean over the problems"),
            real("standard_error", "of the mean; paired for gains"),
            integer("problems", "problems measured"),
        ]
    ),
    "difficulty": pa.schema(
        [
            _id("problem_id", "content hash of domain and problem text"),
            domain,
            real("pass_rate", "share of the student's rollouts that pass"),
            real("low", "lower end of the 95 % Wilson interval"),
            real("high", "upper end"),
            text("band", "unsolved, hard, medium, easy or solved; the paper plays on hard and medium"),
            integer("passes", "rollouts that pass"),
            integer("rollouts", "judged rollouts"),
            real("tokens", "mean tokens a rollout"),
            text("model", "student that was asked"),
        ]
    ),
    "item_difficulty": pa.schema(
        [
            _id("problem_id", "content hash of domain and problem text"),
            domain,
            real("difficulty", "logits: a solver of this ability passes half of the time; 0 is the average problem"),
            real("standard_error", "posterior standard deviation"),
            integer("solvers", "students and teachers that tried it"),
            integer("attempts", "judged attempts of all of them"),
            real("pass_rate", "share of these that pass"),
        ]
    ),
    "zero_shot_difficulty": pa.schema(
        [
            _id("problem_id", "content hash of domain and problem text"),
            domain,
            maybe_text("reference", "final answer of the reference model; null when it gives none"),
            integer("reference_tokens", "tokens that it wrote, thoughts included"),
            maybe_text("answer", "final answer of the solver, in normal form"),
            maybe_flag("passed", "whether the two agree; null without a reference, and when the grader failed"),
            maybe_text("drop_reason", "why the problem does not count"),
            integer("reference_seed", "seed of the reference's one sample"),
            integer("seed", "seed of the solver's one sample"),
            text("teacher", "model that gave the reference"),
            text("model", "model that solved it, never trained here"),
        ]
    ),
    "distribution": pa.schema(
        [
            _id("dataset", "problem set"),
            integer("problems", "problems embedded"),
            real("x", "first coordinate of the MDS map of 1 - cosine"),
            real("y", "second coordinate"),
            real("distance_to_seeds", "1 - cosine between the mean embeddings (method section 8)"),
        ]
    ),
    "scaling": pa.schema(
        [
            _id("point_id", "content hash of benchmark and model"),
            text("benchmark", "name of the benchmark"),
            text("student", "student"),
            text("stage", "base, sft or self_play"),
            text("model", "model that was scored"),
            integer("examples", "training examples behind it, ancestors included"),
            real("value", "avg@k"),
            real("low", "lower end of the 95 % interval"),
            real("high", "upper end"),
        ]
    ),
    "yield_report": pa.schema(
        [
            _id("step_id", "content hash of batch, domain and step"),
            text("batch", "synthesis batch"),
            domain,
            integer("position", "order of the step"),
            text("step", "what was done"),
            integer("rows", "rows left after it"),
            real("share_of_raw", "rows over raw completions"),
            text("dropped", "JSON {reason: rows}"),
        ]
    ),
}

MODEL = pa.schema(
    [
        _id("model_id", "role/version; version = hash of the weights' files"),
        text("path", "folder, relative to PROMPTCOT_HOME"),
        maybe_text("base", "model_id or hub id it started from"),
        integer("examples", "training rows"),
        integer("steps", "optimiser steps"),
        integer("tokens", "training tokens"),
        maybe_real("loss", "mean training loss over the last tenth"),
    ]
)

MODEL_ROLES = (
    "base_model",
    "cold_rationale_model",
    "cold_problem_generator",
    "rationale_model",
    "problem_generator",
    "control_rationale_model",
    "control_problem_generator",
    "student_base",
    "sft_model",
    "self_play_model",
    "teacher_model",
)
# tables of assets that are in the graph only where a profile asks for them
OPTIONAL = ("teacher_model", "seed_annotations", "zero_shot_difficulty")
SCHEMAS |= dict.fromkeys(MODEL_ROLES, MODEL)
SCHEMAS |= dict.fromkeys(("cold_start_bounds", "control_bounds"), SCHEMAS["em_bounds"])


COMMENTS = {  # what stands beside the view in the catalogue
    "concept_corpus": "every concept of the seed problems, and how many carry it",
    "seed_problems": "problems from procedural domains, files and hub data sets; some held out from training",
    "seed_annotations": "concepts and rationales of seed problems, written by one annotator each",
    "seed_triples": "concepts, rationale and problem of every training seed that has all three: the cold start's data",
    "em_rationales": "E-step: every candidate rationale of a round with its scores, selected or not",
    "em_m_step": "M-step: the rationales that the round's generator is trained on",
    "em_bounds": "how good a round's pair (q, p) is, problem by problem",
    "cold_start_bounds": "how good the pair before the first round is, problem by problem",
    "control_bounds": "how good the control's pair is: as many steps, no E-step",
    "proposal_pool": "held-out rationales of several q, as one sample of their mixture",
    "common_bounds": "every generator measured on the one pool of proposals",
    "concept_sets": "what a synthesis batch is written about",
    "raw_problems": "problems as the generator wrote them, one row a completion, parsed or with the reason why not",
    "problems": "unique, uncontaminated, askable problems of a batch",
    "dropped_problems": "every parsed problem that fell, with its reason and evidence",
    "math_answers": "labels of maths problems by majority vote",
    "code_tests": "tests of program problems, their outputs agreed on by programs that were run",
    "teacher_traces": "worked solutions of labelled problems, verified",
    "sft_examples": "what the student is fine-tuned on",
    "rollouts": "the student's attempts at problems it was not taught",
    "verdicts": "every rollout judged",
    "preference_pairs": "a usable pass and a usable fail of one problem",
    "self_play_examples": "the student's own usable passes, for iterative SFT",
    "self_play_gate": "held-out problems asked before and after a round of self-play",
    "benchmark_items": "every item of every benchmark in use, asked or not",
    "benchmark_generations": "what each stage of a student writes to each item",
    "benchmark_verdicts": "every benchmark generation judged",
    "contest_standings": "rated participants of the contests that benchmark problems are from",
    "codeforces_ratings": "Codeforces Elo of every stage, or why there is none",
    "benchmark_scores": "scores of every stage with intervals, and paired differences",
    "em_curves": "every measure of the EM rounds by series and round",
    "difficulty": "pass rate of a student on every problem it played on",
    "item_difficulty": "every problem on one scale for all its solvers",
    "zero_shot_difficulty": "how a model that was never trained here does on a sample of a batch",
    "distribution": "where the synthetic problems lie beside seeds and benchmarks",
    "scaling": "scores against the training examples behind each model",
    "yield_report": "the funnel of a batch: rows left after every step",
    "base_model": "what the cold start trains from",
    "cold_rationale_model": "q after the cold start",
    "cold_problem_generator": "p after the cold start",
    "rationale_model": "q of a round",
    "problem_generator": "p of a round",
    "control_rationale_model": "q of the control",
    "control_problem_generator": "p of the control",
    "student_base": "a student before training on synthetic data",
    "sft_model": "a student after fine-tuning on traces",
    "teacher_model": "a model that is asked and never trained",
    "self_play_model": "a student after learning from its own passes and fails",
}
SCHEMAS = {table: schema.with_metadata({"comment": COMMENTS[table]}) for table, schema in SCHEMAS.items()}


def declared_since(table: str, stored: Iterable[str]) -> list[str]:
    """Columns that are declared here and that an older version, with only the `stored` ones, lacks.

    None for a table that is not declared, or has columns that are not: that one is not of our making.
    """
    have, declared = set(stored), SCHEMAS[table].names if table in SCHEMAS else []
    return [name for name in declared if name not in have] if have.issubset(declared) else []


def with_columns(table: str, rows: Rows, names: Iterable[str]) -> Rows:
    """`rows` in the order of `names`; a column that they lack is the declared one without a value."""
    columns = [
        rows.column(name) if name in rows.schema.names else pa.nulls(rows.num_rows, SCHEMAS[table].field(name).type)
        for name in names
    ]
    fields = [
        rows.schema.field(name) if name in rows.schema.names else pa.field(name, SCHEMAS[table].field(name).type)
        for name in names
    ]
    return type(rows).from_arrays(columns, schema=pa.schema(fields).with_metadata(rows.schema.metadata))
