"""Preference optimisation with TRL's DPOTrainer: `python -m training.dpo SPEC.json`.

The self-play step (method, section 6: lr 1e-6, batch 16). The reference is the base model; its log-probabilities are
computed once before the first step, so no second model is held. Spec: see `training.child.Spec`; data: parquet with the
string columns `prompt`, `chosen`, `rejected`, the last two written as SFT's completions are (same leading space, no end
token).
"""

import sys
from typing import Any

from training.child import started


def main(argv: list[str]) -> None:
    with started(argv, "training.dpo") as (spec, report):
        import torch
        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import DPOConfig, DPOTrainer

        from training.folders import base_folder, begin
        from training.loop import resumable, train, trainer_arguments
        from training.lora import peft_config
        from training.memory import refuse_what_cannot_fit
        from training.output_layer import use_on_cpu
        from training.rows import dpo_rows, pair_positions, positions

        class Trainer(DPOTrainer):
            """Takes token rows as they come: TRL tokenizes prompt + completion joined, sampling and scoring do not."""

            def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
                return dataset

        torch.set_num_threads(spec.threads)
        base = base_folder(spec)
        args = trainer_arguments(DPOConfig, spec, precompute_ref_log_probs=True)
        run = begin(spec, "dpo", base, report, args)
        if run is None:
            return
        tokenizer = AutoTokenizer.from_pretrained(base)
        # TRL keeps the reference's scores beside the rows' file, where every process finds them
        longest = positions(base) if args.max_length is None else args.max_length
        rows = dpo_rows(spec.data, tokenizer, longest, spec.checkpoints)
        lengths = rows.lengths("prompt_ids", "chosen_ids", "prompt_ids", "rejected_ids")
        refuse_what_cannot_fit(spec, args, base, pair_positions(rows))
        use_on_cpu(args, base)
        trainer = resumable(Trainer, lengths)(
            model=str(base),
            args=args,
            train_dataset=rows.data,
            processing_class=tokenizer,
            peft_config=peft_config(spec),
        )
        train(trainer, spec, run, report, rows, lengths, base)


if __name__ == "__main__":
    main(sys.argv)
