"""Group relative policy optimisation with TRL's GRPOTrainer: `python -m training.grpo SPEC.json`.

The online alternative of the self-play step (method, section 6): the student samples `num_generations` completions of
a prompt, each is judged, and what is above its group's mean is made likelier. Spec: see `training.child.Spec`; data:
parquet with the string columns `prompt` and `completion`; the latter is what the judge is given: the label as JSON.
Sampling is TRL's own, on the trainer's random state: a resumed run goes on from that of its checkpoint.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

from training.child import SpecError, started
from training.judge import Judge


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


def _cycle(args: Any) -> int:
    """Optimiser steps after which a new generation begins with a new step: where a run can be resumed exactly."""
    a_generation = args.steps_per_generation * args.num_iterations
    accumulated: int = args.gradient_accumulation_steps
    return math.lcm(a_generation, accumulated) // accumulated


def main(argv: list[str]) -> None:
    with started(argv, "training.grpo") as (spec, report):
        import torch
        from accelerate.utils import gather_object
        from transformers import AutoTokenizer
        from trl import GRPOConfig, GRPOTrainer

        from training.dynamic_sampling import resampling
        from training.folders import base_folder, begin
        from training.loop import resumable, train, trainer_arguments
        from training.lora import peft_config
        from training.rollouts import Sampled, end_tokens, judged_rows, opened
        from training.rows import positions, prompt_rows, refuse_too_few

        torch.set_num_threads(spec.threads)
        base = base_folder(spec)
        args = trainer_arguments(GRPOConfig, spec)
        run = begin(spec, "grpo", base, report, args)
        if run is None:
            return
        tokenizer = AutoTokenizer.from_pretrained(base)
        limit = positions(base)
        room = limit and limit - (args.max_completion_length or 1)
        rows, lengths = prompt_rows(spec.data, tokenizer, room)
        refuse_too_few(rows, args.generation_batch_size // args.num_generations)
        shards = opened(spec, args.process_index)
        ends = end_tokens(base, tokenizer)
        if spec.resample_groups and args.world_size > 1:
            raise SpecError("resample_groups needs one process: leave the launcher out, or set it to 0")
        sampled = Sampled(shards)
        with Judge(limits=spec.judged_within) as judge:

            def reward(
                prompts: list[str],
                completions: list[str],
                completion_ids: list[list[int]],
                label: list[str],
                trainer_state: Any,
                **_: Any,
            ) -> list[float]:
                said = judge.verdicts(label, completions)
                own = [one["reward"] for one in said]
                every = gather_object(own)  # a group may lie across processes
                first = len(own) * args.process_index
                texts = zip(prompts, completions, completion_ids, said, strict=True)
                sampled.part(trainer_state.global_step, judged_rows(texts, ends, first, args.num_generations))
                sampled.rewards = neutral(every, args.num_generations)[first : first + len(own)]
                return sampled.rewards

            def settled(learned: Sequence[set[int]]) -> None:
                sampled.settle(learned, args.num_generations)

            kind = resampling(GRPOTrainer, spec.resample_groups, lambda: sampled.rewards, settled)
            trainer = resumable(kind)(
                model=str(base),
                reward_funcs=reward,
                args=args,
                train_dataset=rows.data,
                processing_class=tokenizer,
                peft_config=peft_config(spec),
            )
            train(trainer, spec, run, report, rows, lengths, base, sampled=True, steps_a_cycle=_cycle(args))


if __name__ == "__main__":
    main(sys.argv)
