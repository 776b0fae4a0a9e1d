"""What would be read of a file of problems, before anything is made of it: `promptcot inspect`. Nothing is written.

The file streams through the reader of the corpus (stages/corpus/reading.py). What is kept of each row is a few
numbers, so that a file of any size is inspected in bounded memory: 32 bytes a row, and three rows in full.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from promptcot_assets.domains import domain_named
from promptcot_assets.lake import Row
from promptcot_assets.settings import Settings
from promptcot_assets.settings.profile import ProblemFile
from promptcot_assets.stages.corpus.reading import Reading, read
from promptcot_assets.stages.corpus.seed_tables import read_files
from promptcot_assets.stages.corpus.sources import SeedError
from promptcot_assets.stages.decontamination import contaminated

As = Literal["seeds", "benchmark"]
SAMPLE, SHOWN = 3, 20  # rows in full; rows that fell, and doubles, that are named
BATCH = 4096  # rows compared with the other side at once
MEASURED = 2048  # rows whose tokens are counted; the others are taken to have as many tokens a character
CHARACTERS_A_TOKEN = 3.0  # where no tokenizer is at hand


def inspect(
    source: str,
    as_: As = "seeds",
    domain: str | None = None,
    settings: Settings | None = None,
    home: Path | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
) -> dict[str, Any]:
    """What a profile would read of `source` as seeds or as a benchmark; `rows` are those that it would keep.

    domain: null: whatever the rows are. settings: whose limits and other side are compared with; home: where the
    tokenizer of its base model may be. Raises: SeedError when the source is absent or of no known shape, or the domain
    is none.
    """
    if domain is not None:
        try:
            domain_named(domain)
        except ValueError as error:
            raise SeedError(str(error)) from error
    reading = Reading(source, keep_dropped=SHOWN)
    rows = read(reading, domain=domain, columns=columns, where=where)
    counts: Counter[str] = Counter()
    sample: list[Row] = []
    texts, lengths, doubles = _Tokens(settings, home), array("L"), _Doubles()
    other = _OtherSide(settings, as_)
    while batch := list(islice(rows, BATCH)):
        for row in batch:
            counts["rows"] += 1
            for name in ("answer", "tests", "solution", "concepts", "rationale"):
                counts[name] += bool(row[name]) if name in ("tests", "concepts") else row[name] is not None
            lengths.append(len(row["problem"]))
            texts.measure(row["problem"])
            doubles.add(row)
            if len(sample) < SAMPLE:
                sample.append(row)
        other.compare(batch)
    found = {
        "source": source,
        "as": as_,
        "domain": domain,
        "form": ", ".join(reading.forms) or None,
        "rows": counts["rows"],
        "dropped": dict(reading.reasons.most_common()),
        "used": reading.used,
        "unused": reading.unused,
        "answers": counts["answer"],
        "tests": counts["tests"],
        "solutions": counts["solution"],
        "concepts": counts["concepts"],
        "rationales": counts["rationale"],
        "tokens": texts.report(np.frombuffer(lengths, dtype=f"u{lengths.itemsize}")),
        "duplicates": doubles.report(),
        "overlap": other.report(),
        "dropped_rows": reading.dropped,
        "warnings": reading.warnings,
        "sample": sample,
    }
    found["warnings"] = [*reading.warnings, *_warnings(found), *other.warnings]
    return found


def _warnings(found: Mapping[str, Any]) -> Iterator[str]:
    source, rows = found["source"], found["rows"]
    if not rows:
        what = "a benchmark" if found["as"] == "benchmark" else "seeds"
        yield f"{source}: 0 rows are left; as {what} it is refused: {', '.join(found['dropped']) or 'it is empty'}"
    elif found["as"] == "benchmark" and not found["answers"] and not found["tests"]:
        yield f"{source}: 0 of {rows} rows can be judged; a benchmark without answers or tests is refused"
    elif not found["answers"] and not found["tests"] and not found["warnings"]:
        yield f"{source}: 0 of {rows} rows have an answer or tests; they can be seeds, and neither label nor benchmark"
    if found["tokens"]["longer"]:
        yield (
            f"{source}: {found['tokens']['longer']} of {rows} are longer than {found['tokens']['limit']} tokens "
            f"({found['tokens']['limit_is']}); raise it, or leave them out with `where`"
        )
    if found["duplicates"]["different_answers"]:
        several = found["duplicates"]["different_answers"]
        yield f"{source}: {several} problems have several answers; only the first of each stays"


def as_text(found: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    tokens, doubles, overlap = found["tokens"], found["duplicates"], found["overlap"]
    names = ("answers", "tests", "solutions", "concepts", "rationales")
    counted = ", ".join(f"{found[name]} with {name}" for name in names)
    lines = [
        f"{found['source']} as {found['as']}: {found['form']}",
        f"rows        {found['rows']}: {counted}",
        *(f"dropped     {count} x {reason}" for reason, count in found["dropped"].items()),
        *(f"            {row['source']}, row {row['row']}: {row['reason']}" for row in found["dropped_rows"][:5]),
        f"used        {', '.join(f'{ours} <- {theirs}' for ours, theirs in found['used'].items()) or 'nothing'}",
        f"unused      {', '.join(found['unused']) or 'nothing'}",
        f"tokens      median {tokens['median']}, 95 % to {tokens['p95']}, longest {tokens['longest']} ({tokens['by']})"
        + (f"; {tokens['longer']} above {tokens['limit']} ({tokens['limit_is']})" if tokens["limit"] else ""),
        f"duplicates  {doubles['rows']} rows, {doubles['different_answers']} problems with several answers",
        f"overlap     {overlap['rows']} rows" + "".join(f", {n} with {name}" for name, n in overlap["with"].items()),
        *(f"warning     {text}" for text in found["warnings"]),
    ]
    for row in found["sample"]:
        lines += ["", f"--- {row['source']}, row {row['row']}", row["problem"]]
        lines += [f"{name}: {row[name]}" for name in ("answer", "tests", "solution", "concepts", "level") if row[name]]
    return "\n".join(lines)


class _Doubles:
    """Equal texts, by the hashes of problem and answer."""

    def __init__(self) -> None:
        self._problems, self._answers, self._rows = array("Q"), array("Q"), array("L")

    def add(self, row: Row) -> None:
        self._problems.append(_hash(row["problem"]))
        self._answers.append(_hash(row["answer"]) if row["answer"] is not None else 0)
        self._rows.append(row["row"])

    def report(self) -> dict[str, Any]:
        """How many rows repeat an earlier one, how many problems have several answers, and the rows of some of
        these."""
        problems = np.frombuffer(self._problems, dtype=np.uint64)
        answers = np.frombuffer(self._answers, dtype=np.uint64)
        known = answers != 0
        pairs = np.unique(np.stack((problems[known], answers[known]), axis=1), axis=0)
        texts, several = np.unique(pairs[:, 0], return_counts=True)
        contradicted = texts[several > 1]
        rows = np.frombuffer(self._rows, dtype=f"u{self._rows.itemsize}")
        shown = [[int(row) for row in rows[problems == text][:SAMPLE]] for text in contradicted[:SHOWN]]
        return {
            "rows": len(problems) - len(np.unique(problems)),
            "different_answers": len(contradicted),
            "different_answers_in_rows": sorted(shown),
        }


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1


class _Tokens:
    """Lengths of problems in tokens of the profile's base model, where its tokenizer is on this machine."""

    def __init__(self, settings: Settings | None, home: Path | None) -> None:
        self._tokenizer, self._by = _tokenizer(settings, home)
        self._limit, self._limit_is = _limit(settings)
        self._characters = self._tokens = self._measured = 0

    def measure(self, problem: str) -> None:
        if self._tokenizer is not None and self._measured < MEASURED:
            self._measured += 1
            self._characters += len(problem)
            self._tokens += len(self._tokenizer.encode(problem, add_special_tokens=False).ids)

    def report(self, characters: np.ndarray) -> dict[str, Any]:
        a_token = self._characters / self._tokens if self._tokens else CHARACTERS_A_TOKEN
        lengths = np.ceil(characters / a_token).astype(int) if len(characters) else np.zeros(1, int)
        longer = int((lengths > self._limit).sum()) if self._limit else 0
        return {
            "by": self._by,
            "median": int(np.median(lengths)),
            "p95": int(np.quantile(lengths, 0.95)),
            "longest": int(lengths.max()),
            "limit": self._limit,
            "limit_is": self._limit_is,
            "longer": longer,
        }


def _tokenizer(settings: Settings | None, home: Path | None) -> tuple[Any, str]:
    guess = f"about {CHARACTERS_A_TOKEN:g} characters a token; no tokenizer is on this machine yet"
    if settings is None:
        return None, guess
    base = settings.base
    folder = Path(base.hub_id) if base.hub_id else _scratch_folder(home)
    file: Any = folder / "tokenizer.json" if folder else None
    if base.hub_id and not Path(base.hub_id).is_dir():
        from huggingface_hub import try_to_load_from_cache

        file = try_to_load_from_cache(base.hub_id, "tokenizer.json", revision=base.revision)
    if not isinstance(file, str | Path) or not Path(file).is_file():
        return None, guess
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file)), f"the tokenizer of {base.hub_id or 'the base model in this home'}"


def _scratch_folder(home: Path | None) -> Path | None:
    if home is None or not (home / "models" / "base_model").is_dir():
        return None
    found = sorted((home / "models" / "base_model").rglob("tokenizer.json"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


def _limit(settings: Settings | None) -> tuple[int | None, str | None]:
    """The shortest length that a problem must stay below, and the setting that says it."""
    if settings is None:
        return None, None
    named: dict[str, Any] = {
        "em.cold_start.arguments.max_length": settings.em.cold_start.arguments.get("max_length"),
        "em.problem_sampling.max_new_tokens": settings.em.problem_sampling.max_new_tokens,
        "base.scratch.max_position": settings.base.scratch.max_position if settings.base.scratch else None,
        "engine.max_model_len": settings.engine.max_model_len,
    }
    return min(((value, name) for name, value in named.items() if value), default=(None, None))


class _OtherSide:
    """What must not overlap: the profile's benchmarks for seeds, its seeds for a benchmark. Local files only."""

    def __init__(self, settings: Settings | None, as_: As) -> None:
        self.warnings: list[str] = []
        self._hits: Counter[str] = Counter()
        self._rows = 0
        self._ngram = settings.deduplication.decontamination_ngram if settings else 0
        self._texts: dict[str, list[dict[str, str]]] = {}
        for name, domain, file in _others(settings, as_) if settings else ():
            try:
                read_all = [row["problem"] for _, rows in read_files(_local(file), domain) for row in rows]
            except SeedError as error:
                self.warnings.append(f"not compared with {name}: {error}")
                continue
            if read_all:
                self._texts[name] = [{"id": f"{name}:{at}", "text": text} for at, text in enumerate(read_all)]

    def compare(self, batch: Sequence[Row]) -> None:
        if not self._texts:
            return
        given = [{"id": str(at), "text": row["problem"]} for at, row in enumerate(batch)]
        hits = contaminated(given, self._texts, self._ngram)
        pairs = set(zip(hits["problem_id"].to_pylist(), hits["benchmark"].to_pylist(), strict=True))
        self._hits.update(name for _, name in pairs)
        self._rows += len({problem for problem, _ in pairs})

    def report(self) -> dict[str, Any]:
        """Rows that share a run of words with the other side, and with which of its files."""
        return {"rows": self._rows, "with": dict(self._hits), "compared_with": sorted(self._texts)}


def _others(settings: Settings, as_: As) -> Iterator[tuple[str, str, ProblemFile]]:
    if as_ == "seeds":
        for (domain, name), benchmark in settings.benchmarks.published().items():
            yield name, domain, benchmark
    else:
        for domain, file, _ in settings.corpus.problem_files():
            yield ", ".join(file.sources), domain, file


def _local(file: ProblemFile) -> ProblemFile:
    return file.model_copy(update={"source": [one for one in file.sources if not one.startswith(("hf:", "gym:"))]})
