"""What the reader shows of a training while it runs: the points that a real trainer sends its step."""

import json
from pathlib import Path

import dagster as dg
from starlette.testclient import TestClient

from promptcot_assets.lake.checkpoints import PARTIAL
from promptcot_assets.reports.reader.server import Reader
from promptcot_assets.reports.reader.training import under_way
from tests.small_home import whole_arc
from tests.training.runs import write_spec
from training.child import CHILD_ENVIRONMENT
from training.launch import command


def test_curves_are_there_before_the_model_is(tiny_model: Path, tmp_path: Path) -> None:
    home = whole_arc(tmp_path / "home").path
    assert under_way(home) == []
    work = home / "models" / PARTIAL / "sft_model-0123456789abcdef"
    spec = write_spec(work, tiny_model, arguments={"max_steps": 4}, title="sft_model[tiny]")
    pipes = dg.PipesSubprocessClient(
        context_injector=dg.PipesFileContextInjector(str(work / "context.json")),
        message_reader=dg.PipesFileMessageReader(str(work / "messages.jsonl"), cleanup_file=False),  # as before the end
    )

    @dg.asset
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipes.run(context=context, command=command("sft", spec), env=CHILD_ENVIRONMENT)
        return dg.MaterializeResult()

    assert dg.materialize([model]).success
    with (work / "messages.jsonl").open("a") as messages:
        messages.write('{"method": "report_custom_message", "params": {"payl')  # half of the next one
    (one,) = under_way(home)
    learned = json.loads((work / "model" / "training.json").read_text())["loss_curve"]
    assert (one.title, one.step, one.of) == ("sft_model[tiny]", 4, 4)
    assert [list(point) for point in one.curves["loss"]] == learned and "learning rate" in one.curves
    reader = Reader(home)
    with TestClient(reader.application(), base_url=f"http://127.0.0.1/{reader.token}/") as client:
        shown = client.get("training/index.html")
    assert shown.headers["refresh"] == "5" and "sft_model[tiny]" in shown.text and "<polyline" in shown.text
