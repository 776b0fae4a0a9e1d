"""What every section of the settings is: frozen, without unknown names, with one canonical text to hash."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic

Count = Annotated[int, pydantic.Field(ge=0)]
Seed = Annotated[int, pydantic.Field(ge=0, lt=1 << 63)]  # a column of whole numbers holds it
AtLeastOne = Annotated[int, pydantic.Field(ge=1)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Positive = Annotated[float, pydantic.Field(gt=0)]
Weight = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


def one_of(*names: str) -> pydantic.AfterValidator:
    """Accepts these texts only; the error lists them."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is not one of {', '.join(names)}")
        return value

    return pydantic.AfterValidator(check)


# ends of the names under which libraries and endpoints take keys and passwords; a model's own tokens are none
SECRET = re.compile(
    r"token$|^key$|(api|access|private|secret|account|subscription|auth|signing|ssh|master|shared|openai|anthropic|azure"
    r"|wandb)[-_]?keys?$|passw(or)?ds?$|passphrases?$|pwd$|secrets?$|cred(ential)?s?$|auth$|authorization|cookies?$|jwt$"
    r"|bearer$|dsn$|connection[-_]?string$|service[-_]?account",
    re.IGNORECASE,
)
A_MODELS_TOKEN = re.compile(
    r"(eos|bos|pad|unk|sep|cls|mask|stop|start|end|begin|image|video|audio|think)_?token$", re.I
)


def is_secret(name: str) -> bool:
    """Whether an argument of this name is taken for a key or a password."""
    return bool(SECRET.search(name)) and not A_MODELS_TOKEN.search(name)


def _without_secrets(arguments: dict[str, Any]) -> dict[str, Any]:
    """Settings stand in records, logs and cards. The error repeats no value."""
    if named := next(filter(is_secret, _names(arguments)), None):
        raise ValueError(
            f"{named} holds a key or a password, and settings stand in every record; leave it out and give it in the "
            "environment: HF_TOKEN for the hub, for an endpoint the variable that its api_key_variable names"
        )
    return arguments


def _names(value: Any) -> Iterator[str]:
    """Keys of mappings, those inside of them and of lists included."""
    if isinstance(value, dict):
        yield from map(str, value)
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(one)


# what another library takes by its own names
Arguments = Annotated[dict[str, Any], pydantic.AfterValidator(_without_secrets)]


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)  # it may be a secret

    def canonical(self) -> str:
        """The settings as one canonical JSON text: what a commit records and a fingerprint hashes."""
        return self.model_dump_json(exclude=self.without_effect())

    def part(self, *names: str) -> dict[str, Any]:
        """The named settings of this section, as `canonical` has them: those that one kind of row depends on."""
        if unknown := set(names) - type(self).model_fields.keys():
            raise KeyError(f"{type(self).__name__} has no setting {', '.join(sorted(unknown))}")
        known: dict[str, Any] = json.loads(self.canonical())
        return {name: known[name] for name in names if name in known}

    def without_effect(self) -> dict[str, Any]:
        """The settings that no result depends on, as pydantic's `exclude`, those of nested sections included."""
        hidden: dict[str, Any] = dict.fromkeys(getattr(self, "_no_effect_on_results", ()), True)
        for name in type(self).model_fields:
            if name not in hidden and (inner := _hidden_in(getattr(self, name))):
                hidden[name] = inner
        return hidden


def _hidden_in(value: Any) -> dict[str, Any]:
    """What is hidden of a setting that is a section, or sections by name."""
    if isinstance(value, Section):
        return value.without_effect()
    if isinstance(value, dict):
        return {key: inner for key, one in value.items() if (inner := _hidden_in(one))}
    return {}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`; null takes away what the extended profile sets."""
    result = {key: value for key, value in base.items() if not (key in over and over[key] is None)}
    for key, value in over.items():
        if value is None and key in base:
            continue
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
