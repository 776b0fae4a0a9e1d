"""Supervised fine-tuning with TRL's SFTTrainer: `python -m training.sft SPEC.json`.

Trains q on the E-step's winners, p on the M-step's rationales (method, section 3), the student on distilled traces
(section 7). The loss is on the completion only, with its end token. Spec: see `training.child.Spec`; data: parquet with
the string columns `prompt` and `completion`.
"""

import sys

from training.child import started


def main(argv: list[str]) -> None:
    with started(argv, "training.sft") as (spec, report):
        import torch
        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        from training.loop import base_folder, begin, identity, resumable, train, trainer_arguments
        from training.rows import sft_rows

        torch.set_num_threads(spec.threads)
        base = base_folder(spec)
        run = identity(spec, "sft", base)
        if not begin(spec, run, report):
            return
        args = trainer_arguments(SFTConfig, spec, dataset_kwargs={"skip_prepare_dataset": True}, packing=False)
        tokenizer = AutoTokenizer.from_pretrained(base)
        rows = sft_rows(spec.data, tokenizer, args.max_length)
        lengths = [len(ids) for ids in rows.columns["input_ids"]]
        trainer = resumable(SFTTrainer, lengths)(
            model=str(base),
            args=args,
            train_dataset=Dataset.from_dict(rows.columns),
            processing_class=tokenizer,
        )
        train(trainer, spec, run, report, rows, lengths)


if __name__ == "__main__":
    main(sys.argv)
