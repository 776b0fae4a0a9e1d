"""The hub's client against a server that answers as the hub does: why a model cannot be had is one sentence."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = (
    "import sys; from pathlib import Path; from promptcot_assets.stages.base_models import from_hub;"
    "from promptcot_assets.stages.hub_errors import in_one_sentence\n"
    f"with in_one_sentence('org/model', '{COMMIT}'): from_hub('org/model', '{COMMIT}', Path(sys.argv[1]))"
)


@contextmanager
def hub(status: int, code: str) -> Iterator[str]:
    """A hub that answers every request with this status and the header that says why; its address."""

    class Handler(BaseHTTPRequestHandler):
        def _refuse(self) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = _refuse

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def said(tmp_path: Path, endpoint: str, **more: str) -> str:
    """The last line of a process that asks for the model: the hub's client reads its variables once, at import."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = clean | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")} | more
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "model")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode and not (tmp_path / "model").exists()
    return done.stderr.strip().splitlines()[-1]


# status and code of the hub, what is said
REFUSALS = [
    (
        403,
        "GatedRepo",
        "org/model is gated at the Hugging Face hub: accept its terms at https://huggingface.co/org/model",
    ),
    (
        401,
        "GatedRepo",
        "org/model is gated at the Hugging Face hub: accept its terms at https://huggingface.co/org/model",
    ),
    (404, "RepoNotFound", "the Hugging Face hub has no org/model, or it is private: correct hub_id, or set HF_TOKEN"),
    (404, "RevisionNotFound", f"the Hugging Face hub has no commit {COMMIT} of org/model: correct `revision`"),
]


@pytest.mark.parametrize(("status", "code", "sentence"), REFUSALS)
def test_what_the_hub_refuses_is_one_sentence_with_its_mend(
    tmp_path: Path, status: int, code: str, sentence: str
) -> None:
    with hub(status, code) as endpoint:
        line = said(tmp_path, endpoint)
    assert line.startswith(f"FileNotFoundError: {sentence}"), line


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["nobody answers", "told to be offline"])
def test_no_network_is_one_sentence_with_its_mends(tmp_path: Path, more: dict[str, str]) -> None:
    line = said(tmp_path, "http://127.0.0.1:9", **more)
    assert line == (
        "FileNotFoundError: org/model@0123456789ab is not in the Hugging Face hub's cache and the hub cannot be "
        "reached: connect to the network (unset HF_HUB_OFFLINE), point HF_HOME at a cache that holds this commit, or "
        "give the path of a local folder instead of the hub id"
    )
