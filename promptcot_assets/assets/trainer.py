"""Training as a step's child process: the trainers of `training/`, started and watched under Dagster Pipes."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from dagster._core.errors import DagsterPipesExecutionError

from promptcot_assets.assets.fingerprint import how_asked
from promptcot_assets.assets.messages import WholeLines
from promptcot_assets.assets.step import ROWS_A_TABLE, Step
from promptcot_assets.inference.chat import open_template
from promptcot_assets.lake import Row, Rows
from promptcot_assets.lake.stream import batched
from promptcot_assets.settings.profile import OPTIMISERS, Training
from promptcot_assets.stages.students.training_examples import with_template
from training.child import CHILD_ENVIRONMENT, LAST_WORDS_VARIABLE, STARTED_BY, WRONG_SPEC, SpecError, obituary, own_mark
from training.launch import command

TENSORBOARD = "TENSORBOARD_LOGGING_DIR"  # where transformers writes its event files, `report_to: tensorboard` given
TRAINED_ON = ("prompt", "completion", "chosen", "rejected")  # columns


class TrainerResource(dg.ConfigurableResource):
    """Runs a trainer of `training/` as a child process under Dagster Pipes; it dies with the step."""

    def train(
        self,
        step: Step,
        method: str,
        base: str | Path,
        examples: Rows,
        training: Training,
    ) -> dg.MaterializeResult:
        """Train and commit the checkpoint. A killed run continues from its last trainer checkpoint.

        method: module of `training` (dpo: prompt, chosen, rejected; all others: prompt, completion). base: the step's
        input that training starts from, or a folder. A student's examples are users' turns in its chat template. What
        the run cost is on the page, and in no version: a resumed run's figures are its own only, those of one found
        finished are missing. Without an example the model stays as it was, and the log says so: seeds without concepts
        teach EM nothing, and what needs no EM still runs.
        """
        if not examples:
            step.context.log.warning(
                f"{step.title}: no examples to train on, so it stays as it was; see the drop reasons of its inputs"
            )
            return step.commit_copy(base) if isinstance(base, str) else step.commit_checkpoint(base, None, {})
        figures = self.fit(step, method, base, examples, training)
        return commit_trained(step, base, figures)

    def fit(
        self,
        step: Step,
        method: str,
        base: str | Path,
        examples: Rows,
        training: Training,
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> Mapping[str, float]:
        """Train into `model` of the step's work folder, and commit nothing; what the run cost.

        An online trainer leaves its rollouts in `rollouts` beside it (training/rollouts.py). more: fields of the spec
        (training.child.Spec) that only some trainers have.
        """
        work = step.work_folder()
        if (work / "model").exists():
            return {}
        start = base if isinstance(base, Path) else step.model(base)
        return _run(step, _started(step, method, start, examples, training, work, more), work)


def commit_trained(step: Step, base: str | Path, figures: Mapping[str, float]) -> dg.MaterializeResult:
    """Commit the checkpoint that a training left in the step's work folder."""
    output = step.work_folder() / "model"
    report = json.loads((output / "training.json").read_text())
    shown = {f"training_{name}": value for name, value in figures.items()}
    return step.commit_checkpoint(output, None if isinstance(base, Path) else step.model_id(base), report, **shown)


def _run(step: Step, started: Sequence[str], work: Path) -> Mapping[str, float]:
    """What the run of the command cost. Raises: dagster.Failure with the trainer's own last words."""
    last_words = work / "last_words"
    last_words.unlink(missing_ok=True)  # of an earlier attempt
    environment = CHILD_ENVIRONMENT | {LAST_WORDS_VARIABLE: str(last_words), STARTED_BY: own_mark()}
    if boards := os.environ.get(TENSORBOARD):  # of all trainings; each has a folder of its own in it
        environment[TENSORBOARD] = str(Path(boards) / step.title)
    try:
        run = _pipes(work).run(context=step.context, command=started, env=environment)
    except DagsterPipesExecutionError as error:
        code = int(str(error).rpartition(" ")[2])
        why = f"{step.title}: {obituary(code, last_words)}"
        raise dg.Failure(why, allow_retries=code != WRONG_SPEC) from error
    if not (said := [one for one in run.get_custom_messages() if "figures" in one]):
        raise dg.Failure(f"{step.title}: {' '.join(started)} ended well, but trained nothing; see its output")
    figures: Mapping[str, float] = said[-1]["figures"]
    return figures


def _started(
    step: Step, method: str, base: Path, examples: Rows, training: Training, work: Path, more: Mapping[str, object]
) -> list[str]:
    """The trainer's command, its data and spec written. Raises: dagster.Failure when the launcher is not there."""
    data, spec = work / "examples.parquet", work / "spec.json"
    _, chat = how_asked(step.settings, step.asset, step.partition)
    if template := open_template(base, chat):
        template.check_trainable(method in OPTIMISERS and OPTIMISERS[method].online)
        base = template.ends_turns(work / "base")
        _write_examples(with_template(method, examples, template), data)
    else:
        _write_examples(examples, data)
    spec.write_text(
        json.dumps(
            {
                "base": str(base),
                "data": str(data),
                "output": str(work / "model"),
                "checkpoints": str(work / "trainer"),
                "title": step.title,
                "seed": step.seed,
                "threads": training.threads,
                "save_steps": training.save_steps,
                "lora": training.lora and training.lora.model_dump(),
                "arguments": training.arguments,
                "judged_within": step.settings.sandbox.model_dump_json(),
                "rollouts": str(work / "rollouts"),
                **more,
            }
        )
    )
    try:
        return command(method, spec, training.launcher)
    except SpecError as error:
        raise dg.Failure(f"{step.asset}: {error}", allow_retries=False) from error


def _pipes(work: Path) -> dg.PipesSubprocessClient:
    """Talks through files in the work folder, which goes with the commit: what a kill leaves is cleaned with it."""
    return dg.PipesSubprocessClient(
        context_injector=dg.PipesFileContextInjector(str(work / "context.json")),
        message_reader=WholeLines(work / "messages.jsonl"),
    )


def _write_examples(examples: Iterable[Row], data: Path) -> None:
    """What a trainer reads of the examples, a table at a time."""
    writer: pq.ParquetWriter | None = None
    for batch in batched(examples, ROWS_A_TABLE):
        columns = [name for name in TRAINED_ON if name in batch[0]]
        table = pa.table({name: pa.array([row[name] for row in batch], pa.string()) for name in columns})
        writer = writer or pq.ParquetWriter(data, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()
