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
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]

_SIGNS = b"+-/^=<>|!%()[]"
_BAR, _CODE_OF_BAR = ord("|"), ord("\\")  # the only sign among the letters' codes takes that of a separator
_FIRST_LETTER = ord("`")  # codes from here on are letters: a to z, and the bytes of letters beyond ASCII
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the usual odd multiplier
_ALONE = re.compile(r"[^\x00-\x7f\w]|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # signs; scripts without spaces
_PLAIN_SIGNS = [(sign, "-") for sign in "−–—‐‑"]  # to NFKC these are signs of their own


def _codes(symbols: bool) -> bytes:
    """What each byte becomes: letters lower case, signs and digits themselves, all that separates a space."""
    table = bytearray(b" " * 256)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum():
            table[byte] = ord(chr(byte).lower()) if byte < 128 else byte
        elif symbols and byte in _SIGNS:
            table[byte] = _CODE_OF_BAR if byte == _BAR else byte
    return bytes(table)


_CODES = {symbols: _codes(symbols) for symbols in (False, True)}


@dataclass(frozen=True)
class Tokens:
    """Tokens of `len(offsets) - 1` texts; those of text i are at `offsets[i]:offsets[i + 1]` of the other arrays."""

    raw: bytes  # the texts, one directly after the other
    starts: Positions
    ends: Positions
    numeric: NDArray[np.bool_]
    hashes: Hashes
    offsets: Positions

    def words(self, text: int) -> list[str]:
        """The tokens of one text as strings."""
        first, last = self.offsets[text], self.offsets[text + 1]
        spans = zip(self.starts[first:last].tolist(), self.ends[first:last].tolist(), strict=True)
        return [self._lower(start, end) for start, end in spans]

    def text_between(self, first: int, end: int) -> str:
        """The lower-cased text from token `first` up to, not including, token `end`, with what lies between them."""
        return self._lower(self.starts[first], self.ends[end - 1]) if first < end else ""

    def _lower(self, start: int, end: int) -> str:
        return self.raw[start:end].lower().decode(errors="replace")

    def fingerprints(self) -> Hashes:
        """One hash a text, equal when the token sequences are equal. [texts]"""
        return _sequence_hashes(self.hashes, self.offsets)

    def number_fingerprints(self) -> Hashes:
        """One hash a text, equal when the sequences of numbers in them are equal. [texts]"""
        numbers = np.flatnonzero(self.numeric)
        return _sequence_hashes(self.hashes[numbers], np.searchsorted(numbers, self.offsets))

    def ngrams(self, n: int) -> tuple[Hashes, Positions]:
        """Hashes of all runs of `n` tokens, and how many start in each text: `(hashes [tokens], counts [texts])`.

        The k-th of text i is at `offsets[i] + k`, that of its k-th token. The entries from `offsets[i] + counts[i]` on,
        whose run would leave the text, mean nothing; a text of fewer than `n` tokens has none.
        """
        grams = self.hashes.copy()
        for k in range(1, n):
            grams *= _ODD
            grams[:-k] += self.hashes[k:]
        return grams, np.maximum(np.diff(self.offsets) - (n - 1), 0)


def tokenize(texts: Any, symbols: bool = True) -> Tokens:
    """Tokens of all `texts`, strings or an Arrow array of large strings (read in place), in the normal form above.

    Chunks of a few hundred texts keep the arrays in cache.
    """
    raw, limits = _joined(texts, symbols)
    codes = raw.translate(_CODES[symbols]) + b" " * 8  # hashing reads eight bytes from every start
    here = np.frombuffer(codes, np.uint8)[: len(raw)]
    solid, cuts = here != ord(" "), np.zeros(len(raw) + 1, bool)
    if symbols:
        letter, digit = here >= _FIRST_LETTER, (here ^ ord("0")) < 10
        sign = solid > (letter | digit)  # a sign is a token of its own even beside another
        cuts[1:-1] = (letter[1:] != letter[:-1]) | (digit[1:] != digit[:-1]) | sign[1:] | sign[:-1]
    else:
        cuts[1:-1] = solid[1:] != solid[:-1]
    cuts[limits] = True
    starts = np.flatnonzero(cuts[:-1] & solid)
    ends = np.flatnonzero(cuts[1:] & solid) + 1
    numeric = (here[starts] ^ ord("0")) < 10
    return Tokens(raw, starts, ends, numeric, _token_hashes(codes, starts, ends), np.searchsorted(starts, limits))


def ranges(starts: Positions, counts: Positions) -> Positions:
    """The numbers starts[i], starts[i] + 1, ... counts[i] of them, for each i in turn."""
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _joined(texts: Any, symbols: bool) -> tuple[bytes, Positions]:
    """The texts in UTF-8, one after the other, and where each begins and the last ends; beyond ASCII in plain form."""
    if isinstance(texts, pa.Array):
        _, places, data = texts.buffers()
        limits = np.frombuffer(cast(Any, places), np.int64)[texts.offset : texts.offset + len(texts) + 1]
        raw = bytes(data[int(limits[0]) : int(limits[-1])]) if data else b""
        if raw.isascii():
            return raw, limits - limits[0]
        texts = texts.to_pylist()
    pieces = [_plain(text, symbols).encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(pieces), np.cumsum([0, *map(len, pieces)])


def mix(values: Hashes) -> Hashes:
    """The finalizer of splitmix64: a bijection of 64-bit integers whose every output bit depends on every input bit."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _plain(text: str, symbols: bool) -> str:
    """Text beyond ASCII in compatibility form, signs (and each letter of an unspaced script) set apart by spaces."""
    if text.isascii():
        return text
    for sign, plain in _PLAIN_SIGNS:
        text = text.replace(sign, plain)
    text = unicodedata.normalize("NFKC", text).casefold()
    return _ALONE.sub(lambda match: _apart(match[0], symbols), text)


def _apart(sign: str, symbols: bool) -> str:
    punctuation = unicodedata.category(sign).startswith("P")
    return f" {sign} " if sign.isalnum() or (symbols and not punctuation) else " "


def _token_hashes(codes: bytes, starts: Positions, ends: Positions) -> Hashes:
    """Hash of each token's bytes, eight bytes a step; tokens of up to eight bytes never collide with each other."""
    words = np.ndarray((len(codes) - 7,), "<u8", codes, strides=(1,))  # the eight bytes from every position
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


@cache
def _powers(exponents: int) -> tuple[Hashes, Hashes]:
    """The first `exponents` powers of an odd number, and of its inverse."""
    odd = int(_ODD)
    factors = [np.array([1, *[base] * (exponents - 1)], np.uint64) for base in (odd, pow(odd, -1, 1 << 64))]
    return np.cumprod(factors[0], dtype=np.uint64), np.cumprod(factors[1], dtype=np.uint64)


def _sequence_hashes(hashes: Hashes, offsets: Positions) -> Hashes:
    """One hash for each run `hashes[offsets[i]:offsets[i + 1]]`, sensitive to order; empty runs share one.

    A polynomial in an odd number with the hashes as coefficients: differences of one running sum, shifted to begin at
    the power 0.
    """
    powers, inverses = _powers(1 << len(hashes).bit_length())
    sums = np.zeros(len(hashes) + 1, np.uint64)
    np.cumsum(hashes * powers[: len(hashes)], out=sums[1:])
    counts = np.diff(offsets).astype(np.uint64)
    return mix((sums[offsets[1:]] - sums[offsets[:-1]]) * inverses[offsets[:-1]] + counts * _ODD)
