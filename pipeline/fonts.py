"""Letters that no font of this machine has, by fontconfig, and which package has them."""

from __future__ import annotations

import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

_LATIN_ENDS = "\u024f"  # every font of a desktop has these
_CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO")
_MOST_SCRIPTS, _PATIENCE_S = 16, 10.0


def missing_fonts(texts: Iterable[str]) -> str:
    """A line that names letters of texts which a browser here would show as boxes, and packages of
    fonts that have them; "" where there are none, or no fonts are known."""
    letters = dict[str, str]()  # by the first word of its name, which is its script: the most used
    for letter, _ in Counter("".join(texts)).most_common():
        if letter > _LATIN_ENDS and letter.isalpha():
            letters.setdefault(unicodedata.name(letter, "").partition(" ")[0], letter)
    if not letters or not _has_font(":"):
        return ""
    asked = [*letters.items()][:_MOST_SCRIPTS]
    missing = {script: of for script, of in asked if not _has_font(f":charset={ord(of):x}")}
    if not missing:
        return ""
    packages = sorted({f"fonts-noto-{'cjk' if of in _CJK else 'core'}" for of in missing})
    return (
        f"no font of this machine has {', '.join(missing.values())}: to see more than boxes "
        f"here, install {' and '.join(packages)}"
    )


def _has_font(pattern: str) -> bool:
    with suppress(OSError, subprocess.SubprocessError):  # no fontconfig: a server without a browser
        command = ["fc-list", "--format=.", pattern]
        return bool(subprocess.run(command, capture_output=True, timeout=_PATIENCE_S).stdout)
    return False
