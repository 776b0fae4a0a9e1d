"""Seed problems and benchmark items from outside, read into one normal form.

Belongs here: reading a JSONL file, a Parquet file or a Hugging Face data set of problems; taking the chat wrapper
and the standing instruction off a problem; finding its answer and its tests. Does not belong here: ids (made where rows
are committed), grading, and any judgement on whether a problem is good.

The normal form of a row:

| key | type | meaning |
|---|---|---|
| `problem` | str | the statement alone, wrapper stripped |
| `answer` | str or None | column `answer`, else after a final `#### `, else the solution's last boxed span |
| `solution` | str or None | column `solution` or `reference_solution`, its `#### ` line taken off |
| `tests` | list of `{stdin, expected}` or None | column `tests`, else `input_output` as Codeforces has it |
|  |  | (function style: one JSON argument a line, a JSON result) |
| `fn_name` | str or None | the function to call when the tests are function style |
| `concepts` | list of str | empty when not annotated |
| `rationale`, `level`, `domain` | str or None | as given |
| `source`, `row` | str, int | file name (or `hf:` address) and line number from 1: where to look |
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class SeedError(ValueError):
    """A source of problems that cannot be read: names the file, the line and the mend."""


class UnusableRow(Exception):
    """This one row must fall; the message is the reason counted with it."""


def read_seeds(source: str | Path, limit: int | None = None) -> tuple[list[Row], list[Row]]:
    """Read problems of `source` into the normal form above: `(rows, dropped)`.

    `source` is a path ending in `.jsonl` or `.parquet`, or `hf:org/name@revision#split` (`hf:org/name/config@...` names
    a configuration; a split that ends in `.jsonl` or `.parquet` is a file of the repository). Reading stops after
    `limit` kept rows. `dropped` holds `{source, row, reason, problem}` for every row that fell.

    Raises: SeedError on an absent, empty or malformed file, on a missing column and on a value of the wrong type.
    """
    if limit is not None and limit < 1:
        raise SeedError(f"limit={limit}: must be at least 1, or None to read everything")
    name, raw_rows = open_source(source)
    first = next(raw_rows, None)
    if first is None:
        raise SeedError(f"{source}: holds no rows; give one problem a line")
    rows: list[Row] = []
    dropped: list[Row] = []
    for number, raw in chain([first], raw_rows):
        try:
            rows.append(normal_form(raw, name, number))
        except UnusableRow as reason:
            problem = raw.get("problem", raw.get("prompt"))
            dropped.append({"source": name, "row": number, "reason": str(reason), "problem": ascii(problem)[:200]})
        if len(rows) == limit:
            break
    return rows, dropped


# --- where rows come from ---


def open_source(source: str | Path) -> tuple[str, Iterator[tuple[int, Row]]]:
    """The short name of a source and its raw rows, each with its line number from 1.

    Raises: SeedError when the source is absent or of another kind; while reading, when it is malformed.
    """
    if str(source).startswith("hf:"):
        return str(source), _hub_rows(str(source))
    path = Path(source)
    if path.suffix not in READERS:
        raise SeedError(f"{source}: not a .jsonl or .parquet file, nor `hf:org/name@revision#split`")
    if not path.is_file():
        raise _no_such_file(source)
    return path.name, READERS[path.suffix](path)


def contents(sources: Iterable[str]) -> dict[str, str]:
    """Local source -> sha256 of its bytes, so that an edited file is another input. A hub address is pinned already.

    Raises: SeedError when a file is absent.
    """
    local = sorted({source for source in sources if not source.startswith("hf:")})
    return {source: _file_hash(Path(source)) for source in local}


def _file_hash(path: Path) -> str:
    if not path.is_file():
        raise _no_such_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _no_such_file(path: str | Path) -> SeedError:
    return SeedError(f"{path}: no such file; check the path in the profile's seed or benchmark settings")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                raw = json.loads(line)
            except ValueError as error:  # both bad JSON and bad UTF-8
                raise SeedError(f"{path}, line {number}: not JSON ({error}); mend or delete the line") from error
            if not isinstance(raw, dict):
                raise SeedError(f"{path}, line {number}: a JSON {type(raw).__name__}, not an object with a `problem`")
            yield number, raw


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise SeedError(f"{path}: not a Parquet file ({error}); write it again or convert it to JSONL") from error
    with file:
        batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=1024))
        yield from enumerate(chain.from_iterable(batches), start=1)


READERS = {".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
_HUB_ADDRESS = re.compile(
    r"hf:(?P<name>[^/@#]+/[^/@#]+)(?:/(?P<config>[^/@#]+))?@(?P<revision>[^@#]+)#(?P<split>[^@#]+)"
)


def _hub_rows(address: str) -> Iterator[tuple[int, Row]]:
    parts = _HUB_ADDRESS.fullmatch(address)
    if parts is None:
        raise SeedError(
            f"{address}: write `hf:org/name@revision#split`, or let `promptcot pin` write the revision into a lock; "
            "a pinned revision reads the same seeds for ever"
        )
    if (suffix := Path(parts["split"]).suffix) in READERS:
        yield from READERS[suffix](_hub_file(address, parts["name"], parts["revision"], parts["split"]))
        return
    import datasets

    try:
        rows = datasets.load_dataset(
            parts["name"], parts["config"], revision=parts["revision"], split=parts["split"], streaming=True
        )
    except (OSError, ValueError) as error:  # not found, no network, no such split
        raise SeedError(f"{address}: cannot load ({error}); mend name, revision or split, or give a file") from error
    yield from enumerate(rows, start=1)


def _hub_file(address: str, name: str, revision: str, file: str) -> Path:
    """One file of a data set's repository, in the hub's cache: for data sets that `datasets` no longer loads."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(name, file, revision=revision, repo_type="dataset"))
    except (*HfHubHTTPError.__bases__, ValueError) as error:  # those of the hub's HTTP client among them
        raise SeedError(f"{address}: cannot load ({error}); mend name, revision or file, or give a file") from error


# --- one row ---


def normal_form(raw: Row, source: str, number: int) -> Row:
    """One raw row in the normal form above.

    Raises: UnusableRow when this row must fall; SeedError when the file is malformed.
    """
    where = f"{source}, line {number}"
    column = next((name for name in ("problem", "prompt") if raw.get(name) is not None), None)
    if column is None:
        if "problem" in raw or "prompt" in raw:
            raise UnusableRow("empty problem")
        raise SeedError(
            f"{where}: no column `problem` (or `prompt`) among {sorted(raw)}; rename the statement's column"
        )
    problem = strip_wrapper(_statement(raw[column], column, where))
    if not problem:
        raise UnusableRow("empty problem")
    given = _text(raw, "solution", where) or _text(raw, "reference_solution", where)
    solution, final = _split_final_answer(given) if given else (None, None)
    tests, fn_name = _tests(raw, where)
    row = {
        "problem": problem,
        "answer": _text(raw, "answer", where) or final or (last_boxed(solution) if solution else None),
        "solution": solution,
        "tests": tests,
        "fn_name": fn_name,
        "concepts": _concepts(raw, where),
        "rationale": _text(raw, "rationale", where),
        "level": _text(raw, "level", where),
        "domain": _text(raw, "domain", where),
    }
    _check_encodable(row)
    return {**row, "source": source, "row": number}


def _statement(value: Any, column: str, where: str) -> str:
    """A statement is text, or a chat: a list of `{role, content}` whose last user turn is the problem."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        value = next((turn.get("content") for turn in reversed(value) if turn.get("role") == "user"), "")
        if isinstance(value, str):
            return value
    raise SeedError(f"{where}: `{column}` is a {type(value).__name__}, not text; write the statement as one string")


def _text(raw: Row, column: str, where: str) -> str | None:
    """An optional text column; numbers are written out (answers often come as integers), blank is None."""
    value = raw.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SeedError(f"{where}: `{column}` is a {type(value).__name__}, not text; make it a string or leave it out")
    return str(value).strip() or None


def _concepts(raw: Row, where: str) -> list[str]:
    value = raw.get("concepts")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(concept, str) for concept in value):
        raise SeedError(f'{where}: `concepts` must be a list of strings, as ["ratios", "sums"]; got {value!r:.80}')
    return [concept.strip() for concept in value if concept.strip()]


def _tests(raw: Row, where: str) -> tuple[list[Row] | None, str | None]:
    """`(tests, fn_name)`: column `tests` wins over `input_output`; no tests at all is `(None, None)`."""
    fn_name = _text(raw, "fn_name", where)
    if raw.get("tests") is not None:
        value = raw["tests"]
        if not isinstance(value, list) or not all(isinstance(test, dict) for test in value):
            raise SeedError(f"{where}: `tests` must be a list of {{stdin, expected}} objects; got {value!r:.80}")
        pairs = [(test.get("stdin", test.get("input")), test.get("expected", test.get("output"))) for test in value]
    elif raw.get("input_output") is not None:
        pairs, fn_name = _input_output(raw["input_output"], where)
    else:
        return None, None
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        raise UnusableRow("unusable tests: an input or expected output is missing or not text")
    return [{"stdin": stdin, "expected": expected} for stdin, expected in pairs] or None, fn_name


def _input_output(value: Any, where: str) -> tuple[list[tuple[Any, Any]], str | None]:
    """Codeforces' and APPS' column: JSON text (or an object) of `inputs`, `outputs` and, function style, `fn_name`."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UnusableRow("unusable tests: `input_output` is not JSON") from error
    if not isinstance(value, dict):
        raise SeedError(f"{where}: `input_output` is a {type(value).__name__}, not JSON of `inputs` and `outputs`")
    inputs, outputs, fn_name = value.get("inputs"), value.get("outputs"), _text(value, "fn_name", where)
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise UnusableRow("unusable tests: `input_output` needs `inputs` and `outputs` of one length")
    if fn_name is not None:
        if not all(isinstance(arguments, list) for arguments in inputs):
            raise UnusableRow("unusable tests: a function's input must be the list of its arguments")
        inputs = ["\n".join(map(json.dumps, arguments)) for arguments in inputs]
        outputs = [json.dumps(output) for output in outputs]
    return list(zip(inputs, outputs, strict=True)), fn_name


def _check_encodable(row: Row) -> None:
    """JSON may smuggle in half of a surrogate pair, which no Parquet file, tokenizer or hash accepts."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UnusableRow("text is not valid Unicode") from error


def _split_final_answer(solution: str) -> tuple[str | None, str | None]:
    """`(solution, answer)` where the last line is GSM8K's `#### answer`; `(solution, None)` elsewhere."""
    match = re.search(r"(?:\A|\n)#### *([^\n]+)\s*\Z", solution)
    if match is None:
        return solution, None
    return solution[: match.start()].strip() or None, match[1].strip()


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}` (or `\fbox`) with balanced braces, or None."""
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))):
        depth = 1
        for position in range(match.end(), len(text)):
            # an escaped brace is a set's brace in print, not a group
            depth += {"{": 1, "}": -1}.get(text[position], 0) if text[position - 1] != "\\" else 0
            if depth == 0:
                return text[match.end() : position].strip() or None
    return None


# --- wrappers ---

# How chat templates mark a user's turn: (what opens it, what closes it). A turn that never closes runs to the end.
_USER_TURNS = [
    (r"<\|im_start\|>user\n", r"<\|im_end\|>"),  # ChatML: Qwen and many others
    (r"<｜User｜>", r"<｜Assistant｜>|<｜end▁of▁sentence｜>"),  # DeepSeek
    (r"<\|start_header_id\|>user<\|end_header_id\|>", r"<\|eot_id\|>"),  # Llama 3
    (r"<\|start\|>user<\|message\|>", r"<\|end\|>"),  # gpt-oss (harmony)
    (r"<\|user\|>\n?", r"<\|end\|>|<\|assistant\|>|</s>"),  # phi, Zephyr
    (r"<start_of_turn>user\n", r"<end_of_turn>"),  # Gemma
    (r"\[INST\]", r"\[/INST\]"),  # Llama 2, Mistral
]
_USER_TURN = re.compile("|".join(f"(?:{opening})(.*?)(?:{closing}|\\Z)" for opening, closing in _USER_TURNS), re.DOTALL)

# Standing instructions around a statement, in the wording of the released evaluation files and of LiveCodeBench.
_BOXED = (
    r"[PpLl](?i:lease|et's|et us)\s+(?i:reason|think)\s+step\s+by\s+step[^\n]{0,80}?\\boxed\s*\{[^\n]{0,10}\}+\s*\.?"
)
_HEAD = re.compile(
    rf"\s*(?:{_BOXED}"
    r"|You will be given a question \(problem specification\) and will generate a correct Python program that matches"
    r" the specification and passes all tests\.(?:\s+You will NOT return anything except for the program\.?)?"
    r"|(?:###\s*)?(?:Question|Problem)\s*:)\s*"
)
# (a literal of the instruction, how far before it the instruction may begin, the instruction to the end of the text):
# finding the literal first keeps bare statements cheap, millions of which pass through here
_TAILS = [
    ("\\boxed", 160, re.compile(rf"{_BOXED}\s*\Z")),
    (
        "Read the inputs from stdin",
        20,
        re.compile(
            r"(?:###\s*Format:\s*)?Read the inputs from stdin solve the problem and write the answer to stdout"
            r" \(do not directly test on the sample inputs\).{0,300}?# YOUR CODE HERE\s*```\s*\Z",
            re.DOTALL,
        ),
    ),
    ("Solution:", 1, re.compile(r"\nSolution:\s*\Z")),  # of this project's own domains (domains/procedural.py)
    ("use the provided format", 20, re.compile(r"###\s*Answer:\s*\(use the provided format with backticks\)\s*\Z")),
]


def strip_wrapper(text: str) -> str:
    """The bare statement: the last user turn of a chat-wrapped prompt, without the standing instructions around it.

    Text without a wrapper comes back as it is, less its outer white space. Idempotent.
    """
    while (bare := _without_instructions(_last_user_turn(text)).strip()) != text:
        text = bare
    return text


def _without_instructions(text: str) -> str:
    if head := _HEAD.match(text):
        text = text[head.end() :]
    for literal, reach, instruction in _TAILS:
        place = text.rfind(literal)
        if place >= 0 and (tail := instruction.search(text, max(0, place - reach))):
            text = text[: tail.start()].rstrip()
    return text


def _last_user_turn(text: str) -> str:
    if not ("<|" in text or "<｜" in text or "<start" in text or "[INST]" in text):
        return text
    for match in _USER_TURN.finditer(text):
        text = next(turn for turn in match.groups() if turn is not None)
    return text
