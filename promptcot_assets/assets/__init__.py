"""What exists: one file a stage, in the order the data flows. An asset reads, calls a stage, commits, describes."""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.PreviewWarning)  # partitioned asset checks, new in 1.13
