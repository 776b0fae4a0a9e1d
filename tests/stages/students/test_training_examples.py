import io
import json
from pathlib import Path

import pytest

from promptcot_assets.inference.chat import ChatTemplate
from promptcot_assets.judging.opening import open_verifier
from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.settings.profile import Chat
from promptcot_assets.stages.students.reward_service import label, serve
from promptcot_assets.stages.students.training_examples import with_template
from tests.chat_models import make_chat_model

PROMPT = "<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return ChatTemplate(make_chat_model(tmp_path_factory.mktemp("chat") / "thinking", "thinking"), Chat())


def test_pairs_and_examples_are_what_the_model_reads_and_writes(thinking: ChatTemplate, tmp_path: Path) -> None:
    pair = {"pair_id": "x", "prompt": "Find it.", "chosen": "<think>\na</think>4", "rejected": "<think>\nb</think>5"}
    begun = PROMPT + "<think>\n"
    assert list(with_template("dpo", [pair], thinking)) == [
        {"prompt": begun, "chosen": "a</think>4", "rejected": "b</think>5"}
    ]
    example = {"prompt": "Find it.", "completion": "<think>a</think>4"}
    assert list(with_template("sft", [example], thinking)) == [{"prompt": begun, "completion": "a</think>4"}]
    plain = ChatTemplate(make_chat_model(tmp_path / "chatml", "chatml"), Chat())
    assert list(with_template("sft", [example], plain)) == [{"prompt": PROMPT, "completion": "<think>a</think>4"}]


def test_an_online_reward_reads_a_completion_after_what_the_template_begins(thinking: ChatTemplate) -> None:
    known = label({"problem_id": "p", "domain": "maths", "answer": "4", "tests": None})
    (row,) = with_template("grpo", [{"prompt": "Find it.", "completion": known}], thinking)
    request = {"labels": [row["completion"], known], "completions": ["so</think>\\boxed{4}"] * 2}
    answers = io.StringIO()
    with open_verifier(Sandbox(workers=1, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        serve(io.StringIO(json.dumps(request) + "\n"), answers, verifier)
    said = json.loads(answers.getvalue())
    assert [one["reward"] for one in said] == [1.0, 0.0]  # without it, the block has no beginning
    assert [one["opened"] for one in said] == ["<think>\n", ""]
