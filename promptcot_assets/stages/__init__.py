"""How each stage computes: plain functions over rows and engines. No Dagster, no paths, no run ids, no retries."""

from typing import Any

Row = dict[str, Any]
"""One row of a table, as declared in promptcot_assets.lake.schemas."""
