"""Replicas of one model behind HTTP addresses: a request goes to the least busy one, and again when it fails.

Belongs here: what a fault means, how long to wait, which replica to ask. Does not belong here: what a request or a
reply contains; a caller gives a `read` that turns the reply's JSON into its result or raises `WrongReply`.

All of it runs on one event loop (`event_loop.py`); nothing here may be called from another thread.
"""

import asyncio
import contextlib
import email.utils
import itertools
import json
import math
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from promptcot_assets.inference.protocol import EngineError
from promptcot_assets.inference.refusals import FILTERED, REFUSED, TOO_LONG, UNUSABLE, Refusal

Result = TypeVar("Result")
Models = list[dict[str, Any]]  # `data` of GET /v1/models

CONNECT_S = 20.0  # for a connection to be accepted
PROBE_S = 20.0  # for the list of models, which takes a healthy server milliseconds
FIRST_WAIT_S = 0.1  # doubled from fault to fault
LONGEST_WAIT_S = 30.0  # of a request that failed
LONGEST_PROBE_WAIT_S = 2.0  # of a replica that is set aside: asking for the models is cheap
FAULTS_IN_A_ROW = 3  # of a replica that accepts requests, before it is set aside like one that accepts none
WRONG_REPLIES = 4  # to one request, until it is given up: then no other attempt would bring a better one
TRY_AGAIN = ({408, 425, 429} | set(range(500, 600))) - {501, 505}  # HTTP statuses
OWN_FAULT = {400, 413, 422}  # statuses that a request gets for what it asks, rather than for whom or where it asks
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
SHOWN_CHARACTERS = 500  # of a server's message
LARGEST_REPLY = 1 << 26  # bytes, unpacked: some times what the longest prompt's log-probabilities take
MODEL_FIELDS: dict[str, Any] = {"id": str, "root": str | None, "max_model_len": int | None, "owned_by": str | None}


class WrongReply(ValueError):
    """A reply that cannot be what was asked for: cut off, garbled, of another request. The request is sent again."""


class Refused(EngineError):
    """This one request gets no answer, however often it is sent; the others may (`refusals.py`)."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Fault(Exception):
    """One attempt that failed in a way that the next may not."""

    def __init__(
        self, cause: str, accepted: bool = True, retry_after_s: float | None = None, wrong_reply: bool = False
    ) -> None:
        super().__init__(cause)
        self.accepted = accepted  # False: nothing listens there, or nothing answered the call
        self.retry_after_s = retry_after_s
        self.wrong_reply = wrong_reply  # a whole reply came, and it cannot be the answer


@dataclass(frozen=True)
class Reply:
    status: int
    reason: str
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


@dataclass
class Endpoint:
    """One replica, as the requests so far have found it."""

    url: str
    client: aiohttp.ClientSession
    secrets: tuple[str, ...] = ()  # what a server may repeat, and no message may
    in_flight: int = 0
    sent: int = 0
    faults: int = 0  # in a row: since the last request that went well
    setbacks: int = 0  # times set aside or found still away, since the last request that went well
    aside: bool = True  # until its models have been listed
    known: bool = False  # they have been, some time
    last_fault: str = "it has not answered yet"


class Endpoints:
    """All replicas of one model. Made on the loop on which it is used.

    timeout_s: of one attempt. patience_s: from a request's first fault until no attempt is started any more, and how
    long a request waits while all replicas are set aside. concurrency: requests in flight or to be tried again.
    verify: raises EngineError when a replica (url, its models) serves something else; asked when a replica is first
    seen and whenever it comes back. ended: the error to end with, once it is known that no replica will come back.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str | None,
        timeout_s: float,
        patience_s: float,
        concurrency: int,
        verify: Callable[[str, Models], None],
        ended: Callable[[], EngineError | None] = lambda: None,
    ) -> None:
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._verify, self._ended = verify, ended
        self._slots = asyncio.Semaphore(concurrency)
        self._some_ready = asyncio.Event()
        self._broken: EngineError | None = None
        self._probes: set[asyncio.Task[None]] = set()
        self._name = f"promptcot-{secrets.token_hex(8)}"  # what our requests' ids begin with
        self._numbers = itertools.count()
        key = _checked_key(key)
        self._all = [Endpoint(url, _client(url, key), (key,) if key else ()) for url in map(normal_url, urls)]

    async def open(self, patience_s: float) -> None:
        """Ask every replica once, and go on as soon as one is there; the others are asked again in the background.

        Raises: EngineError when a replica serves something else, or none is there within `patience_s`.
        """
        await asyncio.gather(*(self._probe(endpoint) for endpoint in self._all))
        for endpoint in self._all:
            if endpoint.aside:
                self._await_return(endpoint, FIRST_WAIT_S)
        try:
            await self._ready_one(None, time.monotonic() + patience_s)
        except TimeoutError:
            first = self._all[0]
            raise self._gave_up("the list of models", first, first.last_fault, patience_s) from None

    async def close(self) -> None:
        """Drop the connections and stop asking. Requests must have ended."""
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        for endpoint in self._all:
            await endpoint.client.close()

    async def post(self, path: str, body: Mapping[str, Any], what: str, read: Callable[[Any], Result]) -> Result:
        """`read(reply)` of the one attempt that went well. `what` names the request in an error.

        Raises: Refused when this request gets no usable answer though the server is there; EngineError when the server
        refuses whoever asks, or the request has failed until patience was used up.
        """
        content = json.dumps(body).encode()
        deadline: float | None = None
        wrong_replies = 0
        failed_at = self._all[0]
        async with self._slots:
            for attempt in itertools.count():
                waiting_until = deadline or time.monotonic() + self._patience_s
                try:
                    endpoint = await self._ready_one(failed_at if attempt else None, waiting_until)
                except TimeoutError:
                    raise self._gave_up(what, failed_at, failed_at.last_fault, self._patience_s, attempt) from None
                try:
                    return await self._attempt(endpoint, path, content, what, read)
                except Fault as fault:
                    failed_at = endpoint
                    self._note(endpoint, fault)
                    wrong_replies += fault.wrong_reply
                    if wrong_replies == WRONG_REPLIES:
                        detail = f"{endpoint.url}, {what}: {wrong_replies} times {fault}"
                        raise Refused(Refusal(UNUSABLE, detail)) from fault
                    now = time.monotonic()
                    deadline = deadline or now + self._patience_s
                    if now >= deadline:
                        raise self._gave_up(what, endpoint, str(fault), self._patience_s, attempt + 1) from fault
                    await asyncio.sleep(min(backoff_s(attempt, LONGEST_WAIT_S), deadline - now))
        raise AssertionError("the loop above has no end")

    async def _attempt(
        self, endpoint: Endpoint, path: str, content: bytes, what: str, read: Callable[[Any], Result]
    ) -> Result:
        endpoint.in_flight += 1
        endpoint.sent += 1
        request_id = f"{self._name}-{next(self._numbers)}"  # vLLM's reply has it too
        try:
            reply = await _answer(endpoint, "POST", path, self._timeout_s, content, request_id)
        finally:
            endpoint.in_flight -= 1
        if not reply.is_success:
            words = f"{endpoint.url} refused {what}: {said(reply)}"
            raise Refused(Refusal(reason_of(reply), words)) if reply.status in OWN_FAULT else EngineError(words)

        def result_of(reply: Reply) -> Result:
            answer = json.loads(reply.body)
            self._check_id(answer, request_id)
            return read(answer)

        try:
            result = _read_without(endpoint.secrets, reply, result_of)
        except Refused as error:
            raise Refused(Refusal(error.refusal.reason, f"{endpoint.url}, {what}: {error}")) from error
        except EngineError as error:
            raise EngineError(f"{endpoint.url}, {what}: {error}") from error
        except WrongReply as error:
            raise Fault(f"a reply that cannot be used: {error}", wrong_reply=True) from error
        except (ValueError, RecursionError) as error:  # no JSON
            raise Fault(f"a reply that cannot be read: {error}") from error
        endpoint.faults = endpoint.setbacks = 0
        return result

    def _check_id(self, answer: Any, request_id: str) -> None:
        """Raises: WrongReply for an id of ours that is another request's; a gateway may have given one of its own."""
        found = answer.get("id") if isinstance(answer, dict) else None
        if isinstance(found, str) and self._name in found and not found.endswith(request_id):
            raise WrongReply(f"it is of request {found!r} and not of {request_id!r}")

    async def _ready_one(self, failed_at: Endpoint | None, deadline: float) -> Endpoint:
        """The least busy replica that is not set aside, rather not the one that just failed; waits until there is one.

        Raises: TimeoutError at the deadline; EngineError when waiting has become pointless.
        """
        while True:
            if self._broken is not None:
                raise self._broken
            ready = [endpoint for endpoint in self._all if not endpoint.aside]
            if ready:
                return min(ready, key=lambda one: (one is failed_at, one.in_flight, one.sent))
            self._some_ready.clear()
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._some_ready.wait()

    def _note(self, endpoint: Endpoint, fault: Fault) -> None:
        """Remember the fault; a replica that seems to be away, or asks for a pause, is set aside."""
        endpoint.faults += 1
        endpoint.last_fault = str(fault)
        if (error := self._ended()) is not None:
            self._break(error)
        elif not endpoint.aside and (
            not fault.accepted or fault.retry_after_s is not None or endpoint.faults >= FAULTS_IN_A_ROW
        ):
            wait = fault.retry_after_s
            self._await_return(endpoint, backoff_s(endpoint.setbacks, LONGEST_PROBE_WAIT_S) if wait is None else wait)

    def _await_return(self, endpoint: Endpoint, wait_s: float) -> None:
        endpoint.aside = True
        if all(one.aside for one in self._all):
            self._some_ready.clear()
        probe = asyncio.create_task(self._probe_until_back(endpoint, wait_s))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _probe_until_back(self, endpoint: Endpoint, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        while True:
            endpoint.setbacks += 1
            await self._probe(endpoint)
            if not endpoint.aside or self._broken is not None:
                return
            await asyncio.sleep(backoff_s(endpoint.setbacks, LONGEST_PROBE_WAIT_S))

    async def _probe(self, endpoint: Endpoint) -> None:
        """List its models: is it there, and does it serve what is asked for?

        What is no list of models is an error at first (a wrong address), and a fault of a replica that once had one (a
        gateway that answers for it while it is away).
        """
        try:
            reply = await _answer(endpoint, "GET", "models", PROBE_S)
            _read_without(endpoint.secrets, reply, lambda one: self._verify(endpoint.url, listed_models(one)))
        except WrongReply as error:
            endpoint.last_fault = str(error)
            if not endpoint.known:
                self._break(EngineError(f"{endpoint.url} does not list its models: {error}"))
        except Fault as fault:
            endpoint.last_fault = str(fault)
            if (ended := self._ended()) is not None:
                self._break(ended)
        except EngineError as error:
            self._break(error)
        else:
            endpoint.aside, endpoint.known = False, True
            self._some_ready.set()

    def _break(self, error: EngineError) -> None:
        """Every request ends with this error: no waiting can help."""
        self._broken = error
        self._some_ready.set()

    def _gave_up(self, what: str, endpoint: Endpoint, cause: str, patience_s: float, attempts: int = 0) -> EngineError:
        away = [one for one in self._all if one is not endpoint and one.aside]
        return EngineError(
            f"{endpoint.url} failed {what}: {cause} (gave up after {patience_s:g} s and {attempts} "
            "attempts at this request)" + "".join(f"; {one.url} is away as well: {one.last_fault}" for one in away)
        )


async def _answer(
    endpoint: Endpoint,
    method: str,
    path: str,
    timeout_s: float,
    content: bytes | None = None,
    request_id: str | None = None,
) -> Reply:
    """The reply to a request, read to its end; of one that is no success neither body nor reason repeats a key.

    Raises: Fault for what may go better another time.
    """
    headers = {"X-Request-Id": request_id} if request_id else {}
    try:
        async with (
            asyncio.timeout(timeout_s),
            endpoint.client.request(method, path, data=content, headers=headers, allow_redirects=False) as response,
        ):
            reply = Reply(response.status, response.reason or "", await _whole(response))
    except aiohttp.ClientError as error:
        not_accepted = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        said_so = _without(endpoint.secrets, f"{type(error).__name__}: {error}".encode(errors="replace")).decode()
        raise Fault(_plain(said_so).rstrip(": "), accepted=not not_accepted) from error
    except TimeoutError:
        raise Fault(f"no reply within {timeout_s:g} s") from None
    if not reply.is_success:
        reply = _scrubbed(endpoint.secrets, reply)
    if reply.status in TRY_AGAIN:
        raise Fault(said(reply), retry_after_s=retry_after_s(response.headers.get("Retry-After")))
    return reply


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body as it is unpacked, up to a bound: a few packed bytes may stand for more than there is memory.

    Raises: Fault beyond it.
    """
    body = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        body += part
        if len(body) > LARGEST_REPLY:
            raise Fault(f"a reply of more than {LARGEST_REPLY >> 20} MiB", wrong_reply=True)
    return bytes(body)


def _read_without(secrets: Sequence[str], reply: Reply, read: Callable[[Reply], Result]) -> Result:
    """`read(reply)`. Where that fails it is read again without the key, for an error that repeats nothing of it: a
    message may be cut in the middle of one."""
    try:
        return read(reply)
    except (EngineError, ValueError, RecursionError):
        scrubbed = _scrubbed(secrets, reply)
        if scrubbed == reply:
            raise
    return read(scrubbed)


def listed_models(reply: Reply) -> Models:
    """Raises: WrongReply."""
    if not reply.is_success:
        raise WrongReply(said(reply))
    try:
        models: Models = json.loads(reply.body)["data"]
        for model in models:
            if not all(
                isinstance(model[name], kind) for name, kind in MODEL_FIELDS.items() if name in model or name == "id"
            ):
                raise TypeError("a field of another type")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WrongReply(f"{reply.text[:SHOWN_CHARACTERS]!r} is none") from error
    return models


def reason_of(reply: Reply) -> str:
    """Why a server refuses a request for what it asks: by OpenAI's error codes, else by the words servers use."""
    words = reply.text.lower()
    if any(sign in words for sign in ("content_filter", "content_policy", "content management policy")):
        return FILTERED
    if any(sign in words for sign in ("context_length_exceeded", "maximum context length", "context window")):
        return TOO_LONG
    return REFUSED


def said(reply: Reply) -> str:
    """Status and message of a reply that is no success."""
    try:
        message = json.loads(reply.body)
        message = message.get("error", message)  # OpenAI's form, else the whole
        message = message["message"] if isinstance(message, dict) and "message" in message else message
    except (ValueError, AttributeError, RecursionError):
        message = reply.text
    return f"HTTP {reply.status} {_plain(reply.reason)}: {_plain(str(message))[:SHOWN_CHARACTERS]}".rstrip(": ")


def _plain(text: str) -> str:
    """On one line, and without what steers a terminal or no table takes, as a lone surrogate."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, written as seconds or as a date; None without a readable one."""
    if not value:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(value)) if math.isfinite(float(value)) else None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def backoff_s(attempt: int, longest_s: float) -> float:
    """Exponential, with jitter so that requests that failed together do not come back together."""
    return min(longest_s, FIRST_WAIT_S * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)


def normal_url(url: str) -> str:
    """http(s)://host[:port]/path with a slash at the end; without a path it is /v1. Raises: EngineError."""
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname or "", parts.port
        host = host.encode("idna").decode("idna")  # else the HTTP client raises, later
    except ValueError:
        host = ""
    if parts.scheme not in ("http", "https") or not host:
        raise EngineError(f"engine.server.urls: {url!r} is no http(s) address, e.g. http://10.0.0.1:8000/v1")
    return urlunsplit((parts.scheme, parts.netloc, (parts.path.rstrip("/") or "/v1") + "/", "", ""))


def _without(secrets: Sequence[str], body: bytes) -> bytes:
    for secret in secrets:
        body = body.replace(secret.encode(), b"***")
    return body


def _scrubbed(secrets: Sequence[str], reply: Reply) -> Reply:
    reason = _without(secrets, reply.reason.encode(errors="replace")).decode()
    return replace(reply, reason=reason, body=_without(secrets, reply.body))


def _checked_key(key: str | None) -> str | None:
    """A key without the line's end that a file of it has. Raises: EngineError, without repeating it."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EngineError(
            "the API key holds characters that no key has; set the environment variable that api_key_variable names to "
            "the bare key"
        )
    return key or None


def _client(url: str, key: str | None) -> aiohttp.ClientSession:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return aiohttp.ClientSession(
        base_url=url,
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0),  # `concurrency` bounds them
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),  # an attempt as a whole has its own
        trust_env=urlsplit(url).hostname not in LOOPBACK,  # a proxy has no business within this machine
    )
