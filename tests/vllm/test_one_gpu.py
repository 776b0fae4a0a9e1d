"""Profile `one_gpu` as it is meant: its models sampled by vLLM in process, its teacher behind a live `vllm serve`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from promptcot_assets.inference import SamplingParams, open_engine
from promptcot_assets.inference.chat import ChatTemplate
from promptcot_assets.inference.chat_api import write_served
from promptcot_assets.inference.event_loop import EventLoop
from promptcot_assets.inference.model_folder import read_model_folder
from promptcot_assets.inference.serving import VllmServer, serve_arguments
from promptcot_assets.inference.transformers_engine import TransformersEngine
from promptcot_assets.settings.engines import ChatApi, Engine
from promptcot_assets.settings.profile import Chat
from promptcot_assets.tables import open_lake
from tests.assets import arc_runs
from tests.assets.one_gpu_standins import CONCEPTS, make_standins, problem, write_profile
from tests.vllm.conftest import FAST, engine_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KEY = "PROMPTCOT_TEST_TEACHER_KEY"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """vLLM's attention on a CPU wants heads of 32 at least."""
    return make_standins(tmp_path_factory.mktemp("one_gpu"), heads=2)


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path]) -> Iterator[VllmServer]:
    _, teacher = models
    loop = EventLoop("test")
    arguments = serve_arguments(read_model_folder(teacher), engine_settings("server"), 1024)

    async def start() -> VllmServer:
        return VllmServer(arguments | {"served_model_name": "a-teacher"}, threads=1)

    server = loop.run(start())
    os.environ[KEY] = server.key
    yield server
    server.close()
    loop.close()


def test_a_live_server_writes_what_the_model_writes_in_its_template(
    server: VllmServer, models: tuple[Path, Path], tmp_path: Path
) -> None:
    _, teacher = models
    template, prompts = ChatTemplate(teacher, Chat()), [f"{problem(n, n + 1)}\n" for n in range(3, 9)]
    greedy = SamplingParams(temperature=0, max_new_tokens=24)
    with TransformersEngine(teacher) as engine:
        expected = engine.generate([template.turn(one).prompt for one in prompts], greedy)
    write_served(tmp_path / "served", "a-teacher")
    own = ChatApi(urls=[server.url], api_key_variable=KEY, patience_s=400.0)
    with open_engine(Engine(name="chat_api", chat_api=own), tmp_path / "served") as asked:
        drawn = asked.generate(prompts, greedy)
    # a template that begins the thoughts takes their first mark away; what a chat API gives back has it again
    assert [[one.text for one in row] for row in drawn] == [[f"<think>{one.text}" for one in row] for row in expected]
    assert [[one.tokens for one in row] for row in drawn] == [[one.tokens for one in row] for row in expected]


def test_the_whole_graph_runs(server: VllmServer, models: tuple[Path, Path]) -> None:
    base, _ = models
    folder = base.parent
    engine = {"name": "vllm", "dtype": "float32", "max_model_len": 700, "vllm": FAST}
    profile = write_profile(folder, yaml.safe_dump(engine, default_flow_style=True).strip())
    done = arc_runs.run(
        [*arc_runs.PROMPTCOT, "run"], folder / "home", within_s=3000, PROMPTCOT_PROFILE=str(profile),
        MODEL=str(base), TEACHER_URL=server.url, TEACHER_MODEL="a-teacher", TEACHER_KEY=os.environ[KEY],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-4000:]
    lake = open_lake(folder / "home")
    annotated = lake.table(lake.newest("seed_annotations", "served")).to_pylist()
    assert {tuple(row["concepts"] or ()) for row in annotated if row["drop_reason"] is None} == {tuple(CONCEPTS)}
    assert lake.table(lake.newest("problems", "first")).num_rows
    answers = lake.table(lake.newest("math_answers", "first")).to_pylist()
    assert "4" in {row["answer"] for row in answers}
    scores = lake.table(lake.newest("benchmark_scores", "qwen3")).to_pylist()
    assert {row["stage"] for row in scores} == {"base", "sft", "self_play"}
    assert sum(row["infrastructure_failures"] for row in scores) == 0
