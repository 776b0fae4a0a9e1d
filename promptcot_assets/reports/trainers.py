"""Labelled problems as other projects' trainers read them, with the reward that our judge gives.

One row a problem with a label; the others are left out and counted. Every row names the problem's id and the exact
version that it is from. What judges a reply is an item of the reward server's protocol (docs/reward_server.md).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from promptcot_assets.domains import domain_named
from promptcot_assets.judging.verifier import ProblemLabels
from promptcot_assets.lake import LakeError, Ref, Row
from promptcot_assets.lake.stream import batched
from promptcot_assets.lineage.history import History
from promptcot_assets.reports.cards import data_card
from promptcot_assets.reports.export import complete_folder, newest_refs
from promptcot_assets.stages.asking import solve_prompt
from promptcot_assets.tables import open_lake

Trainer = Literal["verl", "verifiers", "openrlhf", "nemo-gym"]
TRAINERS: tuple[Trainer, ...] = get_args(Trainer)
TABLES = ("problems", "seed_problems")
LABELS = ("math_answers", "code_tests")
JUDGE = "http://127.0.0.1:8000"
JUDGE_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~%+=-]*)?", re.ASCII)  # it stands in code, and in commands to copy
HOW = {"checker": "checker", "float_tolerance": "float_tolerance", "cpu_s": "cpu_s", "judge_profile": "profile"}
ROWS = 1024  # of a row group
PACKAGE = re.compile(r"[^a-z0-9]+")

_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
VERL = pa.schema([
    ("data_source", pa.string()),
    ("prompt", _TURNS),
    ("ability", pa.string()),
    ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
    ("extra_info", pa.struct([
        ("split", pa.string()), ("index", pa.int64()), ("problem_id", pa.string()), ("version", pa.string()),
        ("judge_url", pa.string()), ("fn_name", pa.string()), ("profile", pa.string()), ("checker", pa.string()),
        ("float_tolerance", pa.float64()), ("cpu_s", pa.float64()),
    ])),
])  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """refs: what the rows are from, labels too; rows: written; left_out: problems without a label."""

    refs: list[Ref]
    rows: int
    left_out: int


@dataclass(frozen=True)
class _Labelled:
    """A problem, what a reply to it is judged by, and where it is from."""

    problem: Row
    item: dict[str, Any]
    version: str

    @property
    def prompt(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": solve_prompt(self.problem)}]

    @property
    def is_maths(self) -> bool:
        return domain_named(self.problem["domain"]).answers == "maths"


def export_for(
    home: Path,
    trainer: Trainer,
    table: str,
    partition: str | None,
    out: Path,
    judge_url: str = JUDGE,
    licence: str | None = None,
) -> Exported:
    """Write the labelled rows of `problems`, or the training seeds with a label, as `trainer` reads them.

    The folder has the data, the files that give the reward, and a card with the commands. It appears when it is whole.
    Raises: LakeError when the table, the partition or its labels are not there, no row has a label, `judge_url` is no
    address, or `out` is in the way.
    """
    if table not in TABLES:
        raise LakeError(f"{table} has no problems with labels; {' and '.join(TABLES)} have")
    if not JUDGE_URL.fullmatch(judge_url):
        raise LakeError(f"{judge_url!a} is no address of a judge, such as {JUDGE}")
    history = History(home)
    refs = newest_refs(history, table, partition)
    lake = open_lake(home)
    labels: list[Ref] = []
    if table == "problems":
        wanted = {ref.partition for ref in refs}
        labels = [ref for name in LABELS for ref in lake.current(name) if ref.partition in wanted]
        if not labels:
            raise LakeError(
                f"{table} of {', '.join(sorted(wanted))} has no labels yet: materialize {' and '.join(LABELS)}"
            )
    counts: Counter[str] = Counter()
    known = ProblemLabels(*([row for ref in labels if ref.asset == name for row in lake.table(ref).to_pylist()]
                            for name in LABELS))  # fmt: skip

    def rows() -> Iterator[_Labelled]:
        for ref in refs:
            for batch in lake.batches(ref):
                for row in batch.to_pylist():
                    one = known.on(row) if table == "problems" else _seed(row)
                    counts["rows" if one else "left out"] += 1
                    if one:
                        yield _Labelled(one, item_of(one), str(ref))

    with complete_folder(out) as part:
        part.mkdir(parents=True)
        name = f"promptcot_{PACKAGE.sub('_', (partition or table).lower()).strip('_') or 'problems'}"
        meanings, told, data = WRITERS[trainer](part, rows(), name, judge_url)
        if not counts["rows"]:
            raise LakeError(f"no row of {', '.join(map(str, refs))} has a label, so there is nothing to train on")
        card = data_card(
            history, refs, meanings, {"configs": [{"config_name": "default", "data_files": data}]}, licence
        )
        (part / "README.md").write_text(f"{card}\n## Training on it with {trainer}\n\n{told}\n")
    return Exported([*refs, *labels], counts["rows"], counts["left out"])


def _seed(row: Row) -> Row | None:
    label = row["answer"] if domain_named(row["domain"]).answers == "maths" else row["tests"]
    return row if row["split"] in ("train", "play") and label is not None else None


def item_of(problem: Row) -> dict[str, Any]:
    """What a reply is judged by, as an item of the reward server without its completion."""
    how = {theirs: problem[ours] for ours, theirs in HOW.items() if problem.get(ours) is not None}
    if domain_named(problem["domain"]).answers == "maths":
        return {"answer": problem["answer"]}
    cases = json.loads(problem["tests"])
    if cases[0].get("fn_name"):
        how["fn_name"] = cases[0]["fn_name"]
    return {"tests": [{"stdin": case["stdin"], "expected": case["expected"]} for case in cases]} | how


def file_of(name: str, judge_url: str = JUDGE) -> str:
    """A file that goes along, with the judge's address in it."""
    text = resources.files("promptcot_assets.reports").joinpath("trainer_files", f"{name}.py.txt").read_text()
    return text.replace(f'"{JUDGE}"', json.dumps(judge_url))


def _served(judge_url: str) -> str:
    place = judge_url.partition("://")[2] or judge_url
    return f"Start the judge first: `python -m sandbox.server http {place}` (JUDGE_URL names another one).\n"


Written = tuple[dict[str, str], str, list[dict[str, str]]]  # columns and meanings, how to train, data files


def _verl(part: Path, rows: Iterable[_Labelled], name: str, judge_url: str) -> Written:
    def made() -> Iterator[dict[str, Any]]:
        for at, one in enumerate(rows):
            truth = one.item["answer"] if one.is_maths else json.dumps(one.item["tests"])
            extra = {"split": "train", "index": at, "problem_id": one.problem["problem_id"], "version": one.version,
                     "judge_url": judge_url}  # fmt: skip
            yield {
                "data_source": f"promptcot/{one.problem['domain']}",
                "prompt": one.prompt,
                "ability": "math" if one.is_maths else "code",
                "reward_model": {"style": "rule", "ground_truth": truth},
                "extra_info": extra | {key: value for key, value in one.item.items() if key not in ("answer", "tests")},
            }

    with pq.ParquetWriter(part / "train.parquet", VERL, compression="zstd") as writer:
        for some in batched(made(), ROWS):
            writer.write_table(pa.Table.from_pylist(some, VERL))
    for file in ("judge_client", "verl_reward"):
        (part / f"{file}.py").write_text(file_of(file, judge_url))
    told = (
        f"{_served(judge_url)}\n```bash\nexport PYTHONPATH=$PWD\n"
        "python -m verl.trainer.main_ppo data.train_files=train.parquet "
        "reward.custom_reward_function.path=verl_reward.py reward.custom_reward_function.name=compute_score\n```"
    )
    meanings = {
        "data_source": "promptcot/DOMAIN", "prompt": "chat of one turn", "ability": "math or code",
        "reward_model": "style rule; ground_truth: the answer, or the tests as JSON",
        "extra_info": "problem_id and the exact version it is from, the judge's address, how outputs are compared",
    }  # fmt: skip
    return meanings, told, [{"split": "train", "path": "train.parquet"}]


def _verifiers(part: Path, rows: Iterable[_Labelled], name: str, judge_url: str) -> Written:
    package = part / name
    package.mkdir()
    _lines(package / "tasks.jsonl", (
        {"problem_id": one.problem["problem_id"], "version": one.version, "prompt": one.prompt[0]["content"],
         "item": one.item} for one in rows))  # fmt: skip
    (package / "__init__.py").write_text(file_of("verifiers_taskset"))
    (package / "judge_client.py").write_text(file_of("judge_client", judge_url))
    project = name.replace("_", "-")
    (part / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n\n'
        f'[project]\nname = "{project}"\n'
        'version = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = ["verifiers>=0.4,<0.5", "promptcot-assets"]\n\n'
        f'[tool.setuptools]\npackages = ["{name}"]\npackage-data = {{"{name}" = ["tasks.jsonl"]}}\n'
    )
    told = (
        "The folder is a package; it imports the sandbox of promptcot-assets, and with `JUDGE_URL` set it asks a "
        f"reward server instead.\n\n```bash\npip install .\neval {name}\n```\n\n"
        f"In a run of prime-rl the task set is `{name}` too."
    )
    meanings = {"problem_id": "the problem", "version": "the exact version it is from", "prompt": "what a model reads",
                "item": "what a reply is judged by (docs/reward_server.md)"}  # fmt: skip
    return meanings, told, [{"split": "train", "path": f"{name}/tasks.jsonl"}]


def _openrlhf(part: Path, rows: Iterable[_Labelled], name: str, judge_url: str) -> Written:
    _lines(part / "train.jsonl", (
        {"input": one.prompt, "label": json.dumps(one.item, ensure_ascii=False), "datasource": one.problem["domain"],
         "problem_id": one.problem["problem_id"], "version": one.version} for one in rows))  # fmt: skip
    (part / "judge_client.py").write_text(file_of("judge_client", judge_url))
    (part / "openrlhf_reward.py").write_text(file_of("openrlhf_reward"))
    told = (
        f"{_served(judge_url)}\n`--data.prompt_dataset train.jsonl --data.input_key input --data.label_key label "
        "--data.apply_chat_template --reward.remote_url openrlhf_reward.py`."
    )
    meanings = {"input": "chat of one turn", "label": "what a reply is judged by, as JSON", "datasource": "the domain",
                "problem_id": "the problem", "version": "the exact version it is from"}  # fmt: skip
    return meanings, told, [{"split": "train", "path": "train.jsonl"}]


def _nemo_gym(part: Path, rows: Iterable[_Labelled], name: str, judge_url: str) -> Written:
    def row(one: _Labelled) -> dict[str, Any]:
        made: dict[str, Any] = {
            "responses_create_params": {"input": one.prompt}, "question": one.problem["problem"],
            "problem_id": one.problem["problem_id"], "version": one.version, "item": one.item,
        }  # fmt: skip
        if one.is_maths:
            return made | {"expected_answer": one.item["answer"]}
        cases = one.item["tests"]
        tests = {"inputs": [case["stdin"] for case in cases], "outputs": [case["expected"] for case in cases],
                 "fn_name": one.item.get("fn_name")}  # fmt: skip
        return made | {"verifier_metadata": {"unit_tests": tests}}

    _lines(part / "train.jsonl", map(row, rows))
    told = (
        "Maths rows are what its mathematical resource servers read (`question`, `expected_answer`), programs what "
        "those for code read (`verifier_metadata.unit_tests`); `item` is the same for this project's judge. Where "
        "`item` has a checker several outputs are right, of which the unit tests know one: judge these rows by `item`."
    )
    meanings = {
        "responses_create_params": "the request: input messages", "question": "problem text",
        "expected_answer": "label of a maths problem", "verifier_metadata": "unit_tests of a program: inputs, outputs",
        "item": "what a reply is judged by", "problem_id": "the problem", "version": "the exact version it is from",
    }  # fmt: skip
    return meanings, told, [{"split": "train", "path": "train.jsonl"}]


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as sink:
        sink.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


WRITERS: dict[Trainer, Callable[[Path, Iterable[_Labelled], str, str], Written]] = {
    "verl": _verl, "verifiers": _verifiers, "openrlhf": _openrlhf, "nemo-gym": _nemo_gym,
}  # fmt: skip
