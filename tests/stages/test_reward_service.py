import io
import json

from promptcot_assets.settings.engines import Sandbox
from promptcot_assets.stages.reward_service import label, serve
from promptcot_assets.stages.verification import Verifier


def test_a_usable_pass_is_rewarded_and_nothing_else() -> None:
    maths = label({"domain": "maths", "answer": "4", "tests": None, "problem": "2 + 2?"})
    asked = [r"<think>so</think>\boxed{4}", r"\boxed{4}", r"<think>so</think>\boxed{5}", "<think>"]
    request = json.dumps({"labels": [maths] * len(asked), "completions": asked}) + "\n"
    answers = io.StringIO()
    with Verifier.open(Sandbox(workers=1, cpu_s=1.0, wall_s=4.0, memory_mb=256)) as verifier:
        serve(io.StringIO(request + request), answers, verifier)
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [[1.0, 0.0, 0.0, 0.0]] * 2
