"""What a profile's whole arc will take, before anything runs: tokens, device hours and disk, table by table.

Rows follow from the settings. Lengths, yields and rates are assumptions of costs.yaml, each with its source there,
until this home has commits of the same table by a model of about the same size: then its own tokens a row and tokens a
second count. An estimate is a size, not a promise: it has no queueing and no restart in it.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from promptcot_assets.doctor.devices import GIB, Device, this_machines
from promptcot_assets.doctor.memory import Phase, phases, runs_elsewhere
from promptcot_assets.doctor.model_sizes import ModelSize, costs, of_config, size_of
from promptcot_assets.domains import domain_named
from promptcot_assets.lake import LakeError
from promptcot_assets.lake.log import Entry
from promptcot_assets.lineage.history import History
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import OPTIMISERS, Asked, BaseModel, Sampling, Student, Training
from promptcot_assets.tables import MODEL_ROLES

MEASURED = "measured in this home"  # hours are then those of the whole machine
SAME_SIZE = 2.0  # a rate was measured on "the same" model up to this factor of active weights
SMALL = 2e9  # weights
LARGEST_ON_CPU = 1e9  # weights used for a token, of a model that a CPU runs in reasonable time
LEAST_SECONDS = 5.0  # of a commit whose rate is believed
TRAINING_BYTES = 16  # a weight: bf16 weight and gradient, float32 master and two moments
ADAPTER_BYTES = 3  # a weight of the frozen base, with room for the adapter's own state
TRAINER_STATE = 12  # bytes a weight of a trainer's checkpoint beside the weights themselves
ONLINE_PASSES = 2  # grpo: the old policy's and the reference's log-probabilities


@dataclass(frozen=True)
class Work:
    """One table's work. Tokens are those sampled, scored or trained on; `prompt` those read before what is sampled.

    hours: of one device; measured ones are the wall clock of the steps that were measured, on all devices they had.
    most: tokens if everything runs to its limit. basis: where length and rate come from.
    """

    asset: str
    model: str
    rows: float
    sampled: float = 0.0
    prompt: float = 0.0
    scored: float = 0.0
    trained: float = 0.0
    most: float = 0.0
    hours: float = 0.0
    stored: float = 0.0  # bytes in the lake
    basis: str = "assumed"

    @property
    def tokens(self) -> float:
        """As a commit counts them."""
        return self.sampled + self.scored + self.trained


@dataclass(frozen=True)
class Need:
    """A model of the profile and the devices it takes. None: its size is not known here."""

    model: str
    used_for: tuple[str, ...]
    size: ModelSize | None
    to_sample: int | None  # devices that hold it
    to_train: int | None  # None: it is not trained
    served: bool = False  # by others' machines


@dataclass(frozen=True)
class Estimate:
    profile: str
    device: Device
    work: list[Work]
    needs: list[Need]
    tables: float  # bytes
    checkpoints: float
    trainer: float  # of the largest training, while it runs
    hub: float  # what is to be downloaded
    phases: list[Phase] = field(default_factory=list)
    at_once: float = 1.0  # devices or cores that work at the same time

    @property
    def wall_hours(self) -> float:
        """On the clock: with the lanes and processes of the profile, if none of them waits for another."""
        own = sum(one.hours for one in self.work if one.basis == MEASURED)
        return own + (self.hours - own) / self.at_once

    @property
    def disk(self) -> float:
        return self.tables + self.checkpoints + self.trainer + self.hub

    @property
    def hours(self) -> float:
        return sum(one.hours for one in self.work)

    def total(self, name: str) -> float:
        """Sum of a column of `work`."""
        return float(sum(getattr(one, name) for one in self.work))


def estimate(settings: Settings, home: Path, device: Device | None = None) -> Estimate:
    """Reads nothing but the lake's logs, config files and the lengths of local seed files; runs a second of products.

    device: what to estimate for; by default this machine, whose home's own rates then count.
    """
    this_machine = device is None
    device = device or this_machines(needs_gpu(settings))
    sizes = {_name(model): size_of(model) for model in _models(settings)}
    rates, served = _Rates.of(settings, device), served_models(settings)
    work = [_timed(one, rates, sizes, served) for one in _merged(_work(settings))]
    work = _measured(work, home, sizes) if this_machine else work
    needs = _needs(settings, device)
    trained = [need.size for need in needs if need.size and need.to_train]
    return Estimate(
        profile=settings.profile,
        device=device,
        work=work,
        needs=needs,
        tables=sum(one.stored for one in work),
        checkpoints=_checkpoints(settings),
        trainer=max((size.total * (TRAINER_STATE + size.weight_bytes) for size in trained), default=0.0),
        hub=sum(need.size.weights for need in needs if need.size and "/" in need.model and need.model not in served),
        phases=list(phases(settings, device)),
        at_once=_at_once(settings, device),
    )


# ---- rows and tokens


def seeds(settings: Settings) -> float:
    """Seed problems that are trained on. Of a source that is no file of this machine, an assumed number."""
    procedural = sum(sizes.seeds for sizes in settings.corpus.procedural.values())
    found = _file_rows(settings)
    return procedural + found * (1 - settings.corpus.held_out_share)


def _held_out(settings: Settings) -> float:
    """Seed problems that bounds are measured on."""
    procedural = sum(sizes.held_out for sizes in settings.corpus.procedural.values())
    return procedural + _file_rows(settings) * settings.corpus.held_out_share


def _file_rows(settings: Settings) -> float:
    files = [file for _, file, only_played in settings.corpus.problem_files() if not only_played]
    return sum(min(_length(source), file.limit or math.inf) for file in files for source in file.sources)


def _length(source: str) -> float:
    """Rows of a JSONL or Parquet file on this machine, or of a generator that says so; else the assumed number."""
    if source.startswith("gym:") and (size := parse_qs(urlsplit(source).query).get("size")) and size[0].isdecimal():
        return float(size[0])
    path = Path(source)
    if not path.is_file():
        return float(costs()["seeds"].get(path.stem, costs()["seeds_of_a_source"]))
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return float(pq.read_metadata(path).num_rows)
    with path.open("rb") as file:
        return float(sum(1 for _ in file))


def _work(settings: Settings) -> Iterator[Work]:
    pair = _name(settings.base)
    trained_seeds = seeds(settings)
    yield from _annotation(settings, trained_seeds)
    yield from _em(settings, pair, trained_seeds)
    raw, kept, labelled = funnel(settings)
    yield _sampled("raw_problems", pair, raw, settings.synthesis.sampling, "text", settings.synthesis.problems_per_set)
    yield Work("problems", "", kept, stored=kept * _stored_tokens(settings.synthesis.sampling, "text"))
    yield from _labels(settings, kept * settings.labels.share)
    teacher = _asked(settings, settings.distillation.teacher)
    traces = (kept if settings.distillation.unlabelled else labelled) * settings.distillation.traces_per_problem
    written = _sampled("teacher_traces", teacher[0], traces, teacher[1], "trace")
    if settings.distillation.from_votes and settings.distillation.traces_per_problem <= settings.labels.min_votes:
        written = Work("teacher_traces", "", traces, stored=written.stored)  # a label has as many right votes
    yield written
    if settings.zero_shot:
        for role in (settings.zero_shot.solver, settings.zero_shot.reference):
            name, sampling = _asked(settings, role)
            yield _sampled("zero_shot_difficulty", name, settings.zero_shot.problems, sampling, "trace")
    for student in settings.students.values():
        yield from _student(settings, student, traces, labelled, teacher[1])
    yield from _tuned(settings, pair, labelled)


def funnel(settings: Settings) -> tuple[float, float, float]:
    """Completions of a synthesis batch, problems that are kept of them, and those that get a label."""
    share = costs()["yields"]
    raw = float(sum(settings.synthesis.concept_sets.values()) * settings.synthesis.problems_per_set)
    kept = raw * share["unique"]
    return raw, kept, kept * settings.labels.share * share["labelled"]


def played(settings: Settings, labelled: float) -> float:
    """Problems that a student plays on: those kept out of SFT, at most as many as are asked for, and real ones."""
    play, sets = settings.self_play, settings.synthesis.concept_sets
    pool = 0.0
    for name, count in sets.items():
        own = labelled * count / sum(sets.values()) * play.pool_share * (1 - play.held_out_share)
        pool += min(own, play.synthetic_problems.get(name, math.inf))
    return pool + sum(play.real_problems.values())


def _annotation(settings: Settings, problems: float) -> Iterator[Work]:
    for role in settings.annotators:
        name, sampling = _asked(settings, role)
        yield _sampled("seed_annotations", name, 2 * problems, sampling, "text")  # concepts, then a rationale


def _em(settings: Settings, pair: str, problems: float) -> Iterator[Work]:
    em = settings.em
    examples = problems * em.cold_start_share * max(1, len(settings.annotators))
    for role in ("cold_rationale_model", "cold_problem_generator"):
        yield _trained(role, pair, examples, em.cold_start)
    held_out = _held_out(settings)
    measured = held_out + em.held_out.training_seeds
    rounds = em.rounds
    yield from _bounds(settings, "cold_start_bounds", pair, measured)
    for name in ("em_bounds", "control_bounds"):
        for work in _bounds(settings, name, pair, measured):
            yield _times(work, rounds)
    candidates = _sampled("em_rationales", pair, rounds * problems * em.candidates, em.sampling, "text", em.candidates)
    yield replace(candidates, scored=2 * candidates.sampled, prompt=2 * candidates.prompt)
    yield _sampled("em_m_step", pair, rounds * problems * (em.m_step != "selected"), em.sampling, "text")
    for role in ("rationale_model", "control_rationale_model"):
        yield _times(_trained(role, pair, problems, em.e_step), rounds)
    for role in ("problem_generator", "control_problem_generator"):
        yield _times(_trained(role, pair, problems, em.m_step_training), rounds)
    pool = _sampled("common_bounds", pair, held_out * em.held_out.proposals, em.sampling, "text", em.held_out.proposals)
    yield replace(pool, scored=2 * pool.sampled * (1 + 2 * rounds))
    grown = min(held_out, em.held_out.large_pool_problems * len(settings.domains))
    more = grown * max(0, em.held_out.large_pool - em.held_out.proposals)
    larger = _sampled("common_bounds", pair, more, em.sampling, "text", em.held_out.large_pool or 1)
    yield replace(larger, scored=9 * larger.sampled)  # under three q; rationale and problem under three p


def _bounds(settings: Settings, asset: str, pair: str, problems: float) -> Iterator[Work]:
    em = settings.em
    count = em.held_out.proposals + em.held_out.others
    proposed = _sampled(asset, pair, problems * count, em.sampling, "text", count)
    yield replace(proposed, scored=3 * proposed.sampled)  # under q when drawn; rationale and problem under p
    yield _sampled(asset, pair, problems * em.held_out.samples, em.problem_sampling, "text")


def _labels(settings: Settings, problems: float) -> Iterator[Work]:
    labels, sets = settings.labels, settings.synthesis.concept_sets
    programs = [name for name in sets if domain_named(name).answers == "program"]
    code = sum(sets[name] for name in programs) / sum(sets.values())
    voter, writer = _asked(settings, labels.voter), _asked(settings, labels.test_writer)
    votes, programs_asked = problems * (1 - code) * labels.votes, problems * code * labels.test_programs
    yield _kept(_sampled("math_votes", voter[0], votes, voter[1], "trace", labels.votes), settings)
    yield _sampled("proposed_tests", writer[0], problems * code * labels.tests_per_problem, writer[1], "trace")
    if labels.judges:
        yield _sampled("written_judges", writer[0], problems * code * labels.judges, writer[1], "trace")
    drawn = _sampled("candidate_programs", writer[0], programs_asked, writer[1], "trace", labels.test_programs)
    yield _kept(drawn, settings)


def _kept(work: Work, settings: Settings) -> Work:
    """As far as `labels.keep` leaves completions in the table; of what decides an assumed share."""
    share = {"all": 1.0, "deciding": costs()["yields"]["labelled"], "none": 0.0}[settings.labels.keep]
    return replace(work, stored=work.stored * share)


def _student(settings: Settings, student: Student, traces: float, labelled: float, taught: Sampling) -> Iterator[Work]:
    name, play, share = _name(student.base), settings.self_play, costs()["yields"]
    starts_anew = student.continues is None
    if student.base_training and starts_anew:
        examples = sum(settings.corpus.base_examples().values())
        yield _trained("student_base", name, examples, student.base_training)
    if student.taught and starts_anew:
        examples = traces * (1 - play.pool_share) * share["valid"]
        length = taught.max_new_tokens * costs()["lengths"]["trace"]
        yield _trained("sft_model", name, examples, student.sft, length)
        yield Work("sft_examples", "", examples, stored=examples * length * costs()["bytes_a_token"])
    if student.plays:
        yield from _self_play(settings, name, labelled)
    stages = 1 + student.taught + student.plays
    yield _sampled("benchmark_generations", name, stages * attempts(settings), settings.evaluation.sampling, "rollout")


def _self_play(settings: Settings, name: str, labelled: float) -> Iterator[Work]:
    play, pool = settings.self_play, played(settings, labelled)
    drawn = _sampled("rollouts", name, pool * play.rollouts, play.sampling, "rollout", play.rollouts)
    attempt = play.sampling.max_new_tokens * costs()["lengths"]["rollout"]
    if play.learning.teacher:
        yield replace(drawn, asset="rollouts_online", trained=drawn.sampled)
        yield Work("rollouts_online", _name(settings.learned_from), 1, scored=drawn.sampled, most=drawn.most)
    elif play.learning.online:
        yield replace(drawn, asset="rollouts_online", scored=ONLINE_PASSES * drawn.sampled, trained=drawn.sampled)
    else:
        yield drawn
        taken = pool * costs()["yields"]["played"] * play.max_pairs_per_problem
        texts = taken * play.learning.texts
        learned = _trained("self_play_model", name, texts, play.training, attempt)
        yield replace(learned, scored=learned.trained if play.learning.reference else 0.0)
        yield Work(play.learning.learns_from, "", taken, stored=texts * attempt * costs()["bytes_a_token"])
    gate = labelled * play.pool_share * play.held_out_share
    yield _sampled("self_play_gate", name, 2 * gate * play.rollouts, play.sampling, "rollout", play.rollouts)


def _tuned(settings: Settings, pair: str, labelled: float) -> Iterator[Work]:
    """A generator for every student that plays, from its own problems that are solved about as often as asked."""
    tuning, solvers = settings.tuning, sum(student.plays for student in settings.students.values())
    if not tuning:
        return
    own = played(settings, labelled) * costs()["yields"]["played"]
    yield _times(_trained("tuned_generator", pair, own / (1 - tuning.anchors), tuning.training), solvers)
    problems = 2 * _held_out(settings) * tuning.samples
    yield _times(_sampled("tuning_samples", pair, problems, settings.em.problem_sampling, "text"), solvers)


def attempts(settings: Settings) -> float:
    """Benchmark generations of one stage of a student."""
    known, limit = costs()["benchmarks"], settings.benchmarks.limit or math.inf
    published = 0.0
    for (_, name), where in settings.benchmarks.published().items():
        local = [source for source in where.sources if Path(source).is_file()]
        items = known.get(name) or (sum(map(_length, local)) if local else costs()["benchmark_items"])
        published += min(items, limit) * settings.evaluation.attempts(name)
    procedural = sum(
        min(sizes.benchmark, limit) * settings.evaluation.attempts(name)
        for name, sizes in settings.corpus.procedural.items()
    )
    return published + procedural


def _asked(settings: Settings, role: Asked | None) -> tuple[str, Sampling]:
    """Who answers, and how: a teacher, the first student's base, or a domain's own procedure, which costs no token."""
    if role:
        return _name(settings.teachers[role.teacher].model), role.sampling
    if settings.labels.teacher == "base_model" and settings.students:
        return _name(settings.students[min(settings.students)].base), settings.labels.sampling
    return "", settings.labels.sampling


def _name(model: BaseModel) -> str:
    if model.origin:
        return model.origin
    size = size_of(model)
    assert size is not None
    return f"from scratch, {size.total / 1e6:.1f}M"


def _sampled(asset: str, model: str, rows: float, sampling: Sampling, kind: str, of_one: int = 1) -> Work:
    """`rows` texts of the assumed length, `of_one` of each prompt, which is read once for all of them.

    Without a model it is a procedure's work: rows and no token.
    """
    lengths = costs()["lengths"]
    if not model:
        return Work(asset, "", rows, stored=rows * lengths["prompt_tokens"], basis="no model")
    tokens = rows * sampling.max_new_tokens * lengths[kind]
    return Work(
        asset,
        model,
        rows,
        sampled=tokens,
        prompt=rows / of_one * min(lengths["prompt_tokens"], sampling.max_new_tokens),
        most=rows * sampling.max_new_tokens,
        stored=tokens * costs()["bytes_a_token"],
    )


def _stored_tokens(sampling: Sampling, kind: str) -> float:
    return float(sampling.max_new_tokens * costs()["lengths"][kind] * costs()["bytes_a_token"])


def _trained(role: str, model: str, examples: float, training: Training, length: float | None = None) -> Work:
    """`examples` seen in every epoch. length: tokens of one; by default what the trainer's max_length lets through."""
    lengths, limit = costs()["lengths"], training.arguments.get("max_length") or math.inf
    each = min(
        lengths["example_tokens"] if length is None else length, limit * (lengths["example"] if length is None else 1)
    )
    epochs = float(training.arguments.get("num_train_epochs", 3))  # 3: the trainers' own default
    most = examples * epochs * (limit if limit < math.inf else each)
    return Work(role, model, 1, trained=examples * epochs * each, most=most)


def _times(work: Work, count: int) -> Work:
    names = ("rows", "sampled", "prompt", "scored", "trained", "most", "stored")
    return replace(work, **{name: getattr(work, name) * count for name in names})


def _merged(every: Iterable[Work]) -> list[Work]:
    """One line a table and model, empty ones left out."""
    groups: dict[tuple[str, str], Work] = {}
    for one in every:
        if one.rows and (one.tokens or one.stored):
            before = groups.get((one.asset, one.model))
            groups[one.asset, one.model] = _plus(before, one) if before else one
    return list(groups.values())


def _plus(one: Work, other: Work) -> Work:
    names = ("rows", "sampled", "prompt", "scored", "trained", "most", "stored")
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})


# ---- time


def needs_gpu(settings: Settings) -> bool:
    """Whether a profile is of models that a CPU does not run in reasonable time: vLLM's, large ones, unknown ones."""
    if settings.engine.name == "vllm" or (settings.engine.name == "ray" and settings.engine.ray.engine == "vllm"):
        return True
    sizes = [size_of(model) for model, purposes in _models(settings).items() if not _served(settings, purposes)]
    return any(size is None or size.active > LARGEST_ON_CPU for size in sizes)


def _served(settings: Settings, purposes: Sequence[str]) -> bool:
    """Whether a model is only asked, and others' machines hold it."""
    roles = settings.roles()
    return all(purpose in roles and runs_elsewhere(settings.engine_of(roles[purpose].teacher)) for purpose in purposes)


def served_models(settings: Settings) -> set[str]:
    """The models of the profile that others' machines hold: they cost no hour here."""
    return {_name(model) for model, purposes in _models(settings).items() if _served(settings, purposes)}


def _models(settings: Settings) -> dict[BaseModel, list[str]]:
    """Every model of the profile and what it is used for."""
    used: dict[str, tuple[BaseModel, list[str]]] = {}

    def use(model: BaseModel, purpose: str) -> None:
        used.setdefault(model.model_dump_json(), (model, []))[1].append(purpose)

    use(settings.base, "q and p")
    for name, student in settings.students.items():
        use(student.base, f"student {name}")
    for where, role in settings.roles().items():
        use(settings.teachers[role.teacher].model, where)
    if settings.self_play.learning.teacher:
        use(settings.learned_from, "self_play.teacher")
    return dict(used.values())


@dataclass(frozen=True)
class _Rates:
    """What the time of a table's work follows from, besides the work: the device and the kind of numbers."""

    device: Device
    sampled_in_bf16: bool
    trained_in_bf16: bool
    running: int  # sequences that are sampled at once, at most

    @classmethod
    def of(cls, settings: Settings, device: Device) -> _Rates:
        training = settings.em.cold_start.arguments
        most = min(costs()["sampling"]["running"], settings.engine.vllm.max_running)
        return cls(device, settings.engine.dtype != "float32", bool(training.get("bf16")), most)


def _timed(work: Work, rates: _Rates, sizes: Mapping[str, ModelSize | None], served: set[str]) -> Work:
    if work.model in served:
        return replace(work, basis="others' machines")
    size, device = sizes.get(work.model), rates.device
    if size is None:
        return work if not work.model else replace(work, hours=math.nan, basis="size of the model not known")
    kind = "cpu" if device.is_cpu else "small" if size.total < SMALL else "experts" if size.has_experts else "dense"
    share, forward = costs()["utilisation"][kind], 2 * size.active
    asked = device.bf16 if rates.sampled_in_bf16 else 1.0
    learned = device.bf16 if rates.trained_in_bf16 else 1.0
    seconds = (
        _sampling_seconds(work, size, rates, share)
        + (work.prompt + work.scored) * forward / share["score"] / device.flops / asked
        + work.trained * 3 * forward / share["train"] / device.flops / learned
    )
    return replace(work, hours=seconds / 3600)


def _sampling_seconds(work: Work, size: ModelSize, rates: _Rates, share: Mapping[str, float]) -> float:
    """Of one device. A small model on an accelerator waits for memory and the engine's steps, not for arithmetic."""
    if "sample" in share:
        gain = rates.device.bf16 if rates.sampled_in_bf16 else 1.0
        return work.sampled * 2 * size.active / share["sample"] / rates.device.flops / gain
    known, length = costs()["sampling"], work.sampled / max(1.0, work.rows)
    room = max(size.weights, 0.5 * rates.device.memory) / max(1.0, length * size.cache_of_a_token)
    running = max(1.0, min(rates.running, room, work.rows))
    read = size.weights + running * length / 2 * size.cache_of_a_token  # texts are half as long on average
    step = known["step_s"] + read / (known["share"] * rates.device.bandwidth)
    return work.sampled / running * step


def _measured(work: list[Work], home: Path, sizes: Mapping[str, ModelSize | None]) -> list[Work]:
    """With this home's own tokens a row and tokens a second, where it has made the table by a model of such a size."""
    try:
        history = History(home)
    except LakeError:
        return work
    known = defaultdict[str, list[Entry]](list)
    for entry in history.newest.values():
        spent = entry.commit.provenance
        if spent.tokens and spent.seconds >= LEAST_SECONDS:
            known[entry.ref.asset].append(entry)
    found = []
    for one in work:
        size = sizes.get(one.model)
        own = [entry for entry in known[one.asset] if size and _alike(size, _made_by(history, entry))]
        found.append(_by_own(one, own) if own else one)
    return found


def _by_own(work: Work, own: list[Entry]) -> Work:
    tokens = sum(entry.commit.provenance.tokens for entry in own)
    seconds = sum(entry.commit.provenance.seconds for entry in own)
    rows = sum(entry.ref.rows for entry in own)
    longer = 1.0 if work.trained or not rows else tokens / rows / (work.tokens / work.rows)
    names = ("sampled", "scored", "stored")
    now = replace(work, **{name: getattr(work, name) * longer for name in names}, basis=MEASURED)
    return replace(now, hours=now.tokens / (tokens / seconds) / 3600)


def _made_by(history: History, entry: Entry) -> ModelSize | None:
    """The size of the model that a commit is, or that wrote its rows."""
    models = [entry] if entry.record.checkpoint else history.inputs(entry)
    folders = [history.home / one.record.checkpoint for one in models if one.ref.asset in MODEL_ROLES]
    for config in (folder / "config.json" for folder in folders):
        if config.is_file():
            return of_config(json.loads(config.read_text()))
    return None


def _alike(size: ModelSize, other: ModelSize | None) -> bool:
    return other is not None and 1 / SAME_SIZE <= other.active / size.active <= SAME_SIZE


# ---- devices and disk


def _at_once(settings: Settings, device: Device) -> float:
    """Devices that work at the same time: a step's own, in every lane, at most all."""
    if device.is_cpu:
        engine = settings.engine.workers * settings.engine.threads if settings.engine.name == "transformers" else 1
        a_step = max(engine, settings.em.cold_start.threads)
        return float(max(1, min(device.count, settings.lanes * a_step)))
    a_step = max(settings.engine.vllm.tensor_parallel, 1)
    return float(max(1, min(max(1, device.count), settings.lanes * a_step)))


def _needs(settings: Settings, device: Device) -> list[Need]:
    found, trainings, longest = [], _trainings(settings), _longest(settings)
    for model, purposes in _models(settings).items():
        name, size = _name(model), size_of(model)
        own = trainings.get(name, {})
        to_sample = to_train = None
        if _served(settings, purposes):
            pass
        elif size and not device.is_cpu:
            to_sample = _devices(size.weights + size.cache_of_a_token * longest[name], 0.9 * device.memory)
            by_one = max((_training_bytes(method, one) for method, one in own.items()), default=0)
            to_train = _devices(size.total * by_one, 0.8 * device.memory) if own else None
        elif size:
            to_sample, to_train = 1, 1 if own else None
        found.append(Need(name, tuple(purposes), size, to_sample, to_train, _served(settings, purposes)))
    return found


def _trainings(settings: Settings) -> dict[str, dict[str, Training]]:
    """Name of every model that is trained -> its trainings by method."""
    found: dict[str, dict[str, Training]] = {_name(settings.base): {"sft": settings.em.cold_start}}
    for student in settings.students.values():
        own = found.setdefault(_name(student.base), {})
        if student.taught:
            own["sft"] = student.sft
        if student.plays:
            own[settings.self_play.optimiser] = settings.self_play.training
    return found


def _training_bytes(method: str, training: Training) -> float:
    """Bytes of a device's memory that a weight takes; a reference model is a second one."""
    return (ADAPTER_BYTES if training.lora else TRAINING_BYTES) + (2 if OPTIMISERS[method].reference else 0)


def _longest(settings: Settings) -> dict[str, int]:
    """Tokens of the longest sequence that each model is asked for, at least one of which its devices must hold."""
    found: dict[str, int] = defaultdict(lambda: settings.em.problem_sampling.max_new_tokens)
    for role in settings.roles().values():
        name = _name(settings.teachers[role.teacher].model)
        found[name] = max(found[name], role.sampling.max_new_tokens)
    for student in settings.students.values():
        name = _name(student.base)
        asked = [settings.evaluation.sampling, *([settings.self_play.sampling] if student.plays else [])]
        found[name] = max(found[name], *(one.max_new_tokens for one in asked))
    return found


def _devices(size: float, room: float) -> int:
    """Devices that hold `size` bytes: a power of two, since heads are split evenly."""
    return 1 << max(0, math.ceil(math.log2(max(1.0, size / room))))


def _checkpoints(settings: Settings) -> float:
    """Bytes of every version that stays: both models of the cold start, of every round and of its control; students;
    tuned generators."""
    pair = size_of(settings.base)
    own = sum(
        (student.taught + student.plays + bool(student.base_training)) * size.weights
        for student in settings.students.values()
        if (size := size_of(student.base))
    )
    tuned = sum(student.plays for student in settings.students.values()) if settings.tuning else 0
    return own + (pair.weights * (2 + 4 * settings.em.rounds + tuned) if pair else 0.0)


# ---- texts


def as_text(found: Estimate) -> str:
    """A table of the work, the models with the devices they take, and the disk."""
    device = found.device
    shown = f"{device.count} x {device.name}"
    where = shown if device.present else f"{shown} (asked for)" if device.asked_for else f"{device.name} (assumed)"
    unit = "core hours" if device.is_cpu else "GPU hours"
    lines = [
        f"estimate of {found.profile} on {where}; assumptions in promptcot_assets/doctor/costs.yaml",
        f"  {'table':<26}{'rows':>12}{'sampled':>10}{'scored':>10}{'trained':>10}{'at most':>10}{unit:>12}  by",
    ]
    for one in found.work:
        amounts = "".join(f"{_short(getattr(one, name)):>10}" for name in ("sampled", "scored", "trained", "most"))
        basis = "" if one.basis == "assumed" else f" ({one.basis})"
        lines.append(f"  {one.asset:<26}{_short(one.rows):>12}{amounts}{_hours(one.hours):>12}  {one.model}{basis}")
    amounts = "".join(f"{_short(found.total(name)):>10}" for name in ("sampled", "scored", "trained", "most"))
    lines.append(f"  {'in all':<26}{'':>12}{amounts}{_hours(found.hours):>12}")
    lines.append(
        f"  wall clock about {_hours(found.wall_hours)} h, {found.at_once:g} of {unit.split()[0]}s at work at once"
    )
    if device.is_cpu:
        rate = f"{device.flops / 1e9:,.0f} GFLOP/s in float32, {device.flops * device.bf16 / 1e9:,.0f} in bfloat16"
        lines.append(f"  one core was measured: {rate}")
    for phase in found.phases:
        lines.append(f"  memory of {phase.name}: {phase_text(phase)}")
    for need in found.needs:
        lines.append(f"  {need.model} ({', '.join(need.used_for)}): {_need(need, found.device)}")
    parts = [("tables", found.tables), ("checkpoints", found.checkpoints), ("a training", found.trainer)]
    parts.append(("hub", found.hub))
    listed = ", ".join(f"{name} {size / GIB:,.2f}" for name, size in parts if size)
    lines.append(f"  disk {found.disk / GIB:,.2f} GiB: {listed}")
    return "\n".join(lines)


def phase_text(phase: Phase) -> str:
    """What a phase holds, whether it fits, and what would make it fit."""
    parts = ", ".join(f"{name} {size / GIB:,.1f}" for name, size in phase.parts.items() if size >= GIB / 20)
    said = f"{phase.bytes / GIB:,.1f} GiB ({parts or 'little'})"
    if not phase.room:
        return said
    if phase.fits:
        return f"{said} of {phase.room / GIB:,.1f}"
    mend = f"; fits with {' or '.join(phase.mends)}" if phase.mends else "; nothing here makes it fit: a smaller model"
    return f"{said}, {phase.room / GIB:,.1f} there: does not fit{mend}"


def as_json(found: Estimate) -> dict[str, Any]:
    """The same, with every number."""
    totals = {name: found.total(name) for name in ("sampled", "scored", "trained", "most")}
    bytes_ = {name: getattr(found, name) for name in ("tables", "checkpoints", "trainer", "hub", "disk")}
    known = {"hours": None if math.isnan(found.hours) else found.hours}
    work = [asdict(one) | {"hours": None if math.isnan(one.hours) else one.hours} for one in found.work]
    return {
        "profile": found.profile,
        "device": asdict(found.device),
        "work": work,
        "needs": [asdict(need) for need in found.needs],
        "memory": [asdict(one) | {"bytes": one.bytes, "fits": one.fits} for one in found.phases],
        "wall_hours": None if math.isnan(found.wall_hours) else found.wall_hours,
        "totals": totals | known,
        "bytes": bytes_,
    }


def _need(need: Need, device: Device) -> str:
    if need.size is None and need.served:
        return "others serve it"
    if need.size is None:
        return "its size is not known here; download its config.json or add it to costs.yaml"
    size = f"{need.size.weights / GIB:,.1f} GiB of weights" if need.size.weights >= GIB / 10 else "small"
    if device.is_cpu:
        return size
    trained = f", {need.to_train} to train it" if need.to_train else ""
    return f"{size}, {need.to_sample} x {device.name} to sample from it{trained}"


def _short(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if unit == 'k' else size):,.{1 if number < 100 * size else 0}f}{unit}"
    return f"{number:,.0f}" if number else ""


def _hours(hours: float) -> str:
    if math.isnan(hours):
        return "?"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:,.2f}" if hours >= 0.005 else "0"
