"""Pinned revisions: filled in from locks, missing ones named, and resolved at a hub (a small one on loopback)."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from promptcot_assets.settings import SettingsError, load_settings, pins
from promptcot_assets.settings.loading import PROFILES, lock_folder

A, B, C = "a" * 40, "b" * 40, "c" * 40
PROFILE = """
extends: demo
corpus: {files: {maths: ["hf:org/seeds#train", "hf:org/more/hard@main#train", "hf:org/old@v1#train", local.jsonl]}}
teachers:
  pinned: {model: {hub_id: org/pinned}}
  own: {model: {hub_id: org/own, revision: abc}}
  free: {model: {hub_id: org/free}}
synthesis: {embedding: {name: org/sentences}}
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(PROFILE)
    (tmp_path / "revisions.lock").write_text(f"org/pinned: {A}  # why\norg/sentences: {B}\n")
    return tmp_path / "mine.yaml"


def test_a_lock_fills_in_what_a_profile_leaves_out(profile: Path) -> None:
    settings = load_settings(str(profile))
    revisions = {name: teacher.model.revision for name, teacher in settings.teachers.items()}
    assert revisions == {"pinned": A, "own": "abc", "free": None}
    assert settings.synthesis.embedding and settings.synthesis.embedding.revision == B
    assert pins.unpinned(settings.model_dump()) == [
        "datasets/org/more", "datasets/org/old@v1", "datasets/org/seeds", "org/free",
    ]  # fmt: skip
    with (profile.parent / "revisions.lock").open("a") as lock:
        lock.write(f"org/free: {C}\ndatasets/org/seeds: {C}\ndatasets/org/more: {A}\ndatasets/org/old@v1: {B}\n")
    settings = load_settings(str(profile))
    assert settings.corpus.files["maths"] == [
        f"hf:org/seeds@{C}#train", f"hf:org/more/hard@{A}#train", f"hf:org/old@{B}#train", "local.jsonl",
    ]  # fmt: skip
    assert pins.unpinned(settings.model_dump()) == []


def test_a_configuration_keeps_its_place_and_a_local_folder_needs_no_pin(tmp_path: Path) -> None:
    assert pins.with_pins("hf:org/x/main#test", {"datasets/org/x": A}) == f"hf:org/x/main@{A}#test"
    assert pins.unpinned({"base": {"hub_id": str(tmp_path)}, "embedding": {"name": str(tmp_path)}}) == []
    assert pins.unpinned({"engine": {"name": "vllm"}, "semantic": {"name": "a/b"}}) == ["a/b"]


@pytest.mark.parametrize("commit", ["main", "abc", "A" * 40, 7])
def test_a_lock_holds_full_commits_only(profile: Path, commit: object) -> None:
    (profile.parent / "revisions.lock").write_text(f"org/pinned: {commit}\n")
    with pytest.raises(SettingsError, match=r"revisions.lock: org/pinned: .* not a full commit hash"):
        load_settings(str(profile))


def test_our_lock_says_of_every_commit_where_it_was_seen() -> None:
    lines = [line for line in (PROFILES / pins.LOCK).read_text().splitlines() if line and not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[\w./-]+: [0-9a-f]{40}  # \S.*", line) for line in lines)
    assert len(yaml.safe_load("\n".join(lines))) == len(lines)
    assert lock_folder("demo") == PROFILES


class Hub(http.server.BaseHTTPRequestHandler):
    """What the hub's API says of a revision."""

    commits: ClassVar[dict[str, str]] = {
        "/api/models/org/free/revision/main": B,
        "/api/datasets/org/seeds/revision/main": C,
        "/api/datasets/org/more/revision/main": A,
        "/api/datasets/org/old/revision/v1": B,
    }

    def do_GET(self) -> None:
        commit = self.commits.get(self.path.partition("?")[0])
        body = json.dumps({"id": "org/x", "sha": commit} if commit else {"error": "Repository not found"}).encode()
        self.send_response(200 if commit else 404)
        if not commit:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def pinned(profile: Path, hub: str) -> subprocess.CompletedProcess[str]:
    """`promptcot pin` in a process of its own: the hub's address is read once, at import."""
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-m", "promptcot_assets.cli", "pin", str(profile)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_pin_adds_the_commits_that_main_has_to_the_lock_beside_the_profile(profile: Path, hub: str) -> None:
    first = pinned(profile, hub)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [
        f"datasets/org/more: {A}", f"datasets/org/old@v1: {B}", f"datasets/org/seeds: {C}", f"org/free: {B}",
    ]  # fmt: skip
    lock = (profile.parent / "revisions.lock").read_text()
    assert lock.startswith(f"org/pinned: {A}  # why\n") and re.search(
        rf"^org/free: {B}  # main on \d{{4}}-", lock, re.M
    )
    assert load_settings(str(profile)).teachers["free"].model.revision == B
    again = pinned(profile, hub)
    assert (again.returncode, again.stdout) == (0, "nothing to pin\n")
    assert (profile.parent / "revisions.lock").read_text() == lock


def test_pin_writes_nothing_when_one_commit_cannot_be_had(profile: Path, hub: str) -> None:
    profile.write_text(PROFILE.replace("org/own, revision: abc", "org/gone"))
    before = (profile.parent / "revisions.lock").read_text()
    failed = pinned(profile, hub)
    assert failed.returncode == 1 and "does not tell the commit of org/gone" in failed.stderr
    assert "Traceback" not in failed.stderr and (profile.parent / "revisions.lock").read_text() == before


def test_pin_without_a_hub_says_what_to_check(profile: Path) -> None:
    failed = pinned(profile, "http://127.0.0.1:9")
    assert failed.returncode == 1 and "does not tell the commit" in failed.stderr and "HF_HUB_OFFLINE" in failed.stderr
