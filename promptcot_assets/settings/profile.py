"""The settings of one home: one section a stage, with its default.

Where the paper fixes a number the default is the paper's (method section in the comment); the demo profiles override it
for tiny models.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

import pydantic

from promptcot_assets.settings.engines import Engine, Sandbox
from promptcot_assets.settings.section import AtLeastOne, Count, Positive, Section, Share, Weight, merged

Band = Literal["unsolved", "hard", "medium", "easy", "solved"]  # of pass rates: stages/difficulty.py has their bounds
BANDS: tuple[Band, ...] = ("unsolved", "hard", "medium", "easy", "solved")


class ProcedureSizes(Section):
    """How much a procedural (mini) domain writes."""

    seeds: AtLeastOne = 2000
    held_out: Count = 120
    benchmark: Count = 400
    annotators: dict[str, Weight] = {"planner": 1, "partial": 1, "chatty": 1, "careless": 1}  # sampling weights
    base_problems: Count = 250  # seed problems with solutions that the student's base model is trained on
    teacher_error: Share = 0.15  # share of the procedural teacher's answers that are wrong

    @pydantic.field_validator("annotators")
    @classmethod
    def _someone_writes(cls, annotators: dict[str, float]) -> dict[str, float]:
        if not sum(annotators.values()):
            raise ValueError("give at least one annotator a positive weight")
        return annotators


class Corpus(Section):
    """Where seed problems come from: procedural domains, and files or hub data sets (any mix of both)."""

    _unsaid_by_default = ("play_files",)
    procedural: dict[str, ProcedureSizes] = {}
    files: dict[str, list[str]] = {}  # domain -> sources: JSONL, Parquet or hf:org/name@revision#split
    # of real problems that are no seeds: only played on (self_play.real_problems)
    play_files: dict[str, list[str]] = {}
    held_out_share: Share = 0.1  # of the problems read from files
    base_problems: Count = 10_000  # solutions of file problems, a domain, that a tiny student's base is taught

    def sources(self) -> list[str]:
        """Every file or hub address that problems are read from."""
        return [source for files in (self.files, self.play_files) for sources in files.values() for source in sources]

    def base_examples(self) -> dict[str, int]:
        """domain -> solved seed problems that a student's base model is taught."""
        return dict.fromkeys(self.files, self.base_problems) | {
            name: sizes.base_problems for name, sizes in self.procedural.items()
        }


class TinyModel(Section):
    """A Qwen3-architecture model made from scratch, for CPU runs."""

    hidden_size: AtLeastOne = 128
    intermediate_size: AtLeastOne = 384
    layers: AtLeastOne = 2
    heads: AtLeastOne = 4
    vocab_size: AtLeastOne = 512
    max_position: AtLeastOne = 512
    seed: int = 0


class BaseModel(Section):
    """What training starts from: a hub checkpoint at a pinned revision, or a tiny model from scratch."""

    hub_id: str | None = None  # or the path of a local folder
    revision: str | None = None  # full commit hash; null: that of revisions.lock (settings/pins.py); unread of a folder
    scratch: TinyModel | None = None

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> BaseModel:
        if (self.hub_id is None) == (self.scratch is None):
            raise ValueError("set exactly one of hub_id (with revision) and scratch")
        return self


class Chat(Section):
    """A prompt is put as a user's turn, in the checkpoint's own chat template. Where `chat` is null: as it stands."""

    required: bool = True  # false: as it stands where the checkpoint has no template
    arguments: dict[str, Any] = {}  # of the template, e.g. {reasoning_effort: medium}, {enable_thinking: false}
    system: str | None = None  # the turn before the user's
    today: datetime.date = datetime.date(2025, 9, 1)  # what templates that tell the date say; never the clock's


class Lora(Section):
    """Low-rank matrices are trained beside the named modules and merged into the base when training ends."""

    r: AtLeastOne = 16
    alpha: AtLeastOne = 32
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] = "all-linear"  # peft's names


class Training(Section):
    """One training run. `arguments` are TRL's own names (SFTConfig, DPOConfig, GRPOConfig)."""

    _unsaid_by_default = ("lora",)
    arguments: dict[str, Any] = {}
    threads: AtLeastOne = 1
    save_steps: AtLeastOne = 200
    lora: Lora | None = None  # null: all weights are trained
    launcher: list[str] = []  # e.g. [accelerate, launch, --config_file, training/configs/fsdp_8.yaml]


class Sampling(Section):
    temperature: Annotated[float, pydantic.Field(ge=0)] = 1.0  # 0 is greedy
    top_p: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    max_new_tokens: AtLeastOne = 4096


class Teacher(Section):
    """A model that is asked and never trained: `teachers.NAME`. A role (`Asked`) says what it is asked for."""

    model: BaseModel
    chat: Chat | None = None
    engine: dict[str, Any] = {}  # laid over the profile's `engine`, e.g. {vllm: {tensor_parallel: 4}}

    @pydantic.field_validator("model")
    @classmethod
    def _knows_something(cls, model: BaseModel) -> BaseModel:
        if model.hub_id is None:
            raise ValueError("a model from scratch has nothing to teach; set hub_id")
        return model


class Asked(Section):
    """One role of a teacher."""

    teacher: str  # its name in `teachers`
    sampling: Sampling


class HeldOut(Section):
    """How a round is measured, on held-out seeds and on some training seeds (method sections 1 and 3)."""

    proposals: AtLeastOne = 16  # K of the importance-weighted bound; K/2 is reported beside it
    samples: Count = 3  # fresh problems written per concept set, for the well-posed rate
    training_seeds: Count = 64  # training seeds measured the same way, to see what is only learned by heart


class Reward(Section):
    """What ranks an E-step's candidates: the paper's is R = log p(z|c) + log p(x|z,c), summed over tokens."""

    rationale: bool = True  # the term log p(z|c)
    problem: bool = True  # the term log p(x|z,c)
    per_token: bool = False  # each term divided by its number of tokens
    markers: bool = True  # the tokens of the block markers (and the end token) count

    @pydantic.model_validator(mode="after")
    def _something_ranks(self) -> Reward:
        if not (self.rationale or self.problem):
            raise ValueError("a reward without a term ranks nothing; for a random candidate set em.selection: random")
        return self


class Filters(Section):
    """Candidates that are finished and without a marker, but not to be learned from."""

    max_tokens: AtLeastOne | None = None
    max_copy_ratio: Share = 1.0  # longest common substring of x in z, over |x|


class Gate(Section):
    """When a round stops the rounds after it (method section 3: regression gate)."""

    standard_errors: Positive = 2.0  # the held-out bound may fall by this much noise
    min_usable_share: Share = 0.2  # of candidates and of fresh problems: finished, well-formed, not filtered out
    min_distinct_share: Share = 0.1  # distinct texts over candidates
    max_repeated_share: Share = 0.2  # of winners that are one and the same text
    min_length_ratio: Share = 0.25  # winners' mean length over that of the rationales before


class Mixture(Section):
    """How often an example is trained on: weight 2 is twice, 0.5 every other one, 0 never; 1 where nothing is set."""

    domains: dict[str, Weight] = {}
    annotators: dict[str, Weight] = {}  # of the cold start's triples; an E-step's rationales have no annotator
    sources: dict[str, Weight] = {}


class ExpectationMaximisation(Section):
    """Cold start and EM rounds (method sections 2 and 3). Defaults are the paper's, other values its ablations."""

    rounds: Annotated[int, pydantic.Field(ge=1, le=24)] = 6
    patience: Count = 2  # rounds in a row without a significant gain after which models are only carried over; 0: never
    cold_start_share: Share = 1.0  # of the annotated triples; 0: no cold start, round 1 starts from the base model
    candidates: AtLeastOne = 8  # K rationales a seed (fixed by the paper)
    sampling: Sampling = Sampling(temperature=1.0, max_new_tokens=2048)
    problem_sampling: Sampling = Sampling(temperature=1.0, max_new_tokens=4096)  # of fresh problems, for the report
    selection: Literal["best", "random", "frozen"] = "best"  # frozen: a random candidate of round 1, in every round
    reward: Reward = Reward()
    filters: Filters = Filters()
    m_step: Literal["greedy", "selected"] = "greedy"  # paper: greedy z of the new q; "selected": the E-step's winner
    restart_from: Literal["previous", "cold_start"] = "previous"  # the weights that a round's training starts from
    replay: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0  # share of a round's examples that are annotated triples
    mixture: Mixture = Mixture()
    cold_start: Training = Training(
        arguments={"learning_rate": 2e-5, "per_device_train_batch_size": 16, "num_train_epochs": 2}
    )
    e_step: Training = Training(
        arguments={"learning_rate": 2e-6, "per_device_train_batch_size": 16, "num_train_epochs": 1}
    )
    m_step_training: Training = Training(
        arguments={"learning_rate": 2e-6, "per_device_train_batch_size": 16, "num_train_epochs": 1}
    )
    held_out: HeldOut = HeldOut()
    gate: Gate = Gate()
    shard_rows: AtLeastOne = 256  # seeds a shard

    @pydantic.model_validator(mode="after")
    def _frozen_has_no_greedy(self) -> ExpectationMaximisation:
        if self.selection == "frozen" and self.m_step == "greedy":
            raise ValueError("em.selection: frozen trains both models on frozen rationales; set em.m_step: selected")
        return self

    def e_step_uses(self) -> dict[str, Any]:
        """What the rows of an E-step depend on, besides the models."""
        return self.model_dump(include={"candidates", "sampling", "selection", "reward", "filters", "shard_rows"})

    def m_step_uses(self) -> dict[str, Any]:
        """What the rationales of an M-step depend on, besides the models."""
        return self.model_dump(include={"m_step", "sampling", "filters", "shard_rows"})

    def training_uses(self) -> dict[str, Any]:
        """What a round's training examples depend on, besides the rationales."""
        return self.model_dump(include={"restart_from", "replay", "mixture"})

    def measured_by(self) -> dict[str, Any]:
        """What the measures of a pair of models depend on, besides the models."""
        return self.model_dump(include={"sampling", "problem_sampling", "held_out", "shard_rows"})


class SentenceModel(Section):
    """An encoder in the sentence-transformers layout, such as sentence-transformers/all-MiniLM-L6-v2 (method 8)."""

    name: str  # hub id, or a local folder
    revision: str | None = None  # full commit hash; null: that of revisions.lock (settings/pins.py); unread of a folder


class Synthesis(Section):
    """Concept sets and the problems written from them (method section 4)."""

    concept_sets: dict[str, AtLeastOne] = {"maths": 6500}  # a batch, by domain
    concepts_per_set: dict[str, list[AtLeastOne]] = {}  # sizes to draw from, by domain; empty: 5
    concept_temperature: Positive = 0.2
    levels: dict[str, dict[str, Weight]] = {}  # domain -> level -> weight; empty: uniform over the seeds' levels
    embedding: SentenceModel | None = None  # of concepts (and of the `distribution` map); null: the generator itself
    problems_per_set: AtLeastOne = 64
    sampling: Sampling = Sampling(temperature=0.8, top_p=1.0, max_new_tokens=4096)
    shard_rows: AtLeastOne = 512

    @pydantic.model_validator(mode="after")
    def _levels_can_be_drawn(self) -> Synthesis:
        for domain, weights in self.levels.items():
            if domain not in self.concept_sets:
                raise ValueError(f"levels: no concept sets are asked for {domain}; add it to concept_sets")
            if not sum(weights.values()):
                raise ValueError(f"levels.{domain}: give at least one level a positive weight")
        return self

    def concept_set_uses(self) -> dict[str, Any]:
        """What concept sets depend on, besides the seeds and what embeds concepts."""
        return self.model_dump(include={"concept_sets", "concepts_per_set", "concept_temperature", "levels"})

    def writing_uses(self) -> dict[str, Any]:
        """What raw problems depend on, besides the concept sets and the generator."""
        return self.model_dump(include={"problems_per_set", "sampling", "shard_rows"})


class Deduplication(Section):
    threshold: Share = 0.8  # Jaccard similarity of shingles at which two problems count as near duplicates
    semantic: SentenceModel | None = None  # compares what is left by meaning too; null: by words alone
    semantic_threshold: Share = 0.95  # cosine of its vectors at which problems of the same numbers mean the same
    decontamination_ngram: Annotated[int, pydantic.Field(ge=2)] = 13  # words (paper section on decontamination)


class Annotation(Section):
    """Concepts and rationales of seed problems, written by models for the cold start (method section 2).

    Every annotator gives every seed a triple of its own; EM takes one of a seed's concept lists (stages/annotation.py).
    """

    annotators: list[Asked]  # one triple each, all kept
    concepts: AtLeastOne = 5  # exactly so many a problem (method section 1: five in every published example)
    shard_rows: AtLeastOne = 512

    @pydantic.field_validator("annotators")
    @classmethod
    def _each_once(cls, annotators: list[Asked]) -> list[Asked]:
        names = [one.teacher for one in annotators]
        if not names or len(set(names)) < len(names):
            raise ValueError("name one teacher or more, each of them once")
        return annotators


class Labels(Section):
    """Answers by majority vote; code tests by cross execution (method section 5)."""

    _unsaid_by_default = ("voter", "test_writer", "share")
    # what stands in where voter or test_writer is null: a domain's own procedure, or the first student's base model
    teacher: Literal["procedural", "base_model"] = "procedural"
    voter: Asked | None = None  # answers maths problems, `votes` times each
    test_writer: Asked | None = None  # writes tests, and the candidate programs that they are run on
    share: Share = 1.0  # of a batch's problems that are labelled; which ones follows from their ids
    votes: AtLeastOne = 8
    min_votes: AtLeastOne = 4
    ties: Literal["drop", "first"] = "drop"  # first: of the answers with most votes the one that was given first
    sampling: Sampling = Sampling(temperature=0.6, max_new_tokens=16384)  # of teacher: base_model, traces too
    tests_per_problem: AtLeastOne = 4  # calls, where a model writes them: one {input, output} a call
    test_programs: AtLeastOne = 5  # candidate programs whose outputs must agree
    min_test_agreement: Share = 0.6
    mutants: Count = 8  # of a program that passes, run to see what the tests catch; 0: no mutation score
    min_mutation_score: Share = 0.0  # tests that catch a smaller share of the mutants are dropped
    shard_rows: AtLeastOne = 512


PricedStep = Literal["concept_sets", "raw_problems", "math_answers", "code_tests", "teacher_traces"]


class Prices(Section):
    """What work costs, for the yield report. Nothing set: no money is reported. No result depends on it."""

    currency: str = "USD"
    machine_hour: Weight = 0.0  # of the machine that runs the steps
    million_tokens: dict[PricedStep, Weight] = {}  # price of a million tokens, generated or scored by the step


class Distillation(Section):
    """Teacher traces (method section 7)."""

    _unsaid_by_default = ("teacher", "unlabelled")
    teacher: Asked | None = None  # null: as `labels.teacher` says
    unlabelled: bool = (
        False  # ask problems without a label too; their traces need an answer or a program, as in the paper
    )
    traces_per_problem: Count = 1  # 0: none are written, where no student is taught
    max_trace_characters: AtLeastOne | None = None  # longer traces are not valid; null: only the token limits hold
    shard_rows: AtLeastOne = 512


class Student(Section):
    """One student: where it starts and how it is trained."""

    _unsaid_by_default = ("chat", "engine", "taught", "plays")
    base: BaseModel
    chat: Chat | None = None  # of sampling and training alike, from SFT to evaluation
    engine: dict[str, Any] = {}  # laid over the profile's `engine` where this student is asked
    taught: bool = True  # false: no SFT, its self-play starts from the base
    plays: bool = True  # false: no self-play, what it is after SFT is the end
    base_training: Training | None = None  # tiny models learn the seeds' own solutions first
    sft: Training = Training(
        arguments={"learning_rate": 8e-5, "per_device_train_batch_size": 1024, "num_train_epochs": 1}
    )
    replay_seed_solutions: bool = True  # keep the base problems in the SFT mix
    continues: str | None = None  # a student whose self-play model this one starts from: the next round of self-play


class SelfPlay(Section):
    """Rollouts, verdicts, pairs (method section 6)."""

    _unsaid_by_default = ("bands", "synthetic_problems")
    pool_share: Share = 0.25  # of labelled problems kept out of SFT and played on
    held_out_share: Share = 0.0  # of these, never played on: the regression gate asks them before and after a round
    real_problems: dict[str, AtLeastOne] = {}  # by domain: real ones with a label that are played on as well
    synthetic_problems: dict[str, AtLeastOne] = {}  # by domain: at most so many of the pool; where none is named, all
    # which of them a student that continues another plays on, by how the rounds before it did; new problems always
    bands: tuple[Band, ...] = BANDS
    rollouts: AtLeastOne = 8
    sampling: Sampling = Sampling(temperature=1.2, top_p=1.0, max_new_tokens=81920)
    max_pass_rate: Share = 0.5  # problems solved at least this often are dropped, like those never solved
    max_pairs_per_problem: AtLeastOne = 4  # and passes a problem, where the optimiser is sft
    # dpo: on pairs; sft: rejection sampling, on the student's own usable passes; grpo: online, training.arguments are
    # TRL's GRPOConfig (num_generations, max_completion_length, temperature, ...) and no rollout table is read
    optimiser: Literal["dpo", "sft", "grpo"] = "dpo"
    training: Training = Training(
        arguments={"learning_rate": 1e-6, "per_device_train_batch_size": 16, "num_train_epochs": 1, "beta": 0.1}
    )
    shard_rows: AtLeastOne = 128

    @property
    def chooses_bands(self) -> bool:
        return set(self.bands) != set(BANDS)

    @pydantic.model_validator(mode="after")
    def _bands_can_be_known(self) -> SelfPlay:
        if not self.bands:
            raise ValueError(f"self_play.bands is empty: nothing would be played on; choose from {', '.join(BANDS)}")
        if self.chooses_bands and self.optimiser == "grpo":
            raise ValueError("self_play.bands needs rollouts that were judged; online self-play (grpo) has none")
        return self


class PublishedBenchmark(Section):
    """Where the items of one benchmark are (JSONL, Parquet, hf:org/name@revision#split), and which of them count."""

    source: str | list[str]  # several are read one after the other
    since: str | None = None  # ISO date of the earliest contest, e.g. LiveCodeBench v5: 2024-08-01
    until: str | None = None  # and of the first one that is too late: 2025-02-01

    @property
    def sources(self) -> list[str]:
        return [self.source] if isinstance(self.source, str) else self.source


class Benchmarks(Section):
    """Published items read from files (domain -> name -> source), besides each procedural domain's own benchmark."""

    files: dict[str, dict[str, str | PublishedBenchmark]] = {}
    standings: str | None = None  # JSONL or Parquet of rated participants, for a Codeforces Elo (method section 8)
    limit: AtLeastOne | None = None  # items of a benchmark to evaluate; decontamination always uses all

    def published(self) -> dict[tuple[str, str], PublishedBenchmark]:
        """(domain, benchmark) -> its source."""
        return {
            (domain, name): PublishedBenchmark(source=source) if isinstance(source, str) else source
            for domain, files in self.files.items()
            for name, source in files.items()
        }

    def sources(self) -> list[str]:
        """Every file or hub address that items are read from."""
        return [source for benchmark in self.published().values() for source in benchmark.sources]


class Evaluation(Section):
    """Generations a question and their sampling (method section 8)."""

    generations: AtLeastOne = 16
    generations_of: dict[str, AtLeastOne] = {}  # by benchmark, e.g. the paper's {livecodebench_v6: 1, codeforces: 8}
    sampling: Sampling = Sampling(temperature=0.6, top_p=0.95, max_new_tokens=81920)
    prompts: Literal["domain", "published"] = "domain"  # published: programs asked for as in the released files
    shard_rows: AtLeastOne = 128

    def attempts(self, benchmark: str) -> int:
        """Generations a question of this benchmark."""
        return self.generations_of.get(benchmark, self.generations)


class Distribution(Section):
    """Problem sets on the map of `distribution` besides seeds, synthetic problems and benchmarks."""

    sets: dict[str, str] = {}  # name -> JSONL, Parquet or hf:org/name@revision#split
    problems: AtLeastOne = 10_000  # that are read of each


class ZeroShot(Section):
    """How hard a batch's problems are for a model that was never trained on them (method section 8, difficulty)."""

    problems: AtLeastOne = 1000  # sampled from a batch's maths problems
    solver: Asked  # its zero-shot accuracy is the measure
    reference: Asked  # its answers are what the solver is held against, its thinking tokens the second measure
    shard_rows: AtLeastOne = 128


class Ablations(Section):
    """What `promptcot ablations` runs beside the profile's own EM: settings of `em` laid over it, by name."""

    seeds: list[Count] = [0, 1, 2]
    arms: dict[str, dict[str, Any]] = {}


class Settings(Section):
    profile: str
    seed: Count = 0
    lanes: AtLeastOne = 1  # steps of the whole arc run side by side; also the limit of the Dagster pool `gpu`
    corpus: Corpus = Corpus()
    teachers: dict[str, Teacher] = {}
    annotation: Annotation | None = None
    benchmarks: Benchmarks = Benchmarks()
    base: BaseModel  # of the rationale model q and the problem generator p
    em: ExpectationMaximisation = ExpectationMaximisation()
    synthesis: Synthesis = Synthesis()
    deduplication: Deduplication = Deduplication()
    labels: Labels = Labels()
    prices: Prices = Prices()
    distillation: Distillation = Distillation()
    students: dict[str, Student]
    self_play: SelfPlay = SelfPlay()
    evaluation: Evaluation = Evaluation()
    zero_shot: ZeroShot | None = None
    distribution: Distribution = Distribution()
    engine: Engine = Engine()
    sandbox: Sandbox = Sandbox()
    ablations: Ablations = Ablations()

    @pydantic.model_validator(mode="after")
    def _can_be_met(self) -> Settings:
        if missing := sorted(self.synthesis.concept_sets.keys() - set(self.domains)):
            raise ValueError(
                f"synthesis.concept_sets asks for {', '.join(missing)}, of which corpus has no seeds "
                f"(it has {', '.join(self.domains) or 'none'}); add a source to corpus or set synthesis.concept_sets"
            )
        for name in self.students:
            before = [name]
            while (former := self.students[before[-1]].continues) is not None:
                if former not in self.students or former in before:
                    raise ValueError(
                        f"students.{before[-1]}.continues: {former!r} is no student of this profile that came before; "
                        f"it has {', '.join(self.students)}"
                    )
                before.append(former)
        if self.labels.min_votes > self.labels.votes:
            raise ValueError(
                f"labels.min_votes {self.labels.min_votes} is more than the {self.labels.votes} labels.votes"
            )
        for where, role in self.roles().items():
            if role.teacher not in self.teachers:
                known = ", ".join(self.teachers) or "none"
                raise ValueError(f"{where}.teacher: {role.teacher!r} is not one of `teachers` (there are: {known})")
        overlays: dict[str, Teacher | Student] = {f"teachers.{name}": one for name, one in self.teachers.items()}
        for where, one in (overlays | {f"students.{name}": one for name, one in self.students.items()}).items():
            try:
                self._engine_with(one.engine)
            except pydantic.ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"{where}.engine.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        for name, overrides in self.ablations.arms.items():
            try:
                ExpectationMaximisation.model_validate(merged(self.em.model_dump(), overrides))
            except pydantic.ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise ValueError(f"ablations.arms.{name}: em.{where}: {first['msg']}") from None
        return self

    @property
    def domains(self) -> list[str]:
        return sorted({*self.corpus.procedural, *self.corpus.files})

    def roles(self) -> dict[str, Asked]:
        """Every role that a teacher of this profile has, by its setting."""
        roles = {f"annotation.annotators.{at}": one for at, one in enumerate(self.annotators)}
        named = {
            "labels.voter": self.labels.voter,
            "labels.test_writer": self.labels.test_writer,
            "distillation.teacher": self.distillation.teacher,
            "zero_shot.solver": self.zero_shot and self.zero_shot.solver,
            "zero_shot.reference": self.zero_shot and self.zero_shot.reference,
        }
        return roles | {name: role for name, role in named.items() if role}

    @property
    def annotators(self) -> list[Asked]:
        return self.annotation.annotators if self.annotation else []

    def engine_of(self, teacher: str) -> Engine:
        """The engine that a teacher runs on: the profile's, with the teacher's own settings laid over it."""
        return self._engine_with(self.teachers[teacher].engine)

    def engine_of_student(self, student: str) -> Engine:
        return self._engine_with(self.students[student].engine)

    def _engine_with(self, overlay: dict[str, Any]) -> Engine:
        return Engine.model_validate(merged(self.engine.model_dump(), overlay))
