"""Group relative policy optimisation with TRL's GRPOTrainer: `python -m training.grpo SPEC.json`.

The online alternative of the self-play step (method, section 6): the student samples `num_generations` completions of
a prompt, each is judged, and what is above its group's mean is made likelier. Spec: see `training.child.Spec`; data:
parquet with the string columns `prompt` and `completion`; the latter is what the judge is given: the label as JSON.
Sampling is TRL's own, on the trainer's random state: a resumed run goes on from that of its checkpoint.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from training.child import SpecError, started

# A process of its own: trainers import nothing of the project. A line in, {"labels": [...], "completions": [...]};
# a line out, the list of rewards: 1, 0, or null where the judge itself failed.
JUDGE = (sys.executable, "-m", "promptcot_assets.stages.reward_service")


class Judge:
    """The judging process. A context manager."""

    def __init__(self, command: Sequence[str] = JUDGE) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):  # of a judge that has ended already, as `rewards` has told
            self._process.stdin.close()  # the judge ends with its input
        self._process.wait()
        self._process.stdout.close()

    def rewards(self, labels: Sequence[str], completions: Sequence[str]) -> list[float | None]:
        """Raises: SpecError when the judge has ended; what it had to say is on standard error."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"labels": list(labels), "completions": list(completions)}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise SpecError("the judge has ended before its time; see its message above") from error
        answer = self._process.stdout.readline()
        if not answer:
            raise SpecError("the judge has ended without an answer; see its message above")
        rewards: list[float | None] = json.loads(answer)
        return rewards


def neutral(rewards: Sequence[float | None], group: int) -> list[float]:
    """Rewards with every null replaced by the mean of its group of `group` neighbours, 0 where all are null.

    A failure of the judge says nothing of a completion, and one at its group's mean is neither learned nor unlearned.
    """
    filled: list[float] = []
    for start in range(0, len(rewards), group):
        own = rewards[start : start + group]
        known = [reward for reward in own if reward is not None]
        mean = sum(known) / len(known) if known else 0.0
        filled += [mean if reward is None else reward for reward in own]
    return filled


def main(argv: list[str]) -> None:
    with started(argv, "training.grpo") as (spec, report):
        import torch
        from accelerate.utils import gather_object
        from transformers import AutoTokenizer
        from trl import GRPOConfig, GRPOTrainer

        from training.folders import base_folder, begin
        from training.loop import resumable, train, trainer_arguments
        from training.lora import peft_config
        from training.rows import grpo_rows

        torch.set_num_threads(spec.threads)
        base = base_folder(spec)
        args = trainer_arguments(GRPOConfig, spec)
        run = begin(spec, "grpo", base, report, args)
        if run is None:
            return
        tokenizer = AutoTokenizer.from_pretrained(base)
        rows, lengths = grpo_rows(spec.data, tokenizer)
        with Judge() as judge:

            def reward(completions: list[str], label: list[str], **_: Any) -> list[float]:
                own = judge.rewards(label, completions)
                every = gather_object(own)  # a group may lie across processes
                first = len(own) * args.process_index
                return neutral(every, args.num_generations)[first : first + len(own)]

            trainer = resumable(GRPOTrainer)(
                model=str(base),
                reward_funcs=reward,
                args=args,
                train_dataset=rows.data,
                processing_class=tokenizer,
                peft_config=peft_config(spec),
            )
            train(trainer, spec, run, report, rows, lengths, base, sampled=True)


if __name__ == "__main__":
    main(sys.argv)
