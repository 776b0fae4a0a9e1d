"""The first box of Dagster's graph: nothing is computed by it, it says what this is and where to read what came out."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

NAME = "start_here"
TEXT = """**What this is.** PromptCoT 2.0 end to end: seed problems and their concepts, rationales by expectation
maximisation, new problems, their labels, students and their scores. Every box of the graph is a table or a model, every
version keeps what it was made from. This code location works in `{home}` with the profile `{profile}`.

**Read what came out.** Dagster shows *that* something was made. The front page shows *what*: scores with their
intervals, EM's bound beside its control, the funnel, costs, failures, and every number leads to the rows behind it.
It is the file `{page}`, written anew after every run; open it in a browser, it needs no server and no network.

| in a terminal | shows |
|---|---|
| `promptcot read` | the same with search, filters and marks, on this machine alone |
| `promptcot read problems first` | a batch, one problem a page, with votes, traces, verdicts and where it is from |
| `promptcot read em_rationales` | candidate rationales of every seed, their rewards, the winner marked |
| `promptcot show TABLE` | rows in the terminal, whole texts |
| `promptcot trace ROW_ID` | a row, or an answer of a benchmark, back to the seeds |
| `promptcot mark ROW_ID bad --reason TEXT` | nothing: it keeps your judgement as a row of `marks` |

**Make something.** *Jobs* has one for each unit of work; `everything_job` is `promptcot run`. What is made already is
left alone.
"""


def start_here(home: Path, profile: str) -> dg.AssetSpec:
    """An asset that nothing materializes, of one code location."""
    page = home / "reader" / "index.html"
    return dg.AssetSpec(
        NAME,
        description=TEXT.format(home=home, profile=profile, page=page),
        group_name=NAME,
        kinds={"html"},
        metadata={
            "front page": dg.MetadataValue.path(str(page)),
            "read": "promptcot read",
            "home": dg.MetadataValue.path(str(home)),
            "profile": profile,
            "everything_job": dg.MetadataValue.job("everything_job", "promptcot"),
        },
    )
