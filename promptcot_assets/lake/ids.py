"""Row ids: short content hashes, so that equal content has equal ids in every run and on every machine."""

from __future__ import annotations

import hashlib
import json


def content_id(*parts: object) -> str:
    """16 hex digits of the SHA-256 of the parts as canonical JSON (strings, numbers, None, lists of these)."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def seed_from(*parts: object) -> int:
    """A 63-bit sampling seed that depends on the content alone, so never on a row's position or its worker."""
    return int(content_id("seed", *parts), 16) >> 1


def in_share(share: float, *parts: object) -> bool:
    """Whether these parts are among `share` of all, by their hash: a draw that nothing else ever moves."""
    return int(content_id(*parts), 16) < share * 16**16
