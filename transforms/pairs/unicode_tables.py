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
ALNUM, SPACE, ODD, FOLDS, COMBINES = 1, 2, 4, 8, 16
_JAMO = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))  # join the Hangul syllable before them


class Characters(NamedTuple):
    """Tables by code point.

    Fields:
      flags: uint8[END], of ALNUM (`str.isalnum`), SPACE (`str.isspace`), FOLDS (has another case
        folding), COMBINES (a combining mark, or decomposes to marks alone: three of class 0 do) and
        ODD: a text with it might not be NFC (it changes, or joins the character before it), or
        it is the ampersand.
      folded: uint32[END, 3], the case folding of each that FOLDS, 0 where it is shorter.
      combining: uint8[END], the canonical combining class.
    """

    flags: npt.NDArray[np.uint8]
    folded: npt.NDArray[np.uint32]
    combining: npt.NDArray[np.uint8]


@lru_cache(maxsize=1)
def characters() -> Characters:
    """The tables, made once; what can be asked for all characters at once is."""
    every = [*map(chr, range(END))]
    wide = np.arange(END, dtype=np.uint32).view("U1")
    combining = np.fromiter(map(unicodedata.combining, every), np.uint8, END)
    flags = np.where(np.strings.isalnum(wide), ALNUM, 0).astype(np.uint8)
    flags[np.strings.isspace(wide)] |= SPACE
    flags[combining > 0] |= COMBINES
    folded = np.zeros((END, 3), np.uint32)
    cased = np.strings.islower(wide) | np.strings.isupper(wide) | np.strings.istitle(wide)
    for character in wide[cased].tolist():
        if (folding := character.casefold()) != character:
            flags[ord(character)] |= FOLDS
            folded[ord(character), : len(folding)] = [*map(ord, folding)]
    for character, parts in zip(every, map(unicodedata.decomposition, every), strict=True):
        if parts and parts[0] != "<":  # else it is NFC and composed of nothing, or Hangul
            if unicodedata.combining(unicodedata.normalize("NFD", character)[0]):
                flags[ord(character)] |= COMBINES
            if unicodedata.normalize("NFC", character) != character:
                flags[ord(character)] |= ODD
            elif " " in parts:
                flags[int(parts.partition(" ")[2], 16)] |= ODD
    flags[list(_JAMO)] |= ODD
    flags[ord("&")] |= ODD
    return Characters(flags, folded, combining)
