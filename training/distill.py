"""On-policy distillation with TRL's DistillationTrainer: `python -m training.distill SPEC.json`.

An online alternative of the self-play step (arXiv 2306.13649): the student samples a completion of each prompt, and at
each of its tokens is moved towards what the teacher would write next. `beta` says how the two are compared: 1, the
default, is the reverse KL divergence, 0 the forward one, between them the generalised Jensen-Shannon divergence.
`spec.teacher` is the folder of a model with the student's vocabulary. Completions are judged as GRPO's are, and nothing
is learned from the verdicts: they say in the rollouts' table what was learned on. Spec and data are those of
`training.grpo`.
"""

import sys
from pathlib import Path
from typing import Any

from training.child import SpecError, started
from training.judge import Judge
from training.rollouts import Shards, judged_rows


def recording(trainer: type, judge: Judge, shards: Shards, ends: set[int]) -> type:
    """`trainer` (TRL's DistillationTrainer) that writes down what it samples, judged."""

    class Recording(trainer):
        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
            masks = batch["completion_mask"].bool()
            ids = [row[mask].tolist() for row, mask in zip(batch["completion_ids"], masks, strict=True)]
            texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)
            said = judge.verdicts([one["label"] for one in inputs], texts)
            sampled = zip([one["prompt"] for one in inputs], texts, ids, said, strict=True)
            first = len(inputs) * self.args.process_index
            shards.write(self.state.global_step, judged_rows(sampled, ends, first))
            return batch

    return Recording


def teacher_folder(teacher: str | None, tokenizer: Any) -> Path:
    """Raises: SpecError when there is no such model, or when its tokens are not the student's."""
    from transformers import AutoTokenizer

    if teacher is None or not (Path(teacher) / "config.json").is_file():
        raise SpecError(f"teacher: {teacher} is no model folder (with a config.json), and distillation needs one")
    theirs, own = AutoTokenizer.from_pretrained(teacher).get_vocab(), tokenizer.get_vocab()
    if other := sorted(own.items() ^ theirs.items(), key=lambda token: (token[1], token[0])):
        text, number = other[0]
        raise SpecError(
            f"teacher: {teacher} has another vocabulary than the student (the first of {len(other)} differences is "
            f"{text!r} as {number}); the two are compared token by token: name a teacher of the student's family"
        )
    return Path(teacher)


def main(argv: list[str]) -> None:
    with started(argv, "training.distill") as (spec, report):
        import torch
        from transformers import AutoTokenizer
        from trl import DistillationConfig, DistillationTrainer

        from training.folders import base_folder, begin
        from training.loop import resumable, rows_a_step, train, trainer_arguments
        from training.lora import peft_config
        from training.rollouts import end_tokens, opened
        from training.rows import positions, prompt_rows, refuse_too_few

        torch.set_num_threads(spec.threads)
        base = base_folder(spec)
        args = trainer_arguments(DistillationConfig, spec)
        tokenizer = AutoTokenizer.from_pretrained(base)
        teacher = teacher_folder(spec.teacher, tokenizer)
        run = begin(spec, "distill", base, report, args)
        if run is None:
            return
        limits = [limit for limit in (positions(base), positions(teacher)) if limit]
        room = min(limits) - (args.max_completion_length or 1) if limits else None
        rows, lengths = prompt_rows(spec.data, tokenizer, room)
        refuse_too_few(rows, rows_a_step(args))
        shards = opened(spec, args.process_index)
        with Judge(limits=spec.judged_within) as judge:
            kind = recording(DistillationTrainer, judge, shards, end_tokens(base, tokenizer))
            try:
                trainer = resumable(kind)(
                    model=str(base),
                    teacher_model=str(teacher),
                    args=args,
                    train_dataset=rows.data,
                    processing_class=tokenizer,
                    peft_config=peft_config(spec),
                )
            except ValueError as error:  # TRL's own checks of both models, and peft's of an adapter
                raise SpecError(str(error)) from error
            train(trainer, spec, run, report, rows, lengths, base, sampled=True)


if __name__ == "__main__":
    main(sys.argv)
