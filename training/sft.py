"""Supervised fine-tuning with TRL's SFTTrainer: `python -m training.sft SPEC.json`.

Trains q on the E-step's winners, p on the M-step's rationales (method, section 3), the student on distilled traces
(section 7). The loss is on the completion only, with its end token. With `arguments.packing` rows share sequences of
`max_length` tokens. Spec: see `training.child.Spec`; data: parquet with the string columns `prompt` and `completion`.
"""

import sys

from training.child import started


def main(argv: list[str]) -> None:
    with started(argv, "training.sft") as (spec, report):
        import torch
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        from training.folders import base_folder, begin
        from training.loop import resumable, train, trainer_arguments
        from training.lora import peft_config
        from training.memory import refuse_what_cannot_fit
        from training.output_layer import use_on_cpu
        from training.packing import packed, refuse_mixing
        from training.rows import positions, sft_rows

        torch.set_num_threads(spec.threads)
        base = base_folder(spec)
        args = trainer_arguments(SFTConfig, spec, dataset_kwargs={"skip_prepare_dataset": True}, packing_strategy="bfd")
        run = begin(spec, "sft", base, report, args)
        if run is None:
            return
        tokenizer = AutoTokenizer.from_pretrained(base)
        longest = positions(base) if args.max_length is None else args.max_length
        rows = sft_rows(spec.data, tokenizer, longest, spec.checkpoints)
        data, lengths = rows.data, rows.lengths("input_ids")
        if args.packing:
            with args.main_process_first(local=False):  # the others find what it wrote
                data = packed(rows, args.max_length)
            lengths = [sum(inside) for inside in data["seq_lengths"]]
        refuse_what_cannot_fit(spec, args, base, lengths)
        use_on_cpu(args, base)
        trainer = resumable(SFTTrainer, lengths)(
            model=str(base),
            args=args,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=peft_config(spec),
        )
        if args.packing:
            refuse_mixing(trainer.model)
        train(trainer, spec, run, report, rows, lengths, base)


if __name__ == "__main__":
    main(sys.argv)
