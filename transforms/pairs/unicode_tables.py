"""Characters in the text kernels: Python's own Unicode tables as arrays, and valid UTF-8.

A code point from `END` on is neither letter, digit nor white space, folds to itself and is NFC:
a test asks Python about every one of them.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

END = 0x32400
ALNUM, SPACE, ODD, FOLDS, COMBINES, MARK, UNSPACED = 1, 2, 4, 8, 16, 32, 64
# Marks from here on are signs of a script, for vowels mostly, but for these, which any letter may
# have. Before are accents of Latin, Greek and Cyrillic.
_SIGNS_FROM = 0x0590
_OF_ANY_LETTER = (
    *((0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF)),
    *((0xFE00, 0xFE0F), (0xFE20, 0xFE2F)),
)
# Thai, Lao, Tibetan, Burmese, Khmer, kana and Han, which are written without spaces.
_WITHOUT_SPACES = (
    *((0x0E00, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF)),
    *((0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F), (0x20000, 0x323AF)),
)
_JAMO = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))  # join the Hangul syllable before them


class Characters(NamedTuple):
    """Tables by code point.

    Fields:
      flags: uint8[END], of ALNUM (`str.isalnum`), SPACE (`str.isspace`), FOLDS (has another case
        folding), COMBINES (a combining mark, or decomposes to marks alone: three of class 0 do),
        MARK (a vowel sign or another mark of a script that has such signs), UNSPACED (a letter of
        a script without spaces) and ODD: a text with it might not be NFC (it changes, or joins the
        character before it), or it is the ampersand.
      foldings: uint32[END, 3], the case folding of each that FOLDS, 0 where it is shorter.
      combining: uint8[END], the canonical combining class.
    """

    flags: npt.NDArray[np.uint8]
    foldings: npt.NDArray[np.uint32]
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
    marks = [code for code, one in enumerate(every) if unicodedata.category(one)[0] == "M"]
    flags[[code for code in marks if code >= _SIGNS_FROM]] |= MARK
    for first, last in _OF_ANY_LETTER:
        flags[first : last + 1] &= ~np.uint8(MARK)
    for first, last in _WITHOUT_SPACES:
        of_script = flags[first : last + 1]
        of_script[of_script & ALNUM > 0] |= UNSPACED
    foldings = np.zeros((END, 3), np.uint32)
    has_case = np.strings.islower(wide) | np.strings.isupper(wide) | np.strings.istitle(wide)
    for character in wide[has_case].tolist():
        if (folding := character.casefold()) != character:
            flags[ord(character)] |= FOLDS
            foldings[ord(character), : len(folding)] = [*map(ord, folding)]
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
    return Characters(flags, foldings, combining)


@njit(inline="always")
def decode_letter(data, at):  # type: ignore[no-untyped-def]
    """The character at this place of valid UTF-8, and how many bytes it takes."""
    lead = np.uint32(data[at])
    if lead < 0x80:
        return lead, 1
    tail = np.uint32(data[at + 1] & 0x3F)
    if lead < 0xE0:
        return (lead & np.uint32(0x1F)) << np.uint32(6) | tail, 2
    tail = tail << np.uint32(6) | np.uint32(data[at + 2] & 0x3F)
    if lead < 0xF0:
        return (lead & np.uint32(0x0F)) << np.uint32(12) | tail, 3
    tail = tail << np.uint32(6) | np.uint32(data[at + 3] & 0x3F)
    return (lead & np.uint32(0x07)) << np.uint32(18) | tail, 4


@njit(inline="always")
def encode_letter(code, room, end):  # type: ignore[no-untyped-def]
    """Writes a character as UTF-8; returns where it ends."""
    if code < 0x80:
        room[end] = code
        return end + 1
    if code < 0x800:
        room[end] = 0xC0 | code >> 6
    else:
        if code < 0x10000:
            room[end] = 0xE0 | code >> 12
        else:
            room[end] = 0xF0 | code >> 18
            end += 1
            room[end] = 0x80 | code >> 12 & 0x3F
        end += 1
        room[end] = 0x80 | code >> 6 & 0x3F
    room[end + 1] = 0x80 | code & 0x3F
    return end + 2
