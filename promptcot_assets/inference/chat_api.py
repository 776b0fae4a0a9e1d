"""OpenAI's chat completions as we speak them: what a request holds, and what of a reply is believed.

A model that thinks says so in one of two ways: the server tells thoughts and answer apart (`reasoning_content`, which
vLLM now calls `reasoning`), or the text has the think block in it, whose beginning the server's template may have taken
away. Either becomes the one form of all tables, `<think>thoughts</think>answer`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcot_assets.inference.channels import BEGIN_THINK, END_THINK
from promptcot_assets.inference.completions_api import count_of, field_of
from promptcot_assets.inference.endpoints import Models, Refused, WrongReply
from promptcot_assets.inference.protocol import EngineError, SamplingParams
from promptcot_assets.inference.refusals import FILTERED, Refusal, is_unicode

SERVED = "served.json"  # in place of a checkpoint's files: the name under which others serve the model
THOUGHTS = ("reasoning_content", "reasoning")
NAMED = 10  # models in a message


@dataclass(frozen=True)
class Written:
    text: str
    tokens: int
    finish_reason: str
    prompt_tokens: int


def write_served(folder: Path, name: str) -> None:
    """The folder of a model that others serve."""
    folder.mkdir(parents=True)
    (folder / SERVED).write_text(json.dumps({"model": name}) + "\n")


def served_by_others(folder: Path) -> str | None:
    """The name in such a folder; None for any other folder."""
    file = folder / SERVED
    return str(json.loads(file.read_text())["model"]) if file.is_file() else None


def check_served(models: Models, name: str, url: str) -> None:
    """Raises: EngineError when the server lists models and not this one."""
    known = [model["id"] for model in models]
    if known and name not in known:
        more = ", ..." if len(known) > NAMED else ""
        raise EngineError(
            f"{url} serves {', '.join(map(repr, known[:NAMED]))}{more} and not {name!r}: set the teacher's "
            "model.served to the name under which it serves it"
        )


def chat_body(name: str, prompt: str, seed: int, params: SamplingParams, settings: Any) -> dict[str, Any]:
    """One completion of one prompt. settings: of `engine.chat_api`; a null among its arguments takes a field away.

    seed: 63 bits, of which 31 go out: what every server takes.
    """
    system = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    body: dict[str, Any] = {
        "model": name,
        "messages": [*system, {"role": "user", "content": prompt}],
        settings.token_limit: params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": seed % (1 << 31),
        "n": 1,
    }
    if params.stop:
        body["stop"] = list(params.stop)
    return {key: value for key, value in (body | settings.arguments).items() if value is not None}


def read_chat(reply: Any) -> Written:
    """Raises: WrongReply when it cannot be the answer; Refused when a content filter, or the model itself, refuses."""
    choices = field_of(reply, "choices", list)
    if len(choices) != 1 or not isinstance(choices[0], dict):
        raise WrongReply(f"{len(choices)} choices where one was asked for")
    reason, message = choices[0].get("finish_reason"), choices[0].get("message")
    if reason == "content_filter":
        raise Refused(Refusal(FILTERED, "the server ended it with finish_reason 'content_filter'"))
    if reason not in ("stop", "length") or not isinstance(message, dict):
        raise WrongReply(f"finish_reason {reason!r:.200}, message {message!r:.200}")
    if message.get("refusal"):
        raise Refused(Refusal(FILTERED, f"the model refuses: {message['refusal']!r:.200}"))
    content = _text(message, "content")
    thoughts = next((text for name in THOUGHTS if (text := _text(message, name))), "")
    usage = field_of(reply, "usage", dict)
    tokens = count_of(usage, "completion_tokens")
    if tokens < 1:
        raise WrongReply("it counts no token")
    return Written(_one_form(thoughts, content), tokens, reason, count_of(usage, "prompt_tokens"))


def _one_form(thoughts: str, content: str) -> str:
    if thoughts:
        return f"{BEGIN_THINK}{thoughts}{END_THINK}{content}" if content else BEGIN_THINK + thoughts
    if content.count(END_THINK) == 1 and BEGIN_THINK not in content:
        return BEGIN_THINK + content
    return content


def _text(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not is_unicode(value):
        raise WrongReply(f"{name} {value!r:.200} is no text")
    return value
