"""Bytes that each phase of a profile holds at once, part by part, whether they fit, and what would make them fit.

A phase is one training or one engine's sampling; phases take turns on a device, as steps do in one lane. Activations of
a layer are those of a block of a Llama-like model with fused attention, counted as in Korthikanti et al. (arXiv
2205.05198, section 4): its two normed inputs, queries, keys, values, attention's output, and what lies inside the gated
MLP. Not counted: kernels' scratch space, fragments of the allocator, beyond what costs.yaml names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from promptcot_assets.doctor.devices import GIB, Device
from promptcot_assets.doctor.model_sizes import BF16, FLOAT32, ModelSize, costs, size_of
from promptcot_assets.settings import Settings
from promptcot_assets.settings.engines import Engine
from promptcot_assets.settings.profile import OPTIMISERS, BaseModel, Training

GPU_SHARE = 0.9  # of an accelerator's memory that a training may count on; vLLM has a setting of its own
EIGHT_BIT = ("8bit",)  # in the name of an optimiser, as transformers and bitsandbytes spell it
SMALLER: dict[str, dict[str, Any]] = {  # what a training may be changed to, and how it is said
    "gradient_checkpointing: true": {"gradient_checkpointing": True},
    "optim: adamw_bnb_8bit": {"optim": "adamw_bnb_8bit"},
}


@dataclass(frozen=True)
class Phase:
    """parts: bytes by what holds them. room: bytes that it may hold; 0: not known. mends: changes; any one fits."""

    name: str  # e.g. "training q and p (sft)"
    model: str
    parts: dict[str, float]
    room: float
    devices: int = 1
    mends: tuple[str, ...] = field(default=())

    @property
    def bytes(self) -> float:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return not self.room or self.bytes <= self.room


def phases(settings: Settings, device: Device) -> Iterator[Phase]:
    """Every training and every engine of the profile that runs on `device`."""
    yield from _sampling(settings, device)
    trained = {"q and p": (settings.base, {"sft": settings.em.cold_start})}
    for name, student in settings.students.items():
        own: dict[str, Training] = {}
        if student.taught:
            own["sft"] = student.sft
        if student.plays:
            own[settings.self_play.optimiser] = settings.self_play.training
        trained[f"student {name}"] = (student.base, own)
    if settings.tuning:
        trained["the tuned generator"] = (settings.base, {"sft": settings.tuning.training})
    for whose, (model, trainings) in trained.items():
        size = size_of(model)
        for method, training in trainings.items():
            if size is not None:
                yield _training_phase(f"training {whose} ({method})", model, size, method, training, settings, device)


# ---- training


def training_parts(size: ModelSize, method: str, training: Training, devices: int = 1) -> dict[str, float]:
    """Bytes of one device. devices: over which weights and states are divided."""
    arguments, known = training.arguments, costs()["training"]
    number = BF16 if arguments.get("bf16") or arguments.get("fp16") else FLOAT32
    moments = known["moments_8bit"] if _is_8bit(arguments) else known["moments"]
    learned = _adapters(size, training.lora.r) if training.lora else size.total
    frozen = size.total * known["weight"] if training.lora else 0.0
    tokens = _tokens(method, arguments)
    return {
        "weights": (frozen + learned * known["weight"]) / devices,
        "gradients": learned * known["gradient"] / devices,
        "optimiser": learned * moments / devices,
        "activations": activations(size, tokens, number, bool(arguments.get("gradient_checkpointing"))),
        "logits": tokens * size.vocab * known["logit" if number == BF16 else "logit_float32"],
        "besides": known["besides_gib"] * GIB,
    }


def activations(size: ModelSize, tokens: float, number: float, checkpointed: bool) -> float:
    """Bytes that the backward pass needs of `tokens`. checkpointed: of one layer at a time, and every layer's input."""
    heads = 2 * size.hidden + 2 * size.kv_heads * size.head_dim  # queries and output, keys and values
    layer = tokens * number * (4 * size.hidden + heads + 4 * size.inner)
    return layer + size.layers * tokens * number * size.hidden if checkpointed else layer * size.layers


def _tokens(method: str, arguments: dict[str, Any]) -> float:
    """Tokens of a micro-batch at its longest. TRL's max_length is 1,024 where none is set."""
    rows = arguments.get("per_device_train_batch_size", 8)
    longest = arguments.get("max_length") or arguments.get("max_completion_length") or 1024
    return float(rows * longest * OPTIMISERS[method].texts)


def _adapters(size: ModelSize, rank: int) -> float:
    """Weights of low-rank matrices beside every linear layer."""
    kv = size.kv_heads * size.head_dim
    attention = 4 * size.hidden + 2 * (size.hidden + kv)
    return float(rank * size.layers * (attention + 3 * (size.hidden + size.inner)))


def _is_8bit(arguments: dict[str, Any]) -> bool:
    return any(part in str(arguments.get("optim", "")) for part in EIGHT_BIT)


def _training_phase(
    name: str, model: BaseModel, size: ModelSize, method: str, training: Training, settings: Settings, device: Device
) -> Phase:
    devices = max(1, device.count) if training.launcher and not device.is_cpu else 1
    room = device.memory / settings.lanes if device.is_cpu else device.memory * GPU_SHARE

    teacher = size_of(settings.learned_from) if OPTIMISERS[method].teacher else None

    def parts_of(one: Training) -> dict[str, float]:
        beside = {"teacher": teacher.total * costs()["training"]["weight"]} if teacher else {}
        return training_parts(size, method, one, devices) | beside

    def needs(one: Training) -> float:
        return sum(parts_of(one).values())

    parts = parts_of(training)
    mends = () if not room or sum(parts.values()) <= room else tuple(_that_fit(training, needs, room, settings, device))
    return Phase(name, _shown(model), parts, room, devices, mends)


def _that_fit(training: Training, needs: Any, room: float, settings: Settings, device: Device) -> Iterator[str]:
    """What makes the training fit: each that does alone; else all of them together, if that does."""
    one_lane = device.is_cpu and settings.lanes > 1 and needs(training) <= device.memory
    if one_lane:
        yield "lanes: 1"
    batch = training.arguments.get("per_device_train_batch_size", 8)
    alone = list(_changes(training, batch))
    found = [said for said, changed in alone if needs(changed) <= room]
    # of smaller batches the largest that fits
    batches = [said for said in found if said.startswith("per_device")]
    yield from batches[:1] + [said for said in found if said not in batches]
    if not found and not one_lane:
        changed = training
        for values in SMALLER.values():
            changed = _with(changed, values)
        changed = _with(changed, {"per_device_train_batch_size": 1})
        together = ", ".join([*SMALLER, "per_device_train_batch_size: 1"])
        if needs(changed) <= room:
            yield f"all of {together}"
        elif training.lora is None and needs(_adapted(changed)) <= room:
            yield f"lora: {{}} with {together}"


def _changes(training: Training, batch: int) -> Iterator[tuple[str, Training]]:
    half = batch // 2
    while half:
        steps = batch * training.arguments.get("gradient_accumulation_steps", 1) // half
        said = f"per_device_train_batch_size: {half} with gradient_accumulation_steps: {steps}"
        yield said, _with(training, {"per_device_train_batch_size": half})
        half //= 2
    for said, values in SMALLER.items():
        yield said, _with(training, values)
    if training.lora is None:
        yield "lora: {}", _adapted(training)


def _with(training: Training, values: dict[str, Any]) -> Training:
    return training.model_copy(update={"arguments": training.arguments | values})


def _adapted(training: Training) -> Training:
    return Training.model_validate(training.model_dump() | {"lora": {}})


# ---- sampling


def _sampling(settings: Settings, device: Device) -> Iterator[Phase]:
    """Of every model that an engine holds on the device: its weights, and keys and values of what runs at once."""
    longest = settings.em.problem_sampling.max_new_tokens
    asked = [("sampling from q and p", settings.base, settings.engine, longest)]
    for name, student in settings.students.items():
        most = max(
            settings.evaluation.sampling.max_new_tokens,
            settings.self_play.sampling.max_new_tokens if student.plays else 0,
        )
        asked.append((f"sampling from student {name}", student.base, settings.engine_of_student(name), most))
    for where, role in settings.roles().items():
        teacher = settings.teachers[role.teacher]
        limit = role.sampling.max_new_tokens
        asked.append((f"sampling for {where}", teacher.model, settings.engine_of(role.teacher), limit))
    for name, model, engine, new_tokens in asked:
        size = size_of(model)
        if size is not None and not runs_elsewhere(engine):
            yield _sampling_phase(name, model, size, engine, new_tokens, settings, device)


def runs_elsewhere(engine: Engine) -> bool:
    """Whether others' machines hold the model that this engine asks."""
    return engine.name == "chat_api" or bool(engine.server.urls if engine.name == "server" else
                                             engine.name == "ray" and engine.ray.address)  # fmt: skip


def _sampling_phase(
    name: str, model: BaseModel, size: ModelSize, engine: Engine, new_tokens: int, settings: Settings, device: Device
) -> Phase:
    number = FLOAT32 if engine.dtype == "float32" else BF16
    context = engine.max_model_len or new_tokens + costs()["lengths"]["prompt_tokens"]
    of_a_text = size.cache_of_a_token * number / BF16 * context
    weights = size.total * min(number, size.weight_bytes) if engine.dtype == "auto" else size.total * number
    if engine.name == "transformers":
        running, room = engine.batch_size, device.memory / settings.lanes / (engine.workers if device.is_cpu else 1)
        devices = 1
    else:  # vLLM puts off what does not fit, so that one text has to
        running, devices = 1, engine.vllm.tensor_parallel
        room = device.memory * (GPU_SHARE if device.is_cpu else engine.vllm.gpu_memory_share)
    parts = {
        "weights": weights / devices,
        "keys and values": running * of_a_text / devices,
        "logits": running * size.vocab * FLOAT32,
        "besides": costs()["training"]["besides_gib"] * GIB,
    }
    mends: tuple[str, ...] = ()
    if room and sum(parts.values()) > room:
        fitting = [count for count in (running >> by for by in range(1, running.bit_length())) if count and
                   parts["weights"] + parts["besides"] + count / running * (parts["keys and values"] + parts["logits"])
                   <= room]  # fmt: skip
        left = room - parts["weights"] - parts["besides"] - parts["logits"]
        shorter = int(left / max(1.0, of_a_text / context) * devices)
        mends = (
            *([f"engine.batch_size: {fitting[0]}"] if fitting and engine.name == "transformers" else []),
            *([f"engine.max_model_len: {shorter}"] if running == 1 and shorter > 0 else []),
            *(["engine.dtype: bfloat16"] if number == FLOAT32 else []),
            *([] if device.is_cpu else ["more devices (engine.vllm.tensor_parallel)"]),
        )
    return Phase(name, _shown(model), parts, room, devices, mends)


def _shown(model: BaseModel) -> str:
    return model.origin or "from scratch"
