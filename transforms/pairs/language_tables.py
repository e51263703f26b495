"""eldc's model and a list of English words, as arrays for kernels.

eldc's own function takes one Python string at a time, under the interpreter's lock. Its model is
read from the C sources that its package brings along.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import UInt64s, string_hashes
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.rules.language_codes import ENGLISH

LETTER, ALONE, JOINS = 1, 2, 3  # `kinds`: part of a word, a word by itself, joins two letters
_SLOTS = 1 << 21
_ALONE_BEYOND = ((0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0x2CEB0, 0x2EBEF), (0x2F800, 0x2FA1F))
KINDS_END = 0x2FA20


class EldcModel(NamedTuple):
    """eldc's n-grams and what each says for which languages.

    Fields:
      kinds: uint8[KINDS_END], what each character is to a word: LETTER, ALONE, JOINS, or 0.
      slots: uint32[2**21, 2], a hash table with open addressing. The upper half of an n-gram's
        hash, 0 where the slot is empty; and where its scores begin (24 bits), how many (8 bits).
      languages: uint8[m], places in `OF_ELDC`; scores: float32[m].
    """

    kinds: npt.NDArray[np.uint8]
    slots: npt.NDArray[np.uint32]
    languages: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]


@lru_cache(maxsize=1)  # 24 MB
def eldc_model() -> EldcModel:
    """Reads the model, in 0.3 s."""
    folder = Path(find_spec("eldc").origin).parent  # type: ignore[union-attr, arg-type]
    source = (folder / "large_db.h").read_bytes()
    slots = _c_array(source, b"ELD_hashtable", 2 * _SLOTS).reshape(_SLOTS, 2)
    # A score is a float whose lowest byte makes room for its language.
    entries = _c_array(source, b"ELD_blob", None)
    languages = (entries & np.uint32(0xFF)).astype(np.uint8)
    scores = (entries & np.uint32(0xFFFFFF00)).view(np.float32)
    return EldcModel(_kinds((folder / "eld_unicode_bits.h").read_bytes()), slots, languages, scores)


def _kinds(source: bytes) -> npt.NDArray[np.uint8]:
    kinds = np.zeros(KINDS_END, np.uint8)
    for name, kind in ((b"LETTER_BITS", LETTER), (b"CJK_BITS", ALONE)):  # a kanji is both
        bits = np.unpackbits(_c_array(source, name, 8192).astype(np.uint8), bitorder="little")
        kinds[np.flatnonzero(bits)] = kind
    for first, last in _ALONE_BEYOND:
        kinds[first : last + 1] = ALONE
    kinds[[ord("'"), ord("`"), ord("’")]] = JOINS
    return kinds


_DIGITS = np.full(256, 255, np.uint8)
for _digit, _byte in enumerate(b"0123456789ABCDEF"):
    _DIGITS[_byte] = _digit


def _c_array(source: bytes, name: bytes, size: int | None) -> npt.NDArray[np.uint32]:
    """The numbers of an array in C's source; its size is told by its commas where None."""
    start = source.index(b"{", source.index(name + b"["))
    stop = source.index(b";", start)
    numbers = np.zeros(size or source.count(b",", start, stop) + 1, np.uint32)
    count = _read_numbers(np.frombuffer(source, np.uint8)[start:stop], _DIGITS, numbers)
    if count != len(numbers):
        raise RuntimeError(f"eldc's {name.decode()} has {count} numbers, not {len(numbers)}")
    return numbers


@kernel
def _read_numbers(source, digits, numbers):  # type: ignore[no-untyped-def]
    """Fills `numbers`, and returns how many there were; `{0}` is two of them, as is `{0xA,0xB}`."""
    count, value, base, inside = 0, 0, 10, False
    for at in range(len(source)):
        byte = source[at]
        digit = digits[byte]
        if byte == ord("x"):
            base = 16
        elif digit < base:
            value, inside = value * base + digit, True
        else:
            if inside:
                numbers[count] = value
                count, value, base, inside = count + 1, 0, 10, False
            if byte == ord("}") and count & 1 and count < len(numbers):
                count += 1
    return count


@lru_cache(maxsize=1)  # 160,000 words, in 0.2 s
def english_words() -> UInt64s:
    """A hash table with open addressing, of the words' XXH64; 0 where a place is empty."""
    from spellchecker import SpellChecker

    words = pa.array([*SpellChecker(language=ENGLISH).word_frequency.words()], pa.string())
    table = np.zeros(1 << len(words).bit_length(), np.uint64)
    _fill(string_hashes(words), table)
    return table


@kernel
def _fill(hashes, table):  # type: ignore[no-untyped-def]
    last = np.uint64(len(table) - 1)
    for row in range(len(hashes)):
        at = hashes[row] & last
        while table[at]:
            at = (at + np.uint64(1)) & last
        table[at] = hashes[row]
