"""How each stage computes: plain functions over rows and engines. No Dagster, no paths, no run ids, no retries."""
