"""Brings the home of the environment to where EM starts, in one process: `python -m tests.browser.cold_start`.

All but `concept_corpus`, which no round needs and a test materializes by hand.
"""

from __future__ import annotations

import dagster as dg

from promptcot_assets.automation.home import open_home
from promptcot_assets.definitions import defs
from promptcot_assets.settings import home, load_settings

ASSETS = (
    "seed_problems", "dropped_seed_rows", "seed_triples", "benchmark_items", "dropped_benchmark_rows", "base_model",
    "cold_rationale_model", "cold_problem_generator", "cold_start_bounds",
)  # fmt: skip


def main() -> None:
    with open_home(home(), load_settings()) as instance:
        defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(name) for name in ASSETS]
        )


if __name__ == "__main__":
    main()
