"""Why the Hugging Face hub does not give a model, in one sentence with its mend.

`base_models.from_hub` says what failed; which of its causes it was is told apart here, by the error's own kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

ELSE = "or give the path of a local folder instead of the hub id"


@contextmanager
def in_one_sentence(name: str, revision: str | None) -> Iterator[None]:
    """Raises: FileNotFoundError that says why `name` cannot be had, in place of one with the hub's own words."""
    from huggingface_hub.errors import HfHubHTTPError

    connection = next(one for one in HfHubHTTPError.__bases__ if not issubclass(one, OSError))  # of its HTTP client
    try:
        yield
    except FileNotFoundError as error:
        if error.__cause__ is None:
            raise
        raise FileNotFoundError(sentence(name, revision, error.__cause__)) from error
    except connection as error:
        raise FileNotFoundError(sentence(name, revision, error)) from error


def sentence(name: str, revision: str | None, cause: BaseException) -> str:
    """What to do where the hub's client raised `cause` for a model."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    at = f"{name}@{(revision or '')[:12]}"
    every = list(_causes(cause))
    if any(isinstance(one, GatedRepoError) for one in every):
        return (
            f"{name} is gated at the Hugging Face hub: accept its terms at https://huggingface.co/{name} and set "
            f"HF_TOKEN to a token of that account, {ELSE}"
        )
    if any(isinstance(one, RevisionNotFoundError) for one in every):
        return (
            f"the Hugging Face hub has no commit {revision} of {name}: correct `revision`, or `promptcot pin` it anew"
        )
    if any(isinstance(one, RepositoryNotFoundError) for one in every):
        return (
            f"the Hugging Face hub has no {name}, or it is private: correct hub_id, or set HF_TOKEN to a token "
            "that may read it"
        )
    if any(isinstance(one, HfHubHTTPError) for one in every):
        return f"the Hugging Face hub refuses {at} ({_first_line(cause)}): try again later, {ELSE}"
    return (
        f"{at} is not in the Hugging Face hub's cache and the hub cannot be reached: connect to the network (unset "
        f"HF_HUB_OFFLINE), point HF_HOME at a cache that holds this commit, {ELSE}"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]
