"""Failed runs as the front page shows them: newest first, with the first error and what to do, until made good."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from promptcot_assets.automation.failures import newest_failures
from promptcot_assets.automation.home import ARC_TAG, open_home
from promptcot_assets.settings import load_settings


def test_a_failure_is_shown_until_it_is_made_good(tmp_path: Path) -> None:
    broken = [True]

    @dg.asset
    def problems() -> None:
        if broken:
            raise dg.Failure("row 3 of seeds.jsonl has no problem")

    assert newest_failures(tmp_path) == []
    with open_home(tmp_path, load_settings("demo")) as instance:
        job = dg.define_asset_job("some", [problems])
        defs = dg.Definitions(assets=[problems], jobs=[job])

        def run(**tags: str) -> None:
            defs.get_job_def("some").execute_in_process(
                instance=instance, raise_on_error=False, tags=tags, asset_selection=[dg.AssetKey("problems")]
            )

        run(**{ARC_TAG: "batch first"})
        (failed,) = newest_failures(tmp_path)
        assert failed.what == "problems" and failed.error == "row 3 of seeds.jsonl has no problem"
        assert failed.command == "promptcot run"
        run()
        (failed,) = newest_failures(tmp_path)
        assert failed.command == "dagster asset materialize -m promptcot_assets.definitions --select problems"
        broken.clear()
        run()
    assert newest_failures(tmp_path) == []
