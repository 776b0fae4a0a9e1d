"""Prompts as users' turns: a checkpoint's own chat template between plain text and what the model reads.

Tables hold plain text: the prompt that a domain writes, and the completion in the one form `<think>...</think>answer`.
Only two places see a template, and both here: `ChatEngine`, through which a model is asked, and `ChatTemplate.example`,
which makes the examples of a trainer. So what is trained is exactly what is sampled, token for token.

A template may begin the model's own thoughts (the prompt of Qwen3-Thinking and of R1's distills ends on `<think>` and a
line break). The model reads that and does not write it, so it belongs to the prompt; in tables it stands at the head of
the completion. One that is told not to think has an empty block in its prompt (Qwen3, SmolLM3): then the model writes
an answer and no thoughts, and so do its examples.

A turn ends with the token that the template puts after an answer. Where a tokenizer ends a text with another one
(Gemma: `<eos>`), a trainer is given the base with that token in its place (`ends_turns`); a model that does not stop at
it would write on, and is refused.

Templates are programs of the checkpoint; transformers renders them in a sandbox. They are not asked for the day: a
prompt that says today's date would differ tomorrow (`Chat.today`).
"""

import datetime
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from promptcot_assets.inference.channels import BEGIN_THINK, END_THINK, MARK, with_channels, without_channels
from promptcot_assets.inference.closing import Closing
from promptcot_assets.inference.model_folder import base_of, read_model_folder
from promptcot_assets.inference.protocol import Completion, InferenceEngine, SamplingParams, TokenScores, Usage

OPENED = re.compile(r"<think>\s*\Z")
CLOSED = re.compile(r"</think>\s*\Z")
DATES = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
ANSWER = "the answer of this turn"  # stands for a completion, to see what a template puts after it
TOKENIZER = ("special_tokens_map.json", "added_tokens.json")  # older files, which would speak against a changed one


class ChatError(ValueError):
    """A checkpoint's template that cannot be used as the settings say; the message names the setting."""


class ChatSettings(Protocol):
    """What is read of the settings; the pydantic object is `promptcot_assets.settings.profile.Chat`."""

    @property
    def required(self) -> bool: ...
    @property
    def arguments(self) -> dict[str, Any]: ...
    @property
    def system(self) -> str | None: ...
    @property
    def today(self) -> datetime.date: ...


@dataclass(frozen=True)
class Turn:
    """What a model reads. `opened`: its end, where the template begins the model's thoughts; else empty. `closed`:
    whether the template has ended them before they begin."""

    prompt: str
    opened: str
    closed: bool = False


class ChatTemplate:
    """The chat template of one checkpoint, under one `chat` setting."""

    def __init__(self, folder: Path, settings: ChatSettings) -> None:
        """Raises: ChatError when the checkpoint has no template, or the template refuses the arguments."""
        self._settings, self._folder = settings, folder
        self._tokenizer = _tokenizer(folder)
        if not self._tokenizer.chat_template:
            raise ChatError(
                f"{folder} has no chat template: set `chat` to null to put prompts to it as they stand, or "
                "chat.required to false where only some of the checkpoints have one"
            )
        template = self._tokenizer.get_chat_template()
        self.has_channels = MARK in template
        self._template = _told_the_day(template, settings.today)
        beginning: str | None = self._tokenizer.bos_token
        ids = self._tokenizer("a")["input_ids"]  # the engines' tokenizers add it themselves, if any does
        self._adds = beginning if beginning and ids[0] == self._tokenizer.bos_token_id else ""
        self.turn("a question")

    def turn(self, text: str) -> Turn:
        """The user's turn `text`, up to where the model goes on."""
        prompt = self._rendered([{"role": "user", "content": text}], True).removeprefix(self._adds)
        opened = OPENED.search(prompt)
        return Turn(prompt, opened.group() if opened else "", bool(CLOSED.search(prompt)))

    def completion(self, turn: Turn, written: str) -> str:
        """What the model wrote, in the one form of all tables."""
        return without_channels(written) if self.has_channels else turn.opened + written

    def example(self, text: str, completion: str) -> tuple[str, str]:
        """What a trainer is given: the prompt as the model reads it, and of `completion` what the model writes."""
        turn = self.turn(text)
        return turn.prompt, self.written(turn, completion)

    def written(self, turn: Turn, completion: str) -> str:
        """The part of a completion that the model writes after `turn`: the inverse of `completion`.

        One without thoughts, where the template begins them, closes them at once. One with thoughts, where the template
        has ended them, is its answer.
        """
        if self.has_channels:
            return with_channels(completion)
        if turn.closed and completion.startswith(BEGIN_THINK) and END_THINK in completion:
            return completion.partition(END_THINK)[2].lstrip()
        if not turn.opened:
            return completion
        if completion.startswith(turn.opened):
            return completion.removeprefix(turn.opened)
        if completion.startswith(BEGIN_THINK):
            return completion.removeprefix(BEGIN_THINK).lstrip()
        return END_THINK + completion

    @cached_property
    def end(self) -> str:
        """The token that the template puts after an answer; empty where it puts none of the tokenizer's own there."""
        whole = self._rendered([{"role": "user", "content": "a"}, {"role": "assistant", "content": ANSWER}], False)
        after = whole.rpartition(ANSWER)[2].lstrip()
        known = [token for token in map(str, self._tokenizer.added_tokens_decoder.values()) if after.startswith(token)]
        return max(known, key=len, default="")

    def check_trainable(self, online: bool = False) -> None:
        """Raises: ChatError where a trainer would teach another text than the one that is sampled.

        online: the trainer samples and has judged what it learns from, which it decodes itself.
        """
        if self.has_channels and online:
            raise ChatError(
                f"{self._folder}: its template writes thoughts and answer in channels, which an online trainer does "
                "not tell apart; set self_play.optimiser to dpo or sft"
            )
        stops_at = read_model_folder(self._folder).end_tokens
        if not self.end or self._tokenizer.convert_tokens_to_ids(self.end) not in stops_at:
            raise ChatError(
                f"{self._folder}: its template ends an answer with {self.end!r}, its tokenizer a text with "
                f"{self._tokenizer.eos_token!r}, which is what would be taught, and it does not stop at the former: "
                "set eos_token in its tokenizer_config.json, or eos_token_id in its generation_config.json, to what "
                "the template writes"
            )

    @property
    def ends_texts(self) -> bool:
        """Whether the tokenizer ends every text as the template ends a turn."""
        return bool(self._tokenizer.eos_token == self.end)

    def ends_turns(self, folder: Path) -> Path:
        """The checkpoint with the template's end of an answer as its tokenizer's end token: itself where it is that.

        Else a folder of links to its files, made anew at `folder`, beside a tokenizer that ends texts as turns.
        """
        if self.ends_texts:
            return self._folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        changed = _tokenizer(self._folder)
        changed.eos_token = self.end
        changed.save_pretrained(folder)
        for file in self._folder.iterdir():
            if not (folder / file.name).exists() and file.name not in TOKENIZER:
                (folder / file.name).symlink_to(file.resolve())
        return folder

    def _rendered(self, turns: list[dict[str, str]], goes_on: bool) -> str:
        from jinja2 import TemplateError

        system = [] if self._settings.system is None else [{"role": "system", "content": self._settings.system}]
        try:
            text: str = self._tokenizer.apply_chat_template(
                [*system, *turns],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=goes_on,
                **self._settings.arguments,
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise ChatError(
                f"the chat template of {self._folder} does not take chat.arguments {self._settings.arguments} and "
                f"chat.system {self._settings.system!r}: {error}"
            ) from error
        return text


def open_template(folder: Path, settings: ChatSettings | None) -> ChatTemplate | None:
    """The template to use; None where prompts go as they stand.

    Raises: ChatError when one is required and the checkpoint has none.
    """
    if settings is None or (not settings.required and not _tokenizer(folder).chat_template):
        return None
    return ChatTemplate(folder, settings)


class ChatEngine(Closing):
    """An engine whose prompts are users' turns: see `InferenceEngine`.

    Prompts are rendered before the model reads them; what its template begins for it stands at the head of completions.
    """

    def __init__(self, engine: InferenceEngine, template: ChatTemplate) -> None:
        self._engine, self._template = engine, template
        self.usage: Usage = engine.usage
        self.parallel_calls: int = engine.parallel_calls

    def generate(
        self, prompts: Sequence[str], params: SamplingParams, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        turns = [self._template.turn(prompt) for prompt in prompts]
        drawn = self._engine.generate([turn.prompt for turn in turns], params, seeds)
        self.usage = self._engine.usage
        return [
            [
                one if one.refusal else replace(one, text=self._template.completion(turn, one.text))
                for one in completions
            ]
            for turn, completions in zip(turns, drawn, strict=True)
        ]

    def score(self, prefixes: Sequence[str], continuations: Sequence[str], end: bool = True) -> list[TokenScores]:
        """Of what the model would write, up to the end of its turn; offsets are those of a continuation without what
        the template begins."""
        pairs = [self._template.example(*pair) for pair in zip(prefixes, continuations, strict=True)]
        last = self._template.end if end and not self._template.ends_texts else ""
        written = [more + last for _, more in pairs]
        scores = self._engine.score([prefix for prefix, _ in pairs], written, end and not last)
        self.usage = self._engine.usage
        return scores

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = self._engine.embed(texts)
        self.usage = self._engine.usage
        return vectors

    def close(self) -> None:
        self._engine.close()


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    own = (folder / "tokenizer_config.json").is_file()
    try:
        return AutoTokenizer.from_pretrained(folder if own else base_of(folder))
    except (OSError, ValueError) as error:
        raise ChatError(f"cannot read the tokenizer of {folder}: {error}") from error


def _told_the_day(template: str, today: datetime.date) -> str:
    """The template with its question for the date answered beforehand."""
    formats = sorted({match[2] for match in DATES.finditer(template)})
    if not formats:
        return template
    answers = "".join(f"{{%- if format == {one!r} -%}}{today.strftime(one)}{{%- endif -%}}" for one in formats)
    return f"{{%- macro strftime_now(format) -%}}{answers}{{%- endmacro -%}}{template}"
