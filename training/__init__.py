"""Trainers, each a process of its own: `python -m training.sft SPEC.json`, `python -m training.dpo SPEC.json`.

They import nothing of `promptcot_assets`: a trainer gets one JSON spec and files, and leaves one model folder.
"""
