"""PromptCoT 2.0 as versioned Dagster assets. The code location is `promptcot_assets.definitions`."""
