"""Fonts that are on this machine, by what they can draw, and texts broken into lines."""

from __future__ import annotations

import subprocess
import unicodedata
from collections.abc import Iterator
from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
PILLOWS_OWN = ""  # Latin alone
_NO_CHARACTER = "\U0010fffe"
_MOST_ASKED = 4  # alphabets of a text that the system is asked for
_CHECK_PX = 16


@cache
def font(path: str, size_px: int) -> Font:
    """A font by its path."""
    if path == PILLOWS_OWN:
        return ImageFont.load_default(size_px)
    return ImageFont.truetype(path, size_px)


def font_for(text: str, size_px: int) -> Font:
    """The font that can draw most of a text. What it lacks is drawn as a box."""
    missing = [c for c in text if not _draws(PILLOWS_OWN, c)]
    blocks = dict.fromkeys(_block(c) for c in missing)
    paths = dict.fromkeys(_system_font(block) for block in list(blocks)[:_MOST_ASKED])
    best = max((PILLOWS_OWN, *paths), key=lambda path: sum(_draws(path, c) for c in set(text)))
    return font(best, size_px)


def _block(character: str) -> int:
    return ord(character) >> 7 << 7


@cache
def _draws(path: str, character: str) -> bool:
    if character.isspace():
        return True
    one, lacking = (_glyph(path, c) for c in (character, _NO_CHARACTER))
    return one != lacking


@cache
def _glyph(path: str, character: str) -> bytes | None:
    try:
        mask = font(path, _CHECK_PX).getmask(character)
    except (OSError, UnicodeError):  # Pillow's own, where it was built without FreeType
        return None
    return bytes([min(255, n) for n in mask.size]) + bytes(mask)


@cache
def _system_font(block: int) -> str:
    """The path of a font for some 128 characters, by fontconfig or by a usual name."""
    usual = next((c for c in map(chr, range(block, block + 128)) if c.isalpha()), chr(block))
    command = ["fc-match", "--format=%{file}", f":charset={ord(usual):x}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        best = done.stdout
    except (OSError, subprocess.TimeoutExpired):
        best = ""
    for name in filter(None, (best, "DejaVuSans.ttf")):
        try:
            font(name, _CHECK_PX)
        except OSError:
            continue
        return name
    return PILLOWS_OWN


def is_right_to_left(text: str) -> bool:
    """Whether a text's first letter with a direction is of a script that is written leftwards."""
    kinds = (unicodedata.bidirectional(c) for c in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"


def lines(text: str, face: Font, width_px: float, most: int) -> list[str]:
    """A text in so many lines at most; where it is longer, the last one ends in an ellipsis."""
    words = [part for word in text.split() for part in _parts(word, face, width_px)]
    broken = [""]
    for joined, word in words:
        longer = f"{broken[-1]}{'' if joined or not broken[-1] else ' '}{word}"
        if not broken[-1] or face.getlength(longer) <= width_px:
            broken[-1] = longer
        elif len(broken) == most:
            return [*broken[:-1], _cut(broken[-1] + " " + word, face, width_px)]
        else:
            broken.append(word)
    return broken


def _parts(word: str, face: Font, width_px: float) -> Iterator[tuple[bool, str]]:
    """A word, or what it is cut into where no line holds it; whether each goes on in its line."""
    if face.getlength(word) <= width_px:
        yield False, word
        return
    yield from ((place > 0, character) for place, character in enumerate(word))


def _cut(text: str, face: Font, width_px: float) -> str:
    while text and face.getlength(f"{text} …") > width_px:
        text = text[:-1]
    return f"{text} …"
