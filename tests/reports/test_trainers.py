"""Exports as other trainers read them: by their own loaders where these are installed, and rewarded by a real judge."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import pytest
from click.testing import CliRunner

import sandbox
from promptcot_assets.cli import main
from promptcot_assets.lake import LakeError
from promptcot_assets.reports import trainers
from promptcot_assets.reports.trainers import TRAINERS, Trainer, export_for
from promptcot_assets.stages.asking import solve_prompt
from tests.sandbox.test_reward_server import PAGE, SNIPPETS, served
from tests.small_home import Home

Row = dict[str, Any]
CODE = [{"stdin": "1", "expected": "2"}, {"stdin": "5", "expected": "6"}]
PROBLEMS = {
    "maths": {"problem_id": "m1", "domain": "maths", "problem": "3 + 4?"},
    "code": {"problem_id": "c1", "domain": "code", "problem": "print n + 1"},
    "none": {"problem_id": "m2", "domain": "maths", "problem": "unknown?"},
}
RIGHT = {"m1": "so \\boxed{7}", "c1": "```python\nprint(int(input()) + 1)\n```"}
WRONG = {"m1": "so \\boxed{8}", "c1": "```python\nprint(1)\n```"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.commit("problems", list(PROBLEMS.values()), partition="first")
    home.commit("math_answers", [{"label_id": "l1", "problem_id": "m1", "domain": "maths", "answer": "7"},
                                 {"label_id": "l2", "problem_id": "m2", "domain": "maths"}],
                partition="first")  # fmt: skip
    home.commit("code_tests", [{"test_id": f"t{n}", "problem_id": "c1", "domain": "code", **case}
                               for n, case in enumerate(CODE)], partition="first")  # fmt: skip
    return home


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    with served("127.0.0.1:0") as url:
        yield url


def exported(home: Home, trainer: Trainer, out: Path, **more: Any) -> Path:
    made = export_for(home.path, trainer, "problems", "first", out, **more)
    assert (made.rows, made.left_out) == (2, 1)
    assert [ref.asset for ref in made.refs] == ["problems", "math_answers", "code_tests"]
    return out


def module(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    sys.modules.pop("judge_client", None)  # every folder has a client of its own, for a server of its own
    return loaded


def test_verl_reads_its_rows_and_rewards_them(
    home: Home, judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    out = exported(home, "verl", tmp_path / "out", judge_url=judge)
    rows = list(datasets.load_dataset("parquet", data_files=str(out / "train.parquet"), split="train"))
    assert [row["data_source"] for row in rows] == ["promptcot/maths", "promptcot/code"]
    assert [row["prompt"] for row in rows] == [
        [{"role": "user", "content": solve_prompt(PROBLEMS[name])}] for name in ("maths", "code")
    ]
    assert rows[0]["reward_model"] == {"style": "rule", "ground_truth": "7"}
    assert json.loads(rows[1]["reward_model"]["ground_truth"]) == CODE
    assert {row["extra_info"]["version"] for row in rows} == {str(home.refs["problems"])}
    assert {row["extra_info"]["judge_url"] for row in rows} == {judge}
    score = module(out / "verl_reward.py", monkeypatch).compute_score
    for row in rows:
        for replies, reward in ((RIGHT, 1.0), (WRONG, 0.0)):
            reply = replies[row["extra_info"]["problem_id"]]
            truth = row["reward_model"]["ground_truth"]
            assert asyncio.run(score(row["data_source"], reply, truth, row["extra_info"]))["score"] == reward


def test_openrlhf_reads_its_rows_and_rewards_them(
    home: Home, judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = exported(home, "openrlhf", tmp_path / "out", judge_url=judge)
    rows = list(datasets.load_dataset("json", data_files=str(out / "train.jsonl"), split="train"))
    reward = module(out / "openrlhf_reward.py", monkeypatch).reward_func
    prompts = [f"<|im_start|>{row['input'][0]['content']}" for row in rows]
    for replies, expected in ((RIGHT, [1.0, 1.0]), (WRONG, [0.0, 0.0])):
        queries = [
            f"{prompt}{replies[row['problem_id']]}<|im_end|>\n" for prompt, row in zip(prompts, rows, strict=True)
        ]
        assert reward(queries, prompts, [row["label"] for row in rows])["rewards"].tolist() == expected


ANY_LARGER = """import json, sys
told = json.load(sys.stdin)
try:
    right = int(told['output']) > int(told['input'])
except ValueError:
    right = False
print('ok' if right else 'wrong')"""


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_labels_checker_goes_along_and_judges(trainer: Trainer, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.commit("problems", [PROBLEMS["code"]], partition="first")
    home.commit("code_tests", [{"test_id": f"t{n}", "problem_id": "c1", "domain": "code", "checker": ANY_LARGER, **case}
                               for n, case in enumerate(CODE)], partition="first")  # fmt: skip
    out = tmp_path / "out"
    assert export_for(home.path, trainer, "problems", "first", out).rows == 1
    if trainer == "verl":
        (row,) = datasets.load_dataset("parquet", data_files=str(out / "train.parquet"), split="train")
        assert row["extra_info"]["checker"] == ANY_LARGER
        return
    (row,) = [json.loads(line) for file in out.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert (json.loads(row["label"]) if trainer == "openrlhf" else row["item"])["checker"] == ANY_LARGER


def test_a_reply_is_rewarded_by_the_labels_checker(judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    home = Home(tmp_path / "home")
    home.commit("problems", [PROBLEMS["code"]], partition="first")
    test = {"test_id": "t", "problem_id": "c1", "domain": "code", "checker": ANY_LARGER, **CODE[0]}
    home.commit("code_tests", [test], partition="first")
    out = tmp_path / "out"
    export_for(home.path, "verl", "problems", "first", out, judge_url=judge)
    (row,) = datasets.load_dataset("parquet", data_files=str(out / "train.parquet"), split="train")
    score = module(out / "verl_reward.py", monkeypatch).compute_score
    for program, reward in (("print(int(input()) + 40)", 1.0), ("print(int(input()) - 1)", 0.0), ("print('x')", 0.0)):
        truth = row["reward_model"]["ground_truth"]
        reply = f"```python\n{program}\n```"
        assert asyncio.run(score(row["data_source"], reply, truth, row["extra_info"]))["score"] == reward


def test_nemo_gym_rows_are_what_its_resource_servers_read(home: Home, tmp_path: Path) -> None:
    out = exported(home, "nemo-gym", tmp_path / "out")
    maths, code = map(json.loads, (out / "train.jsonl").read_text().splitlines())
    assert maths["responses_create_params"] == {"input": [{"role": "user", "content": solve_prompt(PROBLEMS["maths"])}]}
    assert (maths["question"], maths["expected_answer"]) == ("3 + 4?", "7")
    assert code["verifier_metadata"]["unit_tests"] == {"inputs": ["1", "5"], "outputs": ["2", "6"], "fn_name": None}
    assert maths["version"] == code["version"] == str(home.refs["problems"])


def test_the_verifiers_package_is_one_and_names_what_it_needs(home: Home, tmp_path: Path) -> None:
    import tomllib

    out = exported(home, "verifiers", tmp_path / "out")
    project = tomllib.loads((out / "pyproject.toml").read_text())
    assert project["project"]["name"] == "promptcot-first" and "promptcot-assets" in project["project"]["dependencies"]
    package = out / "promptcot_first"
    assert {one.name for one in package.iterdir()} == {"__init__.py", "judge_client.py", "tasks.jsonl"}
    compile((package / "__init__.py").read_text(), "taskset", "exec")
    tasks = [json.loads(line) for line in (package / "tasks.jsonl").read_text().splitlines()]
    assert [one["item"] for one in tasks] == [{"answer": "7"}, {"tests": CODE}]


@pytest.mark.parametrize("with_server", [False, True])
def test_verifiers_loads_the_package_and_judges_replies(
    with_server: bool, home: Home, judge: str, tmp_path: Path
) -> None:
    """In a process of its own, by the sandbox in it or by the server; where verifiers is installed."""
    pytest.importorskip("verifiers")
    out = exported(home, "verifiers", tmp_path / "out", judge_url=judge)
    code = (
        "import asyncio, json, sys\nfrom types import SimpleNamespace\nimport verifiers.v1 as vf\n"
        "from verifiers.v1.utils.loaders import load_taskset\n"
        "tasks = list(load_taskset(vf.TasksetConfig(id='promptcot_first')))\n"
        "async def all_of(replies):\n"
        "    return [await task.judged(SimpleNamespace(last_reply=replies[task.data.id])) for task in tasks]\n"
        f"print(json.dumps([asyncio.run(all_of(one)) for one in ({RIGHT!r}, {WRONG!r})]))"
    )
    root = Path(sandbox.__file__).parents[1]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{out}:{root}", "HOME": str(tmp_path)}
    environment |= {"JUDGE_URL": judge} if with_server else {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[1.0, 1.0], [0.0, 0.0]]


def test_verls_own_data_set_takes_the_file(home: Home, tmp_path: Path) -> None:
    loader = pytest.importorskip("verl.utils.dataset.rl_dataset")
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer

    from tests.tiny_models import make_tiny_model

    out = exported(home, "verl", tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(tmp_path / "model"))
    config = OmegaConf.create({"max_prompt_length": 4096, "filter_overlong_prompts": False, "cache_dir": str(tmp_path)})
    rows = loader.RLHFDataset(str(out / "train.parquet"), tokenizer, config)
    assert len(rows) == 2 and rows[0]["reward_model"]["ground_truth"] == "7"


def test_the_files_that_go_along_are_those_of_the_page() -> None:
    for name in ("judge_client", "verl_reward"):
        assert trainers.file_of(name) == f"# {name}.py\n{SNIPPETS[name]}"
    assert all(f"--for {name}" in PAGE for name in TRAINERS)


def test_seeds_with_a_label_that_models_may_learn_from(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    seeds = [{"problem_id": f"s{n}", "domain": "maths", "problem": f"{n}?", "answer": answer, "split": split}
             for n, (answer, split) in enumerate([("1", "train"), (None, "train"), ("3", "held_out"),
                                                  ("4", "play")])]  # fmt: skip
    home.commit("seed_problems", seeds)
    made = export_for(home.path, "nemo-gym", "seed_problems", None, tmp_path / "out")
    assert (made.rows, made.left_out) == (2, 2)


def test_a_folder_below_folders_that_are_not_there_is_made(home: Home, tmp_path: Path) -> None:
    export_for(home.path, "verl", "problems", None, tmp_path / "new" / "er")
    assert (tmp_path / "new" / "er" / "train.parquet").exists()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "http://", "http://a b", 'http://a"; rm', "http://a/`x`", "http://a\n"]
)
def test_what_is_no_address_of_a_judge_is_not_written_into_code(home: Home, tmp_path: Path, url: str) -> None:
    with pytest.raises(LakeError, match="is no address of a judge, such as http://127"):
        export_for(home.path, "verl", "problems", None, tmp_path / "out", url)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_says_so(home: Home, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="rollouts has no problems with labels"):
        export_for(home.path, "verl", "rollouts", None, tmp_path / "out")
    home.commit("problems", [PROBLEMS["none"]], partition="second")
    with pytest.raises(LakeError, match="problems of second has no labels yet"):
        export_for(home.path, "verl", "problems", "second", tmp_path / "out")
    home.commit("math_answers", [], partition="second")
    with pytest.raises(LakeError, match="has a label, so there is nothing to train on"):
        export_for(home.path, "verl", "problems", "second", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    home.publish()
    arguments = ["export", "problems", "first", "--for", "verl", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*arguments, "--messages"], env={"PROMPTCOT_HOME": str(home.path)})
    assert done.exit_code == 2 and "--for says what the files are" in done.output
    done = CliRunner().invoke(main, arguments, env={"PROMPTCOT_HOME": str(home.path)})
    assert done.exit_code == 0 and "2 problems with a label, 1 without one are left out" in done.stdout
