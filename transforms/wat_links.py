"""The usual records of a WAT, looked through by one compiled walk over their bytes.

A record has a hundred links for each that is an image's, so that most of it is never parsed: what
matters is found by its key. A key has bare quotation marks, and within a string they would be
escaped. Where anything is not as Common Crawl writes it, the record is `ODD`, for a real parser.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from transforms.plain_urls import url_form

# What a record is; of a page the images are among the links.
ODD, WITHOUT_RESPONSE, PAGE = 0, 1, 2
# What there is in a link's URL or text that stands for something else.
ESCAPED, ENTITY = 1, 2


def _word(word: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(word, np.uint8)


_VERSIONS = _word(b"WARC/1.0\r\n"), _word(b"WARC/1.1\r\n")
_METADATA, _END = _word(b"metadata"), _word(b"\r\n\r\n")
_LENGTH, _TYPE = _word(b"content-length"), _word(b"warc-type")
_COLON, _PATH, _URL, _ALT = map(_word, (b'":"', b'"path":"', b"url", b"alt"))
_KIND, _TARGET, _RESPONSE = map(_word, (b"WARC-Type", b"WARC-Target-URI", b"response"))
# What is searched for: first and sixth byte are rare together.
_HEADER, _STATUS = _word(b'WARC-Header-Metadata":{'), _word(b'Status":"')
_HTML, _IMAGE, _BASE = map(_word, (b'HTML-Metadata":{', b'IMG@/src"', b'Base":'))
_MARGIN = 128  # bytes behind the data, so that words may be looked for at its very end


def look(members: Sequence[bytes | bytearray]) -> tuple[bytes, list[list[int]], list[list[int]]]:
    """Looks through members of an archive.

    Returns:
      All their bytes, in which the places are. Of each member: what it is; which of the links are
      its own, from and to; of a page where its URL begins and ends, and the URL's form. Of each
      link, an image with a text: where its URL and its text begin and end; the URL's form; what
      there is in both; where the object begins and ends.
    """
    data = b"".join([*members, bytes(_MARGIN)])
    ends = np.cumsum([len(member) for member in members], dtype=np.int64)
    seen = np.zeros((len(members), 6), np.int64)
    links = np.empty((len(data) // len(_IMAGE), 8), np.int64)
    used = _look(np.frombuffer(data, np.uint8), ends, seen, links)
    return data, seen.tolist(), links[:used].tolist()


@njit(nogil=True, cache=True)
def _look(data, ends, seen, links):  # type: ignore[no-untyped-def]
    used, at = 0, 0
    for member, one in enumerate(seen):
        stop = ends[member] - 4  # what ends a record
        begin, html = _block(data, at, stop), -1
        if begin >= 0:
            one[0], html = _kind(data, begin, stop, one[3:])
        one[1] = used
        if one[0] == PAGE:
            count = _links(data, html, stop, links[used:])
            if count < 0:
                one[0] = ODD
            used += max(count, 0)
        one[2] = used
        at = ends[member]
    return used


@njit(nogil=True, cache=True)
def _block(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the block of a record of metadata begins that goes on to `stop`, or -1."""
    length, known = -1, False
    line = -1
    if _is_at(data, at, _VERSIONS[0]) or _is_at(data, at, _VERSIONS[1]):
        line = _after_line(data, at, stop)
    while line >= 0 and data[line] != ord("\r"):
        end, colon = _after_line(data, line, stop), line
        while data[colon] > ord(" ") and data[colon] != ord(":"):
            colon += 1
        if data[colon] != ord(":") or data[colon + 1] != ord(" "):
            return -1
        if _is_name(data, line, colon, _LENGTH):
            length = _number(data, colon + 2, end - 2) if length < 0 else -1
        elif _is_name(data, line, colon, _TYPE):
            known = end - colon == len(_METADATA) + 4 and _is_at(data, colon + 2, _METADATA)
        line = end
    holds = line >= 0 and known and length == stop - line - 2 and length > 1
    return line + 2 if holds and data[line + 1] == ord("\n") and _is_at(data, stop, _END) else -1


@njit(nogil=True, cache=True)
def _after_line(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the next line begins; -1 where the line has no end of two bytes."""
    while at < stop - 2 and data[at] != ord("\n"):
        at += 1
    return at + 1 if data[at] == ord("\n") and data[at - 1] == ord("\r") else -1


@njit(nogil=True, cache=True)
def _number(data, at, stop):  # type: ignore[no-untyped-def]
    number = 0
    for place in range(at, stop):
        if data[place] < ord("0") or data[place] > ord("9") or stop - at > 9:
            return -1
        number = 10 * number + data[place] - ord("0")
    return number


@njit(nogil=True, cache=True)
def _is_name(data, at, stop, word):  # type: ignore[no-untyped-def]
    same = stop - at == len(word)
    for place in range(len(word)):
        same &= (data[at + place] | 32) == word[place]
    return same


@njit(nogil=True, cache=True)
def _is_at(data, at, word):  # type: ignore[no-untyped-def]
    same = True
    for place in range(len(word)):
        same &= data[at + place] == word[place]
    return same


@njit(nogil=True, cache=True)
def _find(data, at, stop, word, other):  # type: ignore[no-untyped-def]
    """Where the first of two words begins in `data[at:stop]`, or `stop`; 20 GB/s."""
    a, b, c, d = word[0], word[5], other[0], other[5]
    while at < stop:
        least, block = np.uint8(255), data[at : at + 69]
        for place in range(64):  # in a form that compiles to vector instructions
            x, y = block[place], block[place + 5]
            least = min(least, np.uint8((x ^ a) | (y ^ b)), np.uint8((x ^ c) | (y ^ d)))
        if least == 0:
            for place in range(at, min(at + 64, stop)):
                x = data[place]
                if (x == a and _is_at(data, place, word)) or (
                    x == c and _is_at(data, place, other)
                ):
                    return place
        at += 64
    return stop


@njit(nogil=True, cache=True)
def _kind(data, at, stop, url):  # type: ignore[no-untyped-def]
    """What a block is, the URL if it is a page, and where in it the HTML is told of."""
    last = stop - 1
    while last > at and data[last] <= ord(" "):
        last -= 1
    head = _find(data, at, stop, _HEADER, _HEADER) + len(_HEADER) - 1
    fields = np.zeros(5, np.int64)
    after = _object(data, head, stop, (_KIND, _TARGET), fields) if head < stop else -1
    if data[at] != ord("{") or data[last] != ord("}") or after < 0 or fields[4] & ESCAPED:
        return ODD, stop
    if fields[1] - fields[0] != len(_RESPONSE) or not _is_at(data, fields[0], _RESPONSE):
        return WITHOUT_RESPONSE, stop
    html = _find(data, after, stop, _HTML, _HTML)
    status = _find(data, after, html, _STATUS, _STATUS) + len(_STATUS)
    if html == stop or status > html or data[status] != ord("2"):
        return ODD, html
    if _find(data, status, html, _STATUS, _STATUS) < html:
        return ODD, html
    url[0], url[1], url[2] = fields[2], fields[3], url_form(data, fields[2], fields[3])[0]
    return PAGE, html


@njit(nogil=True, cache=True)
def _links(data, at, stop, links):  # type: ignore[no-untyped-def]
    """Writes the images with a text; returns how many, or -1 where anything is not as usual."""
    used, low = 0, at
    at = _find(data, at, stop, _IMAGE, _BASE)
    while at < stop:
        begin, link = at - len(_PATH), links[used]
        if not _is_at(data, begin, _PATH):
            return -1
        while begin > low and (data[begin] != ord("{") or data[begin + 1] != ord('"')):
            begin -= 1
        end = _object(data, begin, stop, (_URL, _ALT), link)
        if end < at:
            return -1
        if link[3] > link[2]:
            link[5], link[6], link[7] = link[4], begin, end
            link[4], link[0] = url_form(data, link[0], link[1])
            used += 1
        at = _find(data, end, stop, _IMAGE, _BASE)
    return used


@njit(nogil=True, cache=True)
def _object(data, at, stop, keys, places):  # type: ignore[no-untyped-def]
    """Reads an object whose values are strings; returns where it ends, or -1.

    Writes where the values of two keys begin and end, and what is in them.
    """
    places[:] = 0
    while data[at] != ord("}"):
        key = at + 2
        key_end, seen = _string_end(data, key, stop)
        value = key_end + 3
        if seen or data[at + 1] != ord('"') or not _is_at(data, key_end, _COLON):
            return -1
        end, seen = _string_end(data, value, stop)
        at = end + 1
        if end < 0 or (data[at] != ord(",") and data[at] != ord("}")):
            return -1
        for column in range(2):
            if key_end - key == len(keys[column]) and _is_at(data, key, keys[column]):
                places[2 * column], places[2 * column + 1] = value, end
                places[4] |= seen
    return at + 1


@njit(nogil=True, cache=True)
def _string_end(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the quotation mark is that ends a string, and what is in the string; or -1."""
    seen = 0
    while at < stop:
        c = data[at]
        if c == ord('"'):
            return at, seen
        if c < ord(" "):
            break
        if c == ord("\\"):
            seen |= ESCAPED
            at += 1
        elif c == ord("&"):
            seen |= ENTITY
        at += 1
    return -1, 1
