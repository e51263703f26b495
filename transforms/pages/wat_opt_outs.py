"""Whether a WAT's record may state an opt-out or a licence: a quick look at its bytes.

A record that may is for a real parser. One that is passed over here states nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.byte_search import Words, find, is_at, is_name, word, words
from alignset.transforms.columns.kernels import kernel

_OPT_OUTS = ("tdm-reservation", "content-usage")
_LONGEST = 32  # bytes of a word, which are looked for
_HEAD, _LINKS, _LICENSE, _HEADERS = map(
    word, (b'"Head":{', b'"Links":[', b'l":"license', b'Headers":{')
)


class Sought(NamedTuple):
    """Words by which a record is seen to state an opt-out, in letters of any case.

    Fields:
      words: possibly only their beginnings.
      starts: bool[256]: whether one begins with this byte, or a character reference does.
    """

    words: Words
    starts: npt.NDArray[np.bool_]


@lru_cache
def sought(directives: frozenset[str]) -> Sought:
    """Patterns of bytes that may state an opt-out by these directives of pages."""
    texts = {*directives, *_OPT_OUTS, *(("none",) if directives & {"noindex", "nofollow"} else ())}
    patterns = words(sorted(texts), _LONGEST)
    starts = np.zeros(256, np.bool_)
    firsts = patterns.table[:, 0]
    starts[firsts] = starts[firsts & ~np.uint8(32)] = starts[ord("&")] = True
    return Sought(patterns, starts)


@kernel
def states_opt_out(data, at, html, stop, sought_words):  # type: ignore[no-untyped-def]
    """Whether the header of a response, or the head of its page, may state an opt-out, or any link
    a licence.

    Args:
      at: where the header begins. html: where the contents of the page's HTML-Metadata begin.
    """
    last = find(data, html, stop, _LINKS, _LINKS) if is_at(data, html, _HEAD) else stop
    if find(data, html, stop, _LICENSE, _HEADERS) < stop:
        return True
    sizes = sought_words.words.sizes
    while at < last:
        if sought_words.starts[data[at]]:
            if data[at] == ord("&") and _hides_letter(data, at + 1, last):
                return True
            for row in range(len(sizes)):
                text = sought_words.words.table[row, : sizes[row]]
                if is_name(data, at, at + len(text), text):
                    return True
        at += 1
    return False


@kernel
def _hides_letter(data, at, stop):  # type: ignore[no-untyped-def]
    """Whether a character reference stands for a letter, "-" or "_", by which it may hide a word;
    no letter has a name, and "_" has "lowbar" and "UnderBar"."""
    if data[at] != ord("#"):
        is_lowbar = data[at] == ord("l") and data[at + 1] == ord("o")
        return is_lowbar or (data[at] == ord("U") and data[at + 1] == ord("n"))
    at += 1
    is_hex = (data[at] | 32) == ord("x")
    at += is_hex
    value = np.int64(0)
    while at < stop:
        c = data[at] | 32
        if c >= ord("0") and c <= ord("9"):
            value = value * (16 if is_hex else 10) + np.int64(c) - ord("0")
        elif is_hex and c >= ord("a") and c <= ord("f"):
            value = value * 16 + np.int64(c) - ord("a") + 10
        else:
            break
        if value > ord("z"):
            return False
        at += 1
    letter = value | 32
    return (letter >= ord("a") and letter <= ord("z")) or value == ord("-") or value == ord("_")
