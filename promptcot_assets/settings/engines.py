"""Where models and programs run: the engines and the sandbox.

What a section names in `_no_effect_on_results` changes no row, and so no fingerprint.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic

from promptcot_assets.settings.section import Arguments, AtLeastOne, Positive, Section, Weight, one_of

# the engines there are (a test holds this equal to those of inference/factory.py) -> packages without which none opens
PACKAGES: dict[str, tuple[str, ...]] = {
    "transformers": ("torch", "transformers"),
    "vllm": ("vllm",),
    "server": (),
    "chat_api": (),
    "ray": ("ray",),
}


def _can_be_asked(url: str) -> bool:
    """Whether a text is an address that can be asked: of http or https, with a host and a port that there can be."""
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname or "", parts.port
        encoded = host.encode("idna").decode("idna")  # raises as the HTTP client would, later
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(encoded)


class Vllm(Section):
    """vLLM, in this process (engine `vllm`) or as the `vllm serve` that engine `server` starts."""

    _no_effect_on_results = ("gpu_memory_share", "max_running", "kv_cache_gib")
    tensor_parallel: AtLeastOne = 1  # devices a model is split over
    gpu_memory_share: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.9
    kv_cache_gib: Positive | None = None  # for keys and values; null: what the share leaves, on a CPU 1
    max_running: AtLeastOne = 256  # sequences decoded at once (vLLM's max_num_seqs)
    prefix_caching: bool = True
    enforce_eager: bool = False  # no compilation and no CUDA graphs: starts sooner, runs slower
    yarn_factor: Annotated[float, pydantic.Field(gt=1)] | None = None  # stretches the positions a model was made for
    arguments: Arguments = {}  # further engine arguments by vLLM's own names


class Server(Section):
    """OpenAI-compatible endpoints. Without urls, `vllm serve` is started on the checkpoint and ended with the step."""

    _no_effect_on_results = (
        *("urls", "data_parallel", "concurrency", "parallel_calls"),
        *("timeout_s", "patience_s", "start_s", "api_key_variable"),
    )
    urls: list[str] = []  # replicas of one model, e.g. [http://10.0.0.1:8000/v1]
    model: str | None = None  # the name it is served under; null: the checkpoint's folder
    data_parallel: AtLeastOne = 1  # replicas that a server started here runs
    concurrency: AtLeastOne = 256  # requests in flight, over all urls and calls
    parallel_calls: AtLeastOne = 4  # shards side by side, so that the long rows of one do not leave replicas idle
    timeout_s: Positive = 3600.0  # of one request
    patience_s: Positive = 600.0  # how long a request is tried again while endpoints are down or refuse
    start_s: Positive = 1800.0  # how long a server started here may take until it answers
    api_key_variable: str = "OPENAI_API_KEY"  # the environment variable that holds the key, where one is needed

    @pydantic.field_validator("urls")
    @classmethod
    def _without_secrets(cls, urls: list[str]) -> list[str]:
        """An address stands in records and messages, so it may hold no password. The error repeats nothing of it."""
        for at, url in enumerate(urls):
            parts = urlsplit(url)
            if parts.username is not None or parts.password is not None or parts.query:
                raise ValueError(
                    f"address {at} holds a user, a password or a query; give the bare address, and the key in the "
                    "environment variable that api_key_variable names"
                )
            if not _can_be_asked(url):
                raise ValueError(f"address {at} is no http(s) address such as http://10.0.0.1:8000/v1")
        return urls


class ChatApi(Server):
    """OpenAI-compatible chat endpoints of a model that others run and that only writes; the server has its template."""

    system: str | None = None  # the message before the user's
    arguments: Arguments = {}  # further fields of a request, e.g. {reasoning_effort: high}, {chat_template_kwargs: ...}
    token_limit: Annotated[str, one_of("max_tokens", "max_completion_tokens")] = "max_tokens"  # how the API calls it


class RayCluster(Section):
    """Actors of a Ray cluster. Whatever is set here, results are the same."""

    _no_effect_on_results: tuple[str, ...] = ("address", "actors", "attempts", "placement_s")
    address: str | None = None  # of the cluster, e.g. 10.0.0.1:6379; null: RAY_ADDRESS, else a local one
    actors: AtLeastOne | None = None  # null: as many as the cluster has room for
    attempts: AtLeastOne = 3  # a shard whose actor or node was lost is done again, this often in all
    placement_s: Positive = 600.0  # how long the cluster may take to place an actor; an autoscaler starts nodes in it


class Ray(RayCluster):
    """The engine over Ray: one actor a device, each holding an engine of its own."""

    _no_effect_on_results = ("address", "actors", "attempts", "placement_s", "gpus_an_actor", "cpus_an_actor")
    engine: Literal["transformers", "vllm"] = "vllm"  # what every actor holds
    gpus_an_actor: Weight = 1.0  # vllm.tensor_parallel of them; 0: on CPUs
    cpus_an_actor: Weight = 1.0


class Engine(Section):
    """Which engine samples and scores. `workers` never changes a result; the batch sizes may, in the last digits."""

    _no_effect_on_results = ("workers",)
    name: Annotated[str, one_of(*PACKAGES)] = "transformers"
    workers: AtLeastOne = 1  # auto, as `threads`: what a lane has of the cores (machine.py)
    threads: AtLeastOne = 1
    batch_size: AtLeastOne = 256
    score_batch_size: AtLeastOne = 16
    # of the transformers engine: positions of a batch at most, padding counted; null: the sizes alone count
    batch_tokens: AtLeastOne | None = None
    max_model_len: AtLeastOne | None = None
    # auto: the checkpoint's own
    dtype: Annotated[str, one_of("float32", "bfloat16", "float16", "auto")] = "float32"  # or fastest (machine.py)
    vllm: Vllm = Vllm()
    server: Server = Server()
    chat_api: ChatApi = ChatApi()
    ray: Ray = Ray()

    def without_effect(self) -> dict[str, Any]:
        """Sections of engines that are not in use have no effect either."""
        used = {
            "vllm": {"vllm"}, "server": {"server", "vllm"}, "ray": {"ray", self.ray.engine}, "chat_api": {"chat_api"},
        }.get(self.name, set())  # fmt: skip
        unset = set() if self.batch_tokens else {"batch_tokens"}  # what homes of before it was there have recorded
        return super().without_effect() | dict.fromkeys({"vllm", "server", "chat_api", "ray"} - used | unset, True)


class Sandbox(Section):
    _no_effect_on_results = ("workers", "ray")
    workers: AtLeastOne = 2
    ray: RayCluster | None = None  # judge in actors with `workers` CPUs each; {} is the cluster of RAY_ADDRESS
    cpu_s: Positive = 6.0
    wall_s: Positive = 12.0
    source_cpu_factor: Positive = 1.0  # on the time limits that problems bring along: most are meant for C++
    memory_mb: AtLeastOne = 1024
