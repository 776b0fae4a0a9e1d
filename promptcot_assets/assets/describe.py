"""How assets, rows and plots look in the Dagster UI. Values stay small: they live in the event log.

A page answers a reader's questions in their order: what is in it and where to read it, how good it is, what fell, what
it cost, what it was made from and with which settings, what the names mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from promptcot_assets.tables import TABLES
from promptcot_assets.tables.reading import TEXTS

SAMPLE_TEXT, WHOLE_TEXT = 160, 2_000  # characters of a text in the sample, and in its whole rows
MOST_TEXTS, COLUMNS = 4, 3  # of a sample: a page is narrow
DIGITS = 4  # of a number on a page
EXACT_NUMBER = 2**53  # a browser reads numbers as doubles, which round integers beyond it: a seed has 63 bits
COLUMN_TYPES = {
    "int64": "int", "double": "float", "bool": "bool",
    "list<item: string>": "array<string>", "list<item: int64>": "array<int>",
}  # fmt: skip
KINDS_OF_A_TABLE = {"deltalake", "parquet"}
KINDS_OF_A_MODEL = {"pytorch", "huggingface"}
LEGEND = "what the names mean"
FIRST = ("dagster/row_count", "read", "sample", "whole rows")
LAST = (
    "dropped", "tokens", "seconds", "sampled_tokens_per_second", "scored_tokens_per_second", "padded_share",
    "shared_prompt_share", "device_seconds", "inputs", "exact lineage", "exact versions behind it", "checkpoint",
    "profile", "settings", "ref", LEGEND,
)  # fmt: skip
# What the names on a page mean; a measure of the bounds is explained by its column.
NAMES = {
    "read": "the command that opens these rows as pages, with search and filters",
    "sample": "some rows of every kind, the texts first; of a small table all",
    "whole rows": "the same rows with every column, integers exact",
    "dropped": "rows that fell, by reason",
    "tokens": "tokens that were generated, scored or trained on",
    "seconds": "wall time of the computing, without what an earlier run had finished",
    "sampled_tokens_per_second": "tokens that models wrote, a second of writing",
    "scored_tokens_per_second": "tokens whose probability was computed, a second of scoring",
    "padded_share": "share of the computed positions that held no token",
    "shared_prompt_share": "share of prompt tokens that were computed once for several rows",
    "device_seconds": "seconds of all accelerators",
    "inputs": "exact versions that it was made from: asset[partition]@version",
    "exact lineage": "every version behind this one, the oldest on top",
    "exact versions behind it": "the command that prints them with settings, seeds and cost",
    "checkpoint": "folder of the model in the home",
    "profile": "the profile whose settings were used",
    "settings": "the settings that the rows depend on, as they were",
    "ref": "this exact version and the hash of its content",
    "steps": "optimiser steps",
    "loss": "of the last steps of training; lower is better",
    "loss_curve": "loss against optimiser steps",
    "training_examples": "examples that were trained on",
    "training_seconds": "wall time of the trainer",
    "training_tokens_per_second": "tokens trained on, a second",
    "training_padded_share": "share of the trained positions that held no token",
    "training_processes": "processes of the trainer",
    "training_accelerator_seconds": "seconds of all accelerators of the trainer; on a CPU those of its processes",
    "training_peak_memory_gb": "most memory of an accelerator, GB",
    "training_peak_gib": "most main memory of the trainer, GiB",
    "completions_kept": "completions whose text is in the table; of the others the answer is",
    "characters_kept": "their length in all",
    "labels_with_a_stated_answer": "labels of problems whose rationale states an answer",
    "stated_answers_that_differ": "of these, how many state another answer than the label",
    "labels_that_other_graders_change": "labels that would be others if another grader compared the votes",
    "labels_changed": "labels that verified rollouts turned into another answer",
    "labels_withdrawn": "labels that they took away",
    "mean_reward": "mean reward of a candidate, log p(z|c) + log p(x|z,c), nats",
    "mean_reward_of_winners": "the same for the candidate that each seed keeps",
    "mean_tokens_of_winners": "mean length of the winners, tokens",
    "mean_copy_ratio_of_winners": "mean share of the problem that the winners quote in one run",
    "acceptance_entropy": "mean entropy of softmax(reward) over a seed's candidates, nats: 0 is certain",
    "seeds_without_a_winner": "seeds none of whose candidates could be scored",
    "plot": "the same as a picture",
    "levels": "sets by domain and level that was asked for",
    "shortened_to": "domains whose seeds name fewer concepts than a set should have, and how many they name",
    "kept": "rows that stayed",
    "repaired": "tests whose expected output the programs' agreement changed",
    "problems_with_tests": "problems that have at least one test",
    "problems_with_a_checker": "problems whose outputs a written and tested checker judges",
    "validators_believed": "written validators that passed their tests and decide which inputs are allowed",
    "checkers_believed": "written checkers that passed their tests, one a problem at most",
    "statements_repaired": "problems whose worked example got the output that the programs agree on",
    "mean_trust": "mean share of programs that agree on a test",
    "mean_mutation_score": "mean share of planted bugs that the tests catch",
    "pass_rate": "share of usable answers that are right",
    "system_errors": "answers that could not be judged because something here failed; never a verdict",
    "programs_cpu_s": "CPU seconds of the judged programs in all",
    "program_median_cpu_s": "CPU seconds of the median program",
    "program_longest_cpu_s": "CPU seconds of the longest program",
    "cpu_factor": "how much slower this machine is than the one whose limits are set",
    "mix": "share of the problems played on, by domain and source",
    "bands": "problems played on by how hard the rounds before found them",
    "plateau": "the round before gained nothing at its gate, so that all problems are played on",
    "out_of_band": "problems left out because of their difficulty",
    "own": "problems of EM's last p that its solver solves about as often as asked",
    "anchors": "human seeds among the examples",
    "mean_pass_rate": "how often the solver solves p's own problems among the examples",
    "diversity": "what p's problems are like before and after, by domain: the gate looks at it",
    "regressed": "whether the round was worse on its held-out problems",
    "abilities": "ability of every solver, on the scale of the difficulties",
    "ledger": "tokens, seconds and money of each step",
    "costs": "rows and costs of each step",
    "tokens_a_kept_row": "tokens of all steps, for a row that came through",
    "seconds_a_kept_row": "seconds of all steps, for a row that came through",
    "figure": "the paper's figure: NLL of held-out problems against training steps",
    "bounds": "the bound of log p(x|c) over the rounds, held out",
    "common_bounds": "the same, all generators on one pool of proposals",
    "bounds_by_pool": "the same against the size of the pool",
    "information": "what a rationale tells of its problem beyond its concepts, nats, over the rounds",
    "well_posed": "share of fresh problems that are well posed, over the rounds",
}  # fmt: skip
FAMILIES = {
    "held_out ": "mean over held-out seeds",
    "train ": "mean over training seeds",
    "winners_": "seeds whose winner has this annotator's style",
    "well_posed_rate_": "share of this domain's completions that are well posed",
}


def asset_page(name: str, schema: pa.Schema, home: Path, profile: str, feeds: Iterable[str]) -> dict[str, Any]:
    """What an asset's page shows before anything is materialized: its columns, and where to go from there.

    home, profile: of the code location. feeds: assets that read it.
    """
    about = TABLES[name]
    folder = "models" if about.checkpoint else name
    below = sorted(set(feeds) - {name})
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(schema)),
        "read": f"promptcot read {name}",
        "read as files": dg.MetadataValue.path(str(home / "reader" / folder / "index.html")),
        "query": dg.MetadataValue.text(f'promptcot sql "from {name} limit 5"'),
        "made from": dg.MetadataValue.url(f"/assets/{name}?view=lineage&lineageScope=upstream&lineageDepth=20"),
        "used by": dg.MetadataValue.url(f"/assets/{name}?view=lineage&lineageScope=downstream&lineageDepth=20"),
        "feeds": dg.MetadataValue.md(", ".join(_link(one) for one in below) or "nothing"),
        "profile": f"{profile}, in {home}",
    }


def page(name: str, partition: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a new version in the order of a reader's questions, numbers rounded, with what the names mean."""
    own = [one for one in metadata if one not in (*FIRST, *LAST)]
    at = "" if partition == "all" else f" {partition}"
    told: dict[str, Any] = {"read": f"promptcot read {name}{at}", **metadata}
    names = [one for one in (*FIRST, *own, *LAST) if one in told]
    shown = {one: _rounded(told[one]) for one in names}
    lines = [f"- **{one}**: {says}" for one in names if (says := meaning(name, one))]
    return shown | {LEGEND: dg.MetadataValue.md("\n".join(lines))}


def meaning(asset: str, name: str) -> str | None:
    """What a name on the page of an asset means; None where nobody has said so."""
    if name in NAMES:
        return NAMES[name]
    for start, says in FAMILIES.items():
        if name.startswith(start):
            measure = name.removeprefix(start)
            comment = _comments(asset).get(measure)
            return f"{comment}; {says}" if comment else says
    return _comments(asset).get(name)


def _comments(asset: str) -> dict[str, str]:
    return {field.name: (field.metadata or {}).get(b"comment", b"").decode() for field in TABLES[asset].schema}


def _rounded(value: Any) -> Any:
    return significant(value) if isinstance(value, float) else value


def significant(value: float) -> float:
    """A number to four digits; what is whole stays whole."""
    return value if not math.isfinite(value) or value == int(value) else float(f"{value:.{DIGITS}g}")


def links(refs: Iterable[Any]) -> str:
    """Exact versions as Markdown, each a link to its asset's page, at its partition."""
    return "\n".join(f"- {_link(one.asset, one.partition, str(one))}" for one in refs)


def _link(asset: str, partition: str = "all", text: str = "") -> str:
    at = "" if partition == "all" else f"?view=partitions&partition={partition}"
    return f"[{text or asset}](/assets/{asset}{at})"


def sample(table: pa.Table) -> dg.TableMetadataValue:
    """Rows, the texts that one reads first; long texts cut, fractions to four digits, large integers exact as text."""
    names = columns_to_read(table.schema)
    records = [dg.TableRecord({one: _short(row[one], SAMPLE_TEXT) for one in names}) for row in table.to_pylist()]
    return dg.MetadataValue.table(records, schema=column_schema(pa.schema([table.schema.field(one) for one in names])))


def whole_rows(table: pa.Table) -> dg.JsonMetadataValue:
    """The same rows with every column, which the page shows when it is asked to."""
    return dg.MetadataValue.json(
        [{name: _short(value, WHOLE_TEXT) for name, value in row.items()} for row in table.to_pylist()]
    )


def columns_to_read(schema: pa.Schema) -> list[str]:
    """The texts of a table in the order in which one reads them; where these are few, other columns after them."""
    texts = [name for name in TEXTS if name in schema.names]
    others = [name for name in schema.names if name not in texts]
    numbers = [name for name in others if not name.endswith("_id") and not name.endswith("_ids")]
    ids = [name for name in others if name not in numbers]
    return texts[:MOST_TEXTS] if len(texts) >= COLUMNS else [*texts, *numbers, *ids][:COLUMNS]


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """A lake schema as Dagster shows it: types, comments, which columns may be null."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name,
                COLUMN_TYPES.get(str(field.type), "string"),
                description=(field.metadata or {}).get(b"comment", b"").decode(),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def plot(markdown: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(markdown)


def _short(value: object, longest: int) -> str | int | float | bool | None:
    if isinstance(value, float):
        return significant(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) <= EXACT_NUMBER):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"
