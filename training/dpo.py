"""Preference optimisation with TRL's DPOTrainer: `python -m training.dpo SPEC.json`.

The self-play step (method, section 6: lr 1e-6, batch 16). The reference is the base model; its log-probabilities are
computed once before the first step, so no second model is held. Spec: see `training.child.Spec`; data: parquet with the
string columns `prompt`, `chosen`, `rejected`, the last two written as SFT's completions are (same leading space, no end
token).
"""

import sys
from pathlib import Path
from typing import Any

from training.child import started


def _shared(columns: dict[str, list[list[int]]], folder: Path, args: Any) -> Any:
    """The columns as a data set on disk, written by the first process; all keep the reference's scores there.

    TRL puts them beside the data set's files; without any, every process would look in a place of its own.
    """
    from datasets import Dataset, load_from_disk

    with args.main_process_first(local=False):
        if not folder.exists():
            unfinished = folder.with_suffix(".partial")
            Dataset.from_dict(columns).save_to_disk(unfinished)
            unfinished.rename(folder)
    return load_from_disk(folder)


def main(argv: list[str]) -> None:
    with started(argv, "training.dpo") as (spec, report):
        import torch
        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import DPOConfig, DPOTrainer

        from training.folders import base_folder, begin
        from training.loop import resumable, train, trainer_arguments
        from training.lora import peft_config
        from training.rows import dpo_rows

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
        rows = dpo_rows(spec.data, tokenizer, args.max_length)
        columns = (rows.columns[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        lengths = [2 * len(prompt) + len(good) + len(bad) for prompt, good, bad in zip(*columns, strict=True)]
        trainer = resumable(Trainer, lengths)(
            model=str(base),
            args=args,
            train_dataset=_shared(rows.columns, spec.checkpoints / "rows", args),
            processing_class=tokenizer,
            peft_config=peft_config(spec),
        )
        train(trainer, spec, run, report, rows, lengths, base)


if __name__ == "__main__":
    main(sys.argv)
