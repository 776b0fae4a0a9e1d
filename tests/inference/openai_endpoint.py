"""A small real HTTP server over a tiny model that speaks the part of OpenAI's completions API that we use.

With `vllm=True` it also speaks vLLM's additions, and its replies have vLLM's shape; without, it refuses them as a
strict server does. It samples with the project's own model and noise, so a completion is the transformers engine's to
the token; and with a bare loop of its own, which gives what that engine does not show: every token's log-probability.
"""

import json
import threading
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from promptcot_assets.inference.language_model import LanguageModel
from promptcot_assets.inference.sampling import choose, uniforms

OPENAI_FIELDS = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "n", "stop", "logprobs", "echo"}
VLLM_FIELDS = {"top_k", "min_p", "repetition_penalty", "return_token_ids", "stop_token_ids", "prompt_logprobs"}
VLLM_FIELDS |= {"allowed_token_ids"}
CHAT_FIELDS = {"model", "messages", "max_tokens", "temperature", "top_p", "seed", "n", "stop"}
BLOCK = 4  # tokens of a prefix cache's block


class Wrong(Exception):
    """The request is refused with this message."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class OpenAIEndpoint:
    """Serves `model` at `url` until it is closed.

    asked: how often each request (its prompt's ids and seed) was answered. most_at_once: requests inside at one time.
    gather: the first requests wait until so many are inside, however slowly a busy machine sends them.
    prompt_logprobs, max_tokens_limit, key: what a server may lack, impose or demand. parses_thoughts: chat replies tell
    thoughts and answer apart. messages: those of every chat request.
    """

    def __init__(
        self,
        model: Path,
        vllm: bool = True,
        name: str | None = None,
        max_model_len: int | None = 256,
        prompt_logprobs: bool = True,
        max_tokens_limit: int | None = None,
        key: str | None = None,
        gather: int = 1,
        parses_thoughts: bool = True,
    ) -> None:
        self.name, self.root = name or str(model), str(model)
        self.vllm, self.max_model_len = vllm, max_model_len
        self.prompt_logprobs, self.max_tokens_limit, self.key = prompt_logprobs, max_tokens_limit, key
        self.asked: Counter[tuple[tuple[int, ...], int]] = Counter()
        self.gather, self.most_at_once, self._inside = gather, 0, 0
        self.parses_thoughts, self.messages = parses_thoughts, list[list[dict[str, str]]]()
        self._model = LanguageModel(model, threads=1, dtype="float32", device="cpu")
        self._cached: set[tuple[int, ...]] = set()
        self._computing, self._counting = threading.Lock(), threading.Condition()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def answered(self) -> int:
        return sum(self.asked.values())

    def models(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": self.name, "object": "model", "owned_by": "vllm" if self.vllm else "someone"}
        if self.vllm:
            entry |= {"root": self.root, "max_model_len": self.max_model_len}
        return {"object": "list", "data": [entry]}

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        with self._counting:
            self._inside += 1
            self.most_at_once = max(self.most_at_once, self._inside)
            self._counting.notify_all()
            self._counting.wait_for(lambda: self.most_at_once >= self.gather, timeout=60)
        try:
            with self._computing:
                reply = self._complete(body)
                self.asked[tuple(body["prompt"]), body.get("seed", 0)] += 1
                return reply
        finally:
            with self._counting:
                self._inside -= 1

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """A user's turn in the model's own chat template. Thoughts and answer are told apart as vLLM's parsers do."""
        known = CHAT_FIELDS | ({"chat_template_kwargs"} if self.vllm else set())
        if unknown := body.keys() - known:
            raise Wrong(f"Unrecognized request arguments supplied: {', '.join(sorted(unknown))}")
        ids = self._model.tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, tokenize=True, return_dict=False,
            **body.get("chat_template_kwargs", {}),
        )  # fmt: skip
        self.messages.append(body["messages"])
        told = {"model", "temperature", "top_p", "seed", "stop"}
        asked = {name: value for name, value in body.items() if name in told}
        reply = self.complete(asked | {"prompt": ids, "max_tokens": body.get("max_tokens", 16)})
        (choice,) = reply["choices"]
        thoughts, closed, answer = choice["text"].partition("</think>")
        if self.parses_thoughts and (closed or thoughts.startswith("<think>")):
            message = {"content": answer or None, "reasoning_content": thoughts.removeprefix("<think>")}
        else:
            message = {"content": choice["text"]}
        reply["object"] = "chat.completion"
        reply["choices"] = [
            {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": choice["finish_reason"]}
        ]
        return reply

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        if unknown := body.keys() - OPENAI_FIELDS - (VLLM_FIELDS if self.vllm else set()):
            raise Wrong(f"Unrecognized request arguments supplied: {', '.join(sorted(unknown))}")
        if body["model"] != self.name:
            raise Wrong(f"The model `{body['model']}` does not exist.", 404)
        prompt, limit = body["prompt"], body.get("max_tokens", 16)
        if self.max_model_len is not None and len(prompt) + limit > self.max_model_len:
            raise Wrong(f"This model's maximum context length is {self.max_model_len} tokens")
        if body.get("echo") and not self.prompt_logprobs:
            raise Wrong("echo is not supported with logprobs")
        if self.max_tokens_limit is not None:
            limit = min(limit, self.max_tokens_limit)
        before = [None, *self._prompt_logprobs(prompt)]
        ids, logprobs, stopped = self._sample(prompt, limit, body)
        text = self._model.tokenizer.decode(ids, skip_special_tokens=True)
        text = text[: min((at for at in map(text.find, body.get("stop", [])) if at >= 0), default=None)]
        if body.get("echo"):
            ids_shown, values, text = [*prompt, *ids], [*before, *logprobs], self._model.tokenizer.decode(prompt) + text
        else:
            ids_shown, values = ids, logprobs
        choice: dict[str, Any] = {
            "index": 0,
            "text": text,
            "finish_reason": "stop" if stopped else "length",
            "logprobs": None,
        }
        if body.get("logprobs") is not None:
            words = [self._model.tokenizer.decode([one]) for one in ids_shown]
            choice["logprobs"] = {"token_logprobs": values, "tokens": words}
        if self.vllm:
            asked_for = "prompt_logprobs" in body and self.prompt_logprobs
            choice["prompt_logprobs"] = _by_id(prompt, before) if asked_for else None
            if body.get("return_token_ids"):
                choice |= {"token_ids": ids, "prompt_token_ids": prompt}
        usage: dict[str, Any] = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        if self.vllm:
            usage["prompt_tokens_details"] = {"cached_tokens": self._from_cache(prompt)}
        return {"object": "text_completion", "model": self.name, "choices": [choice], "usage": usage}

    @torch.inference_mode()
    def _sample(self, prompt: list[int], limit: int, body: dict[str, Any]) -> tuple[list[int], list[float], bool]:
        """Sampled ids, their raw log-probabilities, and whether an end token or a stop string ended them."""
        model, ids, logprobs = self._model, list[int](), list[float]()
        seed = np.array([body.get("seed", 0) % (1 << 64)], dtype=np.uint64)
        ends = model.end_tokens | set(body.get("stop_token_ids", []))
        state = model.model(torch.tensor([prompt]), use_cache=True) if limit else None
        for step in range(limit):
            noise = torch.from_numpy(uniforms(seed, step))
            token, logprob = choose(
                state.logits[:, -1].float(), noise, body.get("temperature", 1.0), body.get("top_p", 1.0)
            )
            if "allowed_token_ids" in body:
                (only,) = body["allowed_token_ids"]
                token, logprob = torch.tensor([only]), state.logits[:, -1].float().log_softmax(-1)[:, only]
            ids.append(int(token))
            logprobs.append(float(logprob))
            text = model.tokenizer.decode(ids, skip_special_tokens=True)
            if ids[-1] in ends or any(stop in text for stop in body.get("stop", [])):
                return ids, logprobs, True
            state = model.model(token[None], past_key_values=state.past_key_values, use_cache=True)
        return ids, logprobs, False

    @torch.inference_mode()
    def _prompt_logprobs(self, prompt: list[int]) -> list[float]:
        """Of every token but the first."""
        ids = torch.tensor([prompt])
        return self._model.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].tolist()

    def _from_cache(self, prompt: list[int]) -> int:
        """Tokens of the prompt's longest beginning, in whole blocks, that an earlier prompt had as well."""
        beginnings = [tuple(prompt[:end]) for end in range(BLOCK, len(prompt), BLOCK)]
        found = max((len(one) for one in beginnings if one in self._cached), default=0)
        self._cached |= set(beginnings)
        return found


def _by_id(prompt: list[int], values: list[float | None]) -> list[dict[str, Any] | None]:
    return [
        None if value is None else {str(one): {"logprob": value, "rank": 1, "decoded_token": ""}}
        for one, value in zip(prompt, values, strict=True)
    ]


def _handler(endpoint: OpenAIEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def do_GET(self) -> None:
            self._answer(lambda: endpoint.models())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name = {"id": f"cmpl-{self.headers['X-Request-Id'] or uuid.uuid4().hex}"} if endpoint.vllm else {}
            work = endpoint.chat if self.path.endswith("/chat/completions") else endpoint.complete
            self._answer(lambda: work(json.loads(body)) | name)

        def _answer(self, work: Any) -> None:
            try:
                if endpoint.key and self.headers["Authorization"] != f"Bearer {endpoint.key}":
                    raise Wrong("Unauthorized", 401)
                status, reply = 200, work()
            except Wrong as error:
                status, reply = error.status, {"error": {"message": str(error), "type": "BadRequestError"}}
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler
