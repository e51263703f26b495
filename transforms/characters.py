"""What the text kernels know of each character: Python's own Unicode tables, as arrays.

A code point from `END` on is neither letter, digit nor white space, folds to itself and is NFC:
a test asks Python about every one of them.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

END = 0x32400
# Blocks of letters alone, which have no case: their characters are asked nothing else.
_IDEOGRAPHS = ((0x3400, 0xA000), (0x20000, 0x2F800), (0x30000, END))

ALNUM, SPACE, ODD, FOLDS, COMBINES = 1, 2, 4, 8, 16
_JAMO = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))  # join the Hangul syllable before them


class Characters(NamedTuple):
    """Tables by code point.

    Fields:
      flags: uint8[END], of ALNUM (`str.isalnum`), SPACE (`str.isspace`), FOLDS (has another case
        folding), COMBINES (its combining class is not 0) and ODD: a text with it might not be
        NFC (it changes, or joins the character before it), or it is the ampersand.
      folded: uint32[END, 3], the case folding of each that FOLDS, 0 where it is shorter.
      combining: uint8[END], the canonical combining class.
    """

    flags: npt.NDArray[np.uint8]
    folded: npt.NDArray[np.uint32]
    combining: npt.NDArray[np.uint8]


def _flags(character: str) -> int:
    flags = ALNUM * character.isalnum() | SPACE * character.isspace()
    flags |= FOLDS * (character.casefold() != character)
    flags |= COMBINES * (unicodedata.combining(character) != 0)
    return flags | ODD * (unicodedata.normalize("NFC", character) != character)


@lru_cache(maxsize=1)
def characters() -> Characters:
    """The tables, made once: 70 ms."""
    flags = np.zeros(END, np.uint8)
    folded = np.zeros((END, 3), np.uint32)
    combining = np.zeros(END, np.uint8)
    at = 0
    for first, last in _IDEOGRAPHS:
        span = range(at, first)
        flags[at:first] = [_flags(chr(c)) for c in span]
        flags[first:last] = [chr(c).isalnum() for c in range(first, last)]
        at = last
    for code in np.flatnonzero(flags & FOLDS):
        points = [ord(c) for c in chr(code).casefold()]
        folded[code, : len(points)] = points
    for code in np.flatnonzero(flags & COMBINES):
        combining[code] = unicodedata.combining(chr(code))
    for decomposed in range(END):
        parts = unicodedata.decomposition(chr(decomposed)).split()
        if len(parts) == 2 and not flags[decomposed] & ODD and not parts[0].startswith("<"):
            flags[int(parts[1], 16)] |= ODD
    flags[list(_JAMO)] |= ODD
    flags[ord("&")] |= ODD
    return Characters(flags, folded, combining)
