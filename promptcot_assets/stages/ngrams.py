"""Words and n-grams of many texts at once, as arrays of 64-bit hashes: what deduplication and decontamination compare.

Normal form of a text: Unicode NFKC, lower case, cut into tokens. A token is a maximal run of letters, a maximal run of
digits, or one mathematical sign (`+ - / ^ = < > | ! % ( ) [ ]` and whatever beyond ASCII is no letter and no
punctuation). White space, sentence punctuation and the marks of LaTeX and Markdown (`$ \\ { } _ * #` ...) separate
tokens and are else ignored.
With `symbols=False` the signs are ignored too and a run of letters and digits is one word, as 13-gram tests have it.

All arithmetic is modulo 2^64 on arrays over a whole chunk of texts; nothing runs once per word in Python. Hashes depend
on the text alone: the same on every machine, in every process, for ever (they are stored in indexes).
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]

_SEPARATOR, _LETTER, _DIGIT, _SIGN = range(4)
_SIGNS = b"+-/^=<>|!%()[]"
_LOWER = bytes(range(256)).lower()
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the usual odd multiplier
_ALONE = re.compile(r"[^\x00-\x7f\w]|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # signs; scripts without spaces
_PLAIN_SIGNS = [(sign, "-") for sign in "−–—‐‑"]  # to NFKC these are signs of their own


def _classes(symbols: bool) -> bytes:
    table = bytearray([_SEPARATOR] * 256)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalpha():
            table[byte] = _LETTER
        elif chr(byte).isdigit():
            table[byte] = _DIGIT if symbols else _LETTER
        elif symbols and byte in _SIGNS:
            table[byte] = _SIGN
    return bytes(table)


_CLASSES = {symbols: _classes(symbols) for symbols in (False, True)}


@dataclass(frozen=True)
class Tokens:
    """Tokens of `len(offsets) - 1` texts; those of text i are at `offsets[i]:offsets[i + 1]` of the other arrays."""

    normal: bytes  # the texts, lower-cased and NUL-separated
    starts: Positions
    ends: Positions
    numeric: NDArray[np.bool_]
    hashes: Hashes
    offsets: Positions

    def words(self, text: int) -> list[str]:
        """The tokens of one text as strings."""
        first, last = self.offsets[text], self.offsets[text + 1]
        spans = zip(self.starts[first:last].tolist(), self.ends[first:last].tolist(), strict=True)
        return [self.normal[start:end].decode(errors="replace") for start, end in spans]

    def text_between(self, first: int, end: int) -> str:
        """The lower-cased text from token `first` up to, not including, token `end`, with what lies between them."""
        if first >= end:
            return ""
        return self.normal[self.starts[first] : self.ends[end - 1]].decode(errors="replace")

    def fingerprints(self) -> Hashes:
        """One hash a text, equal when the token sequences are equal. [texts]"""
        return _sequence_hashes(self.hashes, self.offsets)

    def number_fingerprints(self) -> Hashes:
        """One hash a text, equal when the sequences of numbers in them are equal. [texts]"""
        before = np.concatenate(([0], np.cumsum(self.numeric)))
        return _sequence_hashes(self.hashes[self.numeric], before[self.offsets])

    def ngrams(self, n: int) -> tuple[Hashes, Positions]:
        """Hashes of all runs of `n` tokens inside a text, in order: `(hashes [grams], offsets [texts + 1])`.

        A text of fewer than `n` tokens has none.
        """
        if len(self.hashes) < n:
            return np.zeros(0, np.uint64), np.zeros_like(self.offsets)
        last = len(self.hashes) - n + 1
        grams = self.hashes[:last].copy()
        for k in range(1, n):
            grams *= _ODD
            grams += self.hashes[k : k + last]
        inside = np.ones(len(self.hashes), bool)  # a run that starts among the last n - 1 tokens would leave its text
        for k in range(1, n):
            starts = self.offsets[1:] - k
            inside[starts[starts >= self.offsets[:-1]]] = False
        counts = np.maximum(np.diff(self.offsets) - (n - 1), 0)
        return mix(grams[inside[:last]]), np.concatenate(([0], np.cumsum(counts)))


def tokenize(texts: Sequence[str], symbols: bool = True) -> Tokens:
    """Tokens of all `texts` in the normal form above. Chunks of a few hundred texts keep the arrays in cache."""
    if not texts:
        empty = np.zeros(0, np.int64)
        return Tokens(b"", empty, empty, empty.astype(bool), empty.astype(np.uint64), np.zeros(1, np.int64))
    joined = "\0".join(texts)
    if not joined.isascii() or joined.count("\0") != len(texts) - 1:
        joined = "\0".join(_plain(text, symbols) for text in texts)
    normal = joined.encode("utf-8", "surrogatepass").translate(_LOWER)
    classes = np.frombuffer(b"\0" + normal.translate(_CLASSES[symbols]) + b"\0", np.uint8)
    before, here = classes[:-1], classes[1:]
    changes = (here != before) | (here == _SIGN)  # a sign is a token of its own even beside another
    starts = np.flatnonzero(changes & (here != _SEPARATOR))
    ends = np.flatnonzero(changes & (before != _SEPARATOR))
    text_ends = np.flatnonzero(np.frombuffer(normal, np.uint8) == 0)
    offsets = np.concatenate(([0], np.searchsorted(starts, text_ends), [len(starts)]))
    return Tokens(normal, starts, ends, here[starts] == _DIGIT, _token_hashes(normal, starts, ends), offsets)


def mix(values: Hashes) -> Hashes:
    """The finalizer of splitmix64: a bijection of 64-bit integers whose every output bit depends on every input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _plain(text: str, symbols: bool) -> str:
    """Text beyond ASCII in compatibility form, signs (and each letter of an unspaced script) set apart by spaces."""
    text = text.replace("\0", " ")
    if text.isascii():
        return text
    for sign, plain in _PLAIN_SIGNS:
        text = text.replace(sign, plain)
    text = unicodedata.normalize("NFKC", text).casefold()
    return _ALONE.sub(lambda match: _apart(match[0], symbols), text)


def _apart(sign: str, symbols: bool) -> str:
    punctuation = unicodedata.category(sign).startswith("P")
    return f" {sign} " if sign.isalnum() or (symbols and not punctuation) else " "


def _token_hashes(normal: bytes, starts: Positions, ends: Positions) -> Hashes:
    """Hash of each token's bytes, eight bytes a step; tokens of up to eight bytes never collide with each other."""
    padded = np.frombuffer(normal + bytes(8), np.uint8)
    words = np.ndarray((len(padded) - 7,), "<u8", padded.data, strides=(1,))  # the eight bytes from every position
    keep = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)
    lengths = ends - starts
    hashes = mix(words.take(starts) & keep.take(lengths, mode="clip"))
    longer = np.flatnonzero(lengths > 8)
    step = 8
    while len(longer):
        more = words.take(starts[longer] + step) & keep.take(lengths[longer] - step, mode="clip")
        hashes[longer] = mix((hashes[longer] + _ODD) ^ more)
        step += 8
        longer = longer[lengths[longer] > step]
    return hashes


def _sequence_hashes(hashes: Hashes, offsets: Positions) -> Hashes:
    """One hash for each run `hashes[offsets[i]:offsets[i + 1]]`, sensitive to order; empty runs share one."""
    counts = np.diff(offsets)
    ranks = np.arange(len(hashes)) - np.repeat(offsets[:-1], counts)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mix(hashes + ranks.astype(np.uint64) * _ODD))))
    return mix(sums[offsets[1:]] - sums[offsets[:-1]] + counts.astype(np.uint64) * _ODD)
