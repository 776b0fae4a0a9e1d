"""The settings of one home: one section a stage, with its default.

Where the paper fixes a number the default is the paper's (method section in the comment); the demo profiles override it
for tiny models.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from promptcot_assets.settings.engines import Engine, Sandbox
from promptcot_assets.settings.section import (
    Arguments,
    AtLeastOne,
    Count,
    Positive,
    Section,
    Seed,
    Share,
    Weight,
    merged,
    one_of,
)

# of pass rates: stages/analysis/difficulty.py has their bounds
Band = Literal["unsolved", "hard", "medium", "easy", "solved"]
# The domains there are (promptcot_assets/domains; a test holds the two lists equal).
ProceduralName = Annotated[str, one_of("mini_maths", "mini_code")]
DomainName = Annotated[str, one_of("maths", "code", "mini_maths", "mini_code")]
BANDS: tuple[Band, ...] = ("unsolved", "hard", "medium", "easy", "solved")


class ProcedureSizes(Section):
    """How much a procedural (mini) domain writes."""

    _no_effect_on_results = ("misread",)  # on what it writes; where its teacher is asked, `teacher_errors` enters
    seeds: AtLeastOne = 2000
    held_out: Count = 120
    benchmark: Count = 400
    annotators: dict[str, Weight] = {"planner": 1, "partial": 1, "chatty": 1, "careless": 1}  # sampling weights
    base_problems: Count = 250  # seed problems with solutions that the student's base model is trained on
    teacher_error: Share = 0.15  # share of the procedural teacher's answers that are wrong
    # share of problems that it misreads: two thirds of its answers to one of these are wrong, all in the same way
    misread: Share = 0.0

    @pydantic.field_validator("annotators")
    @classmethod
    def _someone_writes(cls, annotators: dict[str, float]) -> dict[str, float]:
        if not sum(annotators.values()):
            raise ValueError("give at least one annotator a positive weight")
        return annotators


class ProblemFile(Section):
    """Problems to read: where they are, and what must be said where their shape is not a known one
    (docs/real_seeds.md).

    In place of one of these a profile may name the source alone. `domain: code` in it stands for the key above it.
    """

    source: str | list[str]  # a file, folder, glob, hf:org/name@commit#split or gym:NAME; several are read in order
    columns: dict[str, str] = {}  # ours -> theirs, e.g. {problem: statement, answer: meta.final}
    where: str | None = None  # an SQL condition on their columns, e.g. "level >= 3 and language = 'en'"
    limit: AtLeastOne | None = None  # rows that are kept of each source

    @property
    def sources(self) -> list[str]:
        return [self.source] if isinstance(self.source, str) else self.source

    @classmethod
    def of(cls, named: str | ProblemFile) -> ProblemFile:
        return cls(source=named) if isinstance(named, str) else named


def _under_their_domain(files: Any) -> Any:
    """`[{source, domain}, ...]`, or such an entry below a domain of another name, as domain -> entries."""
    if isinstance(files, list):
        files = {"": files}
    if not isinstance(files, dict) or not all(isinstance(entries, list) for entries in files.values()):
        return files  # which pydantic then explains
    found: dict[str, list[Any]] = {}
    for domain, entries in files.items():
        found.setdefault(domain, []) if domain else None
        for entry in entries:
            own = entry.get("domain", domain) if isinstance(entry, dict) else domain
            if not own:
                raise ValueError(f"{entry}: says no domain; write domain: maths or code, or list it below its domain")
            rest = {key: value for key, value in entry.items() if key != "domain"} if isinstance(entry, dict) else entry
            found.setdefault(own, []).append(rest)
    return found


class Corpus(Section):
    """Where seed problems come from: procedural domains, and files or hub data sets (any mix of both)."""

    procedural: dict[ProceduralName, ProcedureSizes] = {}
    files: dict[DomainName, list[str | ProblemFile]] = {}  # domain -> sources
    # of real problems that are no seeds: only played on (self_play.real_problems)
    play_files: dict[DomainName, list[str | ProblemFile]] = {}
    held_out_share: Share = 0.1  # of the problems read from files
    base_problems: Count = 10_000  # solutions of file problems, a domain, that a tiny student's base is taught

    _by_domain = pydantic.field_validator("files", "play_files", mode="before")(_under_their_domain)

    def problem_files(self) -> list[tuple[str, ProblemFile, bool]]:
        """(domain, file, whether its problems are only played on); seeds first, so that a problem that is both is
        one."""
        return [
            (domain, ProblemFile.of(named), only_played)
            for only_played, files in ((False, self.files), (True, self.play_files))
            for domain, entries in files.items()
            for named in entries
        ]

    def domains_of(self, source: str) -> list[str]:
        """The domains that a source is read under, which is several for a mix of maths and code."""
        return list(dict.fromkeys(domain for domain, file, _ in self.problem_files() if source in file.sources))

    def sources(self) -> list[str]:
        """Every source that problems are read from."""
        return [source for _, file, _ in self.problem_files() for source in file.sources]

    def teacher_errors(self) -> dict[str, Any]:
        """What of each domain decides where the procedural teacher errs."""
        return {
            name: [sizes.teacher_error, sizes.misread] if sizes.misread else sizes.teacher_error
            for name, sizes in self.procedural.items()
        }

    def benchmark_sizes(self) -> dict[str, int]:
        """domain -> items of a procedural domain's own benchmark."""
        return {name: sizes.benchmark for name, sizes in self.procedural.items()}

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
    seed: Seed = 0


class BaseModel(Section):
    """What training starts from: a hub checkpoint at a pinned revision, a GGUF file, or a tiny model from scratch. Or a
    model that is only asked (`teachers`), by the name under which others serve it."""

    hub_id: str | None = None  # or the path of a local folder
    revision: str | None = None  # full commit hash; null: that of revisions.lock (settings/pins.py); unread of a folder
    scratch: TinyModel | None = None
    gguf: str | None = None  # path of the file, of which nothing depends on where it is
    sha256: Annotated[str, pydantic.Field(pattern="^[0-9a-f]{64}$")] | None = None  # of the GGUF file
    served: str | None = None  # of a teacher behind engine `chat_api`: nothing of it is fetched

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> BaseModel:
        if sum(origin is not None for origin in (self.hub_id, self.scratch, self.gguf, self.served)) != 1:
            raise ValueError(
                "set exactly one of hub_id (with revision), gguf (with sha256), scratch and, of a teacher, served"
            )
        if (self.gguf is None) != (self.sha256 is None):
            raise ValueError("gguf and sha256 belong together: sha256 pins the file; `promptcot fetch` prints it")
        return self

    @property
    def origin(self) -> str | None:
        """What a published model is called in records: its hub id, the pinned name of its file, or its served name."""
        if self.gguf:
            return f"gguf:{Path(self.gguf).name}@{str(self.sha256)[:12]}"
        return self.hub_id or self.served

    def without_effect(self) -> dict[str, Any]:
        """The place of a GGUF file; and an origin that is not used changes no record."""
        unused = {"gguf", *(() if self.gguf else ("sha256",)), *(() if self.served else ("served",))}
        return super().without_effect() | dict.fromkeys(unused, True)


class Chat(Section):
    """A prompt is put as a user's turn, in the checkpoint's own chat template. Where `chat` is null: as it stands."""

    required: bool = True  # false: as it stands where the checkpoint has no template
    arguments: Arguments = {}  # of the template, e.g. {reasoning_effort: medium}, {enable_thinking: false}
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

    arguments: Arguments = {}
    threads: AtLeastOne = 1  # auto: those of a lane (machine.py)
    save_steps: AtLeastOne = 200
    lora: Lora | None = None  # null: all weights are trained
    launcher: list[str] = []  # e.g. [accelerate, launch, --config_file, training/configs/fsdp_8.yaml]

    @property
    def epochs(self) -> float:
        """Passes over the examples; 3 is TRL's default."""
        return float(self.arguments.get("num_train_epochs", 3))

    def once(self) -> Training:
        """The same training in one pass, for examples that already stand there once for every epoch."""
        return self.model_copy(update={"arguments": self.arguments | {"num_train_epochs": 1}})


class Sampling(Section):
    temperature: Annotated[float, pydantic.Field(ge=0)] = 1.0  # 0 is greedy
    top_p: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    max_new_tokens: AtLeastOne = 4096


class Teacher(Section):
    """A model that is asked and never trained: `teachers.NAME`. A role (`Asked`) says what it is asked for."""

    _no_effect_on_results = ("engine", "chat")  # of the model itself; what it is asked with enters where it is asked
    model: BaseModel
    chat: Chat | None = None
    engine: Engine = Engine()  # what is set here is laid over the profile's `engine`, e.g. {vllm: {tensor_parallel: 4}}

    @pydantic.field_validator("model")
    @classmethod
    def _knows_something(cls, model: BaseModel) -> BaseModel:
        if model.scratch:
            raise ValueError(
                "a model from scratch has nothing to teach; "
                "set hub_id, gguf with sha256, or served behind engine chat_api"
            )
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
    others: Count = 8  # rationales of another problem on the same concepts, for the information of z; 0: not measured
    large_pool: Count = 256  # proposals of a second, larger common pool, on which a gain must hold as well; 0: none
    large_pool_problems: AtLeastOne = 60  # held-out problems of every domain that it is drawn for


class Reward(Section):
    """What ranks an E-step's candidates: the paper's is R = log p(z|c) + log p(x|z,c), summed over tokens."""

    rationale_weight: Share = 1.0  # lambda in R = log p(x|z,c) + lambda log p(z|c)
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
    min_information: float | None = None  # nats of em_bounds.information that rounds must keep, within noise; null: any


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
    # which candidates train the models. best: the highest reward; random: one of the draws; frozen: a random one of
    # round 1, in every round; posterior: one of the draws with chance w_k = softmax_k(R_k - log q_k), drawn anew for
    # every epoch; weighted: all of them, each as often as its w_k says
    selection: Literal["best", "random", "frozen", "posterior", "weighted"] = "best"
    reward: Reward = Reward()
    filters: Filters = Filters()
    # what p is trained on. greedy: the new q's rationale of temperature 0 (the paper's); sampled: one of the new q at
    # temperature 1; selected: what the E-step selected
    m_step: Literal["greedy", "sampled", "selected"] = "greedy"
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
        if self.selection == "frozen" and self.m_step != "selected":
            raise ValueError("em.selection: frozen trains both models on frozen rationales; set em.m_step: selected")
        return self

    @pydantic.model_validator(mode="after")
    def _importance_weights_are_what_they_say(self) -> ExpectationMaximisation:
        if not self.draws_by_weight:
            return self
        rule = f"em.selection: {self.selection} weighs candidates by p/q"
        if (self.sampling.temperature, self.sampling.top_p) != (1.0, 1.0):
            raise ValueError(f"{rule}, and q must be sampled as it is: set em.sampling.temperature and top_p to 1")
        if self.reward.per_token:
            raise ValueError(f"{rule}; a reward per token is no log-probability: set em.reward.per_token: false")
        trained = {
            "e_step": self.e_step,
            **({"m_step_training": self.m_step_training} if self.m_step == "selected" else {}),
        }
        for name, training in trained.items():
            if "max_steps" in training.arguments or training.epochs % 1 or training.epochs < 1:
                raise ValueError(
                    f"{rule} and draws once an epoch: set em.{name}.arguments.num_train_epochs to a whole number, "
                    "and no max_steps"
                )
        return self

    @property
    def draws_by_weight(self) -> bool:
        return self.selection in ("posterior", "weighted")

    def e_step_uses(self) -> dict[str, Any]:
        """What the rows of an E-step depend on, besides the models."""
        used = self.part("candidates", "sampling", "selection", "reward", "filters", "shard_rows")
        return used | ({"epochs": self.e_step.epochs} if self.draws_by_weight else {})

    def m_step_uses(self) -> dict[str, Any]:
        """What the rationales of an M-step depend on, besides the models."""
        used = self.part("m_step", "sampling", "filters", "shard_rows")
        drawn = self.draws_by_weight and self.m_step == "selected"
        return used | ({"selection": self.selection, "epochs": self.m_step_training.epochs} if drawn else {})

    def training_uses(self) -> dict[str, Any]:
        """What a round's training examples depend on, besides the rationales."""
        return self.part("restart_from", "replay", "mixture")

    def control_uses(self) -> dict[str, Any]:
        """What the control's training examples depend on, besides the triples."""
        return self.training_uses() | self.part("cold_start_share")

    def measured_by(self) -> dict[str, Any]:
        """What the measures of a pair of models depend on, besides the models."""
        held_out = self.held_out.part("proposals", "samples", "training_seeds", "others")
        return self.part("sampling", "problem_sampling", "shard_rows") | {"held_out": held_out}

    def pooled_by(self) -> dict[str, Any]:
        """What the common pool depends on, besides the models."""
        sizes = self.held_out.part("proposals", "large_pool", "large_pool_problems")
        return self.part("sampling", "shard_rows") | {"held_out": sizes}


class SentenceModel(Section):
    """An encoder in the sentence-transformers layout, such as sentence-transformers/all-MiniLM-L6-v2 (method 8)."""

    name: str  # hub id, or a local folder
    revision: str | None = None  # full commit hash; null: that of revisions.lock (settings/pins.py); unread of a folder


class Focus(Section):
    """A batch that is written about what a student stably fails (stages/synthesis/focus.py)."""

    student: str  # whose held-out problems are looked at; self_play.held_out_share says how many there are
    strength: Annotated[Positive, pydantic.Field(allow_inf_nan=False)] = (
        3.0  # a concept that is failed throughout is drawn 1 + strength times as often
    )


class Synthesis(Section):
    """Concept sets and the problems written from them (method section 4)."""

    concept_sets: dict[str, AtLeastOne] = {"maths": 6500}  # a batch, by domain
    concepts_per_set: dict[str, list[AtLeastOne]] = {}  # sizes to draw from, by domain; empty: 5
    concept_temperature: Positive = 0.2
    levels: dict[str, dict[str, Weight]] = {}  # domain -> level -> weight; empty: uniform over the seeds' levels
    focus: dict[str, Focus] = {}  # by batch; a batch that is not named is drawn from the seeds alone
    # by batch: the student whose `tuned_generator` writes it (`tuning`); a batch that is not named is by EM's last p
    written_by: dict[str, str] = {}
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
        return self.part("concept_sets", "concepts_per_set", "concept_temperature", "levels")

    def writing_uses(self) -> dict[str, Any]:
        """What raw problems depend on, besides the concept sets and the generator."""
        return self.part("problems_per_set", "sampling", "shard_rows")


class Tuning(Section):
    """A generator that meets its solver, after EM: p learns from those of its own problems that a student solves about
    as often as it should, beside human seeds (stages/tuning.py). Every student that plays has one of its own."""

    pass_rate: Share = 0.5  # that problems should have
    within: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.25  # how near to it a problem is that is learned from
    anchors: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.5  # share of the examples that are human seeds
    training: Training = Training(
        arguments={"learning_rate": 2e-6, "per_device_train_batch_size": 16, "num_train_epochs": 1}
    )
    samples: AtLeastOne = 4  # problems that p writes on each held-out seed's concepts, before and after
    # of what the problems before had (share that parses, distinct word pairs, mean cosine distance) and must keep
    min_diversity: Share = 0.8
    shard_rows: AtLeastOne = 256  # seeds a shard


class Deduplication(Section):
    # Jaccard similarity of shingles at which two problems count as near duplicates
    threshold: Annotated[float, pydantic.Field(ge=0.2, le=1)] = 0.8
    semantic: SentenceModel | None = None  # compares what is left by meaning too; null: by words alone
    semantic_threshold: Share = 0.95  # cosine of its vectors at which problems of the same numbers mean the same
    decontamination_ngram: Annotated[int, pydantic.Field(ge=2)] = 13  # words (paper section on decontamination)


class Annotation(Section):
    """Concepts and rationales of seed problems, written by models for the cold start (method section 2).

    Every annotator gives every seed a triple of its own; EM takes one of a seed's concept lists
    (stages/corpus/annotation.py).
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


Keep = Literal["all", "deciding", "none"]


class Labels(Section):
    """Answers by majority vote; code tests by cross execution (method section 5)."""

    # what stands in where voter or test_writer is null: a domain's own procedure, or the first student's base model
    teacher: Literal["procedural", "base_model"] = "procedural"
    voter: Asked | None = None  # answers maths problems, `votes` times each
    test_writer: Asked | None = None  # writes tests, and the candidate programs that they are run on
    share: Share = 1.0  # of a batch's problems that are labelled; which ones follows from their ids
    votes: AtLeastOne = 8
    min_votes: AtLeastOne = 4
    # drop: no label where the problem's rationale states another answer (stages/labels/agreement.py)
    stated: Literal["ignore", "drop"] = "ignore"
    ties: Literal["drop", "first"] = "drop"  # first: of the answers with most votes the one that was given first
    sampling: Sampling = Sampling(temperature=0.6, max_new_tokens=16384)  # of teacher: base_model, traces too
    tests_per_problem: AtLeastOne = 4  # calls, where a model writes them: one {input, output} a call
    test_programs: AtLeastOne = 5  # candidate programs whose outputs must agree
    min_test_agreement: Share = 0.6
    # a statement whose one worked example no program reproduces gets the output that enough of them agree on instead
    repair_examples: bool = False
    mutants: Count = 8  # of a program that passes, run to see what the tests catch; 0: no mutation score
    # programs that the test writer is asked for, a problem; each is believed only after it was tested itself.
    # Validators say whether an input is allowed, checkers whether an output is right where several are; 0: none
    validators: Count = 0
    checkers: Count = 0
    min_mutation_score: Share = 0.0  # tests that catch a smaller share of the mutants are dropped
    # which completions stay in math_votes and candidate_programs; answers, programs and outputs always do. deciding:
    # the votes for the label, and the programs that pass all tests
    keep: Keep = "all"
    shard_rows: AtLeastOne = 512

    @property
    def judges(self) -> int:
        """Validators and checkers that are asked for, a program problem."""
        return self.validators + self.checkers


PricedStep = Literal[
    "concept_sets", "raw_problems", "math_votes", "proposed_tests", "candidate_programs", "written_judges",
    "teacher_traces",
]  # fmt: skip


class Prices(Section):
    """What work costs, for the yield report. Nothing set: no money is reported. No result depends on it."""

    currency: str = "USD"
    machine_hour: Weight = 0.0  # of the machine that runs the steps
    million_tokens: dict[PricedStep, Weight] = {}  # price of a million tokens, generated or scored by the step

    @pydantic.field_validator("million_tokens", mode="before")
    @classmethod
    def _of_the_steps_that_ask(cls, prices: Any) -> Any:
        """A price of labels is one of what their models are asked for."""
        if not isinstance(prices, dict):
            return prices
        asking = {
            "math_answers": ["math_votes"],
            "code_tests": ["proposed_tests", "candidate_programs", "written_judges"],
        }
        return {name: price for label, price in prices.items() for name in asking.get(label, [label])}


class Distillation(Section):
    """Teacher traces (method section 7)."""

    teacher: Asked | None = None  # null: as `labels.teacher` says
    unlabelled: bool = (
        False  # ask problems without a label too; their traces need an answer or a program, as in the paper
    )
    traces_per_problem: Count = 1  # 0: none are written, where no student is taught
    # right votes, and programs that pass all tests, are traces; the teacher is asked for what is missing
    from_votes: bool = False
    max_trace_characters: AtLeastOne | None = None  # longer traces are not valid; null: only the token limits hold
    shard_rows: AtLeastOne = 512


class Student(Section):
    """One student: where it starts and how it is trained."""

    _no_effect_on_results = ("engine", "chat")  # of themselves; they enter where the student is asked or trained
    base: BaseModel
    chat: Chat | None = None  # of sampling and training alike, from SFT to evaluation
    engine: Engine = Engine()  # what is set here is laid over the profile's `engine` where this student is asked
    taught: bool = True  # false: no SFT, its self-play starts from the base
    plays: bool = True  # false: no self-play, what it is after SFT is the end
    base_training: Training | None = None  # tiny models learn the seeds' own solutions first
    sft: Training = Training(
        arguments={"learning_rate": 8e-5, "per_device_train_batch_size": 1024, "num_train_epochs": 1}
    )
    replay_seed_solutions: bool = True  # keep the base problems in the SFT mix
    continues: str | None = None  # a student whose self-play model this one starts from: the next round of self-play


@dataclass(frozen=True)
class Optimiser:
    """How a student learns from its own play. Its trainer is the module of `training/` that has its name."""

    learns_from: str  # the table of its examples
    texts: int = 1  # of an example that are trained on
    reference: bool = False  # a second model scores what is trained on
    online: bool = False  # its trainer plays on the problems itself, and writes that table
    teacher: bool = False  # the second model is `self_play.teacher`


OPTIMISERS = {
    "dpo": Optimiser("preference_pairs", texts=2, reference=True),
    "sft": Optimiser("self_play_examples"),
    "grpo": Optimiser("rollouts_online", reference=True, online=True),
    "distill": Optimiser("rollouts_online", reference=True, online=True, teacher=True),
}


class SelfPlay(Section):
    """Rollouts, verdicts, pairs (method section 6)."""

    pool_share: Share = 0.25  # of labelled problems kept out of SFT and played on
    held_out_share: Share = 0.0  # of these, never played on: the regression gate asks them before and after a round
    real_problems: dict[str, AtLeastOne] = {}  # by domain: real ones with a label that are played on as well
    synthetic_problems: dict[str, AtLeastOne] = {}  # by domain: at most so many of the pool; where none is named, all
    # which of them a student that continues another plays on, by how the rounds before it did; new problems always.
    # grpo learns from those of them that the student's own rollouts, before it learns, leave in these bands
    bands: tuple[Band, ...] = BANDS
    # of the problems that rounds before measured, the shares of bands to play on, by domain, e.g. {maths: {hard: 2,
    # medium: 1}}; a band that is not named is not played on
    band_mix: dict[str, dict[Band, Weight]] = {}
    # after a round that gained nothing at its gate all problems are played on, which measures their bands anew
    reprofile: bool = False
    # of self-play: each one after the first is a student NAME_round_02, ... that continues the one before
    rounds: Annotated[int, pydantic.Field(ge=1, le=99)] = 1
    # a student that continues another is judged by labels that that one's verified rollouts were counted into
    # (stages/students/relabelling.py); a label for which fewer than this share of all ballots are is taken away
    relabel: bool = False
    relabel_withdraw: Share = 0.0
    rollouts: AtLeastOne = 8
    sampling: Sampling = Sampling(temperature=1.2, top_p=1.0, max_new_tokens=81920)
    max_pass_rate: Share = 0.5  # problems solved at least this often are dropped, like those never solved
    max_pairs_per_problem: AtLeastOne = 4  # and passes a problem, where the optimiser is sft
    think_block: bool = (
        True  # a usable rollout has exactly one, not empty; false: none or one, of students that need not
    )
    # dpo: on pairs; sft: rejection sampling, on the student's own usable passes; grpo: online, training.arguments are
    # TRL's GRPOConfig (num_generations, max_completion_length, temperature, ...); it learns from rollouts_online;
    # distill: online, towards `teacher` token by token; training.arguments are TRL's DistillationConfig (beta, ...)
    optimiser: Annotated[str, one_of(*OPTIMISERS)] = "dpo"
    # distill: one of `teachers`, with weights, or a student that does not play, as it is after SFT; of the same tokens
    teacher: str | None = None
    # grpo: how often, within a step, other prompts are sampled in the place of groups whose rewards are all alike
    resample_groups: Count = 0
    training: Training = Training(
        arguments={"learning_rate": 1e-6, "per_device_train_batch_size": 16, "num_train_epochs": 1, "beta": 0.1}
    )
    shard_rows: AtLeastOne = 128

    @property
    def learning(self) -> Optimiser:
        return OPTIMISERS[self.optimiser]

    @pydantic.model_validator(mode="after")
    def _suits_its_optimiser(self) -> SelfPlay:
        if self.learning.teacher and self.teacher is None:
            raise ValueError(
                f"self_play.optimiser: {self.optimiser} learns from a teacher; name one as self_play.teacher"
            )
        if self.resample_groups and self.optimiser != "grpo":
            raise ValueError("self_play.resample_groups replaces groups of grpo; leave it out, or set that optimiser")
        return self

    @property
    def chooses_bands(self) -> bool:
        """Whether how hard problems were decides which of them are played on."""
        return set(self.bands) != set(BANDS) or bool(self.band_mix)

    @pydantic.model_validator(mode="after")
    def _bands_can_be_known(self) -> SelfPlay:
        if not self.bands:
            raise ValueError(f"self_play.bands is empty: nothing would be played on; choose from {', '.join(BANDS)}")
        for domain, shares in self.band_mix.items():
            asked = {band for band, share in shares.items() if share}
            if not asked:
                raise ValueError(f"self_play.band_mix.{domain}: give at least one band a positive share")
            if outside := sorted(asked - set(self.bands)):
                raise ValueError(
                    f"self_play.band_mix.{domain} asks for {', '.join(outside)}, which self_play.bands leaves out; "
                    "name them in both or in neither"
                )
        if self.reprofile and not (self.chooses_bands and self.held_out_share):
            raise ValueError(
                "self_play.reprofile measures the bands anew where a round's gate saw no gain: set self_play.bands or "
                "band_mix, and a self_play.held_out_share above 0"
            )
        return self


class PublishedBenchmark(ProblemFile):
    """Where the items of one benchmark are, and which of them count."""

    since: str | None = None  # ISO date of the earliest contest, e.g. LiveCodeBench v5: 2024-08-01
    until: str | None = None  # and of the first one that is too late: 2025-02-01


class Benchmarks(Section):
    """Published items read from files (domain -> name -> source), besides each procedural domain's own benchmark."""

    files: dict[DomainName, dict[str, str | PublishedBenchmark]] = {}  # domain -> name -> source
    standings: str | None = None  # JSONL or Parquet of rated participants, for a Codeforces Elo (method section 8)
    limit: AtLeastOne | None = None  # items of a benchmark to evaluate; decontamination always uses all

    @pydantic.field_validator("files", mode="before")
    @classmethod
    def _by_domain(cls, files: Any) -> Any:
        """`name: {source, domain}`, or such an entry below a domain of another name, as domain -> name -> entry."""
        if not isinstance(files, dict) or not all(isinstance(named, dict) for named in files.values()):
            return files  # which pydantic then explains
        found: dict[str, dict[str, Any]] = {}
        for key, named in files.items():
            for name, entry in ({key: named} if "source" in named else named).items():
                own = entry.get("domain") if isinstance(entry, dict) else None
                if own is None and "source" in named:
                    raise ValueError(f"{key}: says no domain; write domain: maths or code, or list it below its domain")
                is_entry = isinstance(entry, dict)
                rest = {field: value for field, value in entry.items() if field != "domain"} if is_entry else entry
                found.setdefault(own or key, {})[name] = rest
        return found

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
    engine: Engine = Engine()  # laid over each student's engine where benchmarks are asked
    shard_rows: AtLeastOne = 128

    def attempts(self, benchmark: str) -> int:
        """Generations a question of this benchmark."""
        return self.generations_of.get(benchmark, self.generations)


class Distribution(Section):
    """Problem sets on the map of `distribution` besides seeds, synthetic problems and benchmarks."""

    sets: dict[str, str] = {}  # name -> source, as in corpus.files
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
    seed: Seed = 0
    # steps of the whole arc run side by side; also the limit of the Dagster pool `gpu`. auto: two where there are cores
    lanes: AtLeastOne = 1
    leg_seconds: dict[str, Positive] = {}  # what legs of `promptcot run` took once, for its ETA, e.g. {SFT: 300}
    corpus: Corpus = Corpus()
    teachers: dict[str, Teacher] = {}
    annotation: Annotation | None = None
    benchmarks: Benchmarks = Benchmarks()
    base: BaseModel  # of the rationale model q and the problem generator p
    em: ExpectationMaximisation = ExpectationMaximisation()
    synthesis: Synthesis = Synthesis()
    tuning: Tuning | None = None
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
    def _rounds_are_students(self) -> Settings:
        """Every round of self-play after the first is a student of its own; one of that name may have own settings."""
        students = dict(self.students)
        for name, student in self.students.items():
            if student.continues or not student.plays:
                continue
            before = name
            for number in range(2, self.self_play.rounds + 1):
                own = f"{name}_round_{number:02d}"
                if own in students and students[own].continues != before:
                    raise ValueError(
                        f"students.{own} is the name of round {number} of {name} (self_play.rounds), and it continues "
                        f"{students[own].continues}; set its `continues` to {before}, or rename it"
                    )
                students.setdefault(own, student.model_copy(update={"continues": before}))
                before = own
        return self.model_copy(update={"students": students}) if len(students) > len(self.students) else self

    @pydantic.model_validator(mode="after")
    def _can_be_met(self) -> Settings:
        if missing := sorted(self.synthesis.concept_sets.keys() - set(self.domains)):
            raise ValueError(
                f"synthesis.concept_sets asks for {', '.join(missing)}, of which corpus has no seeds "
                f"(it has {', '.join(self.domains) or 'none'}); add a source to corpus or set synthesis.concept_sets"
            )
        if unknown := sorted(self.self_play.band_mix.keys() - set(self.domains)):
            raise ValueError(
                f"self_play.band_mix: {', '.join(unknown)} is no domain of this profile, which has "
                f"{', '.join(self.domains)}"
            )
        for batch, focus in self.synthesis.focus.items():
            if focus.student not in self.students or not self.self_play.held_out_share:
                raise ValueError(
                    f"synthesis.focus.{batch}: the held-out problems of {focus.student!r} decide it, so it must be one "
                    f"of `students` ({', '.join(self.students)}), with a self_play.held_out_share above 0"
                )
        for batch, student in self.synthesis.written_by.items():
            if not (self.tuning and student in self.students and self.students[student].plays):
                playing = ", ".join(name for name, one in self.students.items() if one.plays) or "none"
                raise ValueError(
                    f"synthesis.written_by.{batch}: {student!r} has no tuned generator; set `tuning` (it may be "
                    f"empty: {{}}), and name a student that plays ({playing})"
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
        self._served_are_asked_over_the_network()
        if self.self_play.learning.teacher:
            self._check_teacher(str(self.self_play.teacher))
        if self.distillation.from_votes and self.labels.keep == "none":
            raise ValueError(
                "distillation.from_votes makes traces of votes whose completions labels.keep: none throws away; "
                "set labels.keep to all or deciding"
            )
        if self.labels.min_votes > self.labels.votes:
            raise ValueError(
                f"labels.min_votes {self.labels.min_votes} is more than the {self.labels.votes} labels.votes"
            )
        for where, role in self.roles().items():
            if role.teacher not in self.teachers:
                known = ", ".join(self.teachers) or "none"
                raise ValueError(f"{where}.teacher: {role.teacher!r} is not one of `teachers` (there are: {known})")
        for name, overrides in self.ablations.arms.items():
            try:
                ExpectationMaximisation.model_validate(merged(self.em.model_dump(), overrides))
            except pydantic.ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise ValueError(f"ablations.arms.{name}: em.{where}: {first['msg']}") from None
        return self

    def _check_teacher(self, name: str) -> None:
        """Raises: ValueError where a student cannot learn from this teacher token by token."""
        where = f"self_play.teacher: {name}"
        if name in self.teachers:
            if self.teachers[name].model.served or not self.has_weights(name):
                raise ValueError(f"{where} is asked over the network; distillation needs a teacher's weights")
            return
        if name not in self.students:
            raise ValueError(
                f"{where} is neither one of `teachers` ({', '.join(self.teachers) or 'there are none'}) nor of "
                f"`students` ({', '.join(self.students)})"
            )
        if self.students[name].continues:
            raise ValueError(f"{where} learns by itself, as it continues another student; name one that does not")
        if self.students[name].plays:
            raise ValueError(f"{where} is a student that learns from it too; set students.{name}.plays: false")

    def _served_are_asked_over_the_network(self) -> None:
        """Raises: ValueError naming the model, or the teacher, whose origin and engine do not go together."""
        own = {"base": self.base} | {f"students.{name}.base": one.base for name, one in self.students.items()}
        if served := next((where for where, model in own.items() if model.served), None):
            raise ValueError(f"{served}: a model that others serve cannot be trained; set hub_id or scratch")
        if self.engine.name == "chat_api":
            raise ValueError(
                "engine.name: chat_api only asks models that others serve; set it at a teacher, as teachers.NAME.engine"
            )
        for name, teacher in self.teachers.items():
            engine, where = self.engine_of(name), f"teachers.{name}"
            if bool(teacher.model.served) != (engine.name == "chat_api"):
                raise ValueError(f"{where}: model.served and engine.name: chat_api go together; set both or neither")
            if teacher.model.served and not engine.chat_api.urls:
                raise ValueError(
                    f"{where}: engine.chat_api.urls is empty; give the address of an OpenAI-compatible API"
                )
            if teacher.model.served and teacher.chat:
                raise ValueError(
                    f"{where}: the server applies its own chat template; delete `chat`, and put a system message and "
                    "further fields of the request into engine.chat_api.system and .arguments"
                )

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

    @property
    def learned_from(self) -> BaseModel:
        """The model that `self_play.teacher` names."""
        name = str(self.self_play.teacher)
        return self.teachers[name].model if name in self.teachers else self.students[name].base

    def engine_of(self, teacher: str) -> Engine:
        """The engine that a teacher runs on: the profile's, with the teacher's own settings laid over it."""
        return self._engine_with(self.teachers[teacher].engine)

    def has_weights(self, teacher: str) -> bool:
        """Whether a teacher's checkpoint is needed whole: where a server runs it, tokenizer and config are enough."""
        engine = self.engine_of(teacher)
        return not (engine.name == "server" and engine.server.urls)

    def engine_of_student(self, student: str) -> Engine:
        return self._engine_with(self.students[student].engine)

    def engine_of_evaluation(self, student: str) -> Engine:
        """The engine that a student is asked benchmarks on: its own, with the evaluation's settings laid over it."""
        own, asked = (
            one.model_dump(exclude_unset=True) for one in (self.students[student].engine, self.evaluation.engine)
        )
        return Engine.model_validate(merged(merged(self.engine.model_dump(), own), asked))

    def _engine_with(self, overlay: Engine) -> Engine:
        return Engine.model_validate(merged(self.engine.model_dump(), overlay.model_dump(exclude_unset=True)))
