"""The images' links in usual records of a WAT, found by one compiled walk over their bytes.

A record has twenty links for each that is an image's, so that most of it is never parsed: what
matters is found by its key. A key has bare quotation marks, and within a string they would be
escaped. Where anything is not as Common Crawl writes it, the record is `ODD`, for a real parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.byte_search import (
    ESCAPED,
    MARGIN,
    after_line,
    find,
    has_needless_escapes,
    is_at,
    is_name,
    number,
    string_end,
    word,
)
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.pages.wat_opt_outs import sought, states_opt_out

# What a record is; of a page the images are among the links.
ODD, WITHOUT_RESPONSE, PAGE = 0, 1, 2
_VERSIONS = word(b"WARC/1.0\r\n"), word(b"WARC/1.1\r\n")
_METADATA, _END = word(b"metadata"), word(b"\r\n\r\n")
_LENGTH, _TYPE = word(b"content-length"), word(b"warc-type")
_COLON, _PATH = word(b'":"'), word(b'"path":"I')
_KEY, _URL, _ALT = word(b"path"), word(b"url"), word(b"alt")
_SHORTEST = len(b'{"path":"IMG@/src","alt":"x"}')  # of a link that is written down
_KIND, _TARGET, _RESPONSE = map(word, (b"WARC-Type", b"WARC-Target-URI", b"response"))
# What is searched for: first and sixth byte are rare together.
_HEADER, _STATUS, _TEXT = word(b'WARC-Header-Metadata":{'), word(b'"Status"'), word(b':"')
_HTML, _IMAGE, _BASE = map(word, (b'HTML-Metadata":{', b'MG@/src"', b'Base"'))
# Where a link's JSON object is, and the URL of its page.
LINK = np.dtype(
    (
        np.record,  # so that its fields are attributes, without a compiler too
        [(name, np.int64) for name in ("page", "page_end", "object", "object_end")],
    )
)
ROWS_AT_ONCE, _LONGEST_PAGE = 1 << 12, 1 << 12  # bytes of its URL


class Seen(NamedTuple):
    """Counts over members of an archive.

    Fields:
      kinds: int8[members]: what each is. links: LINK[n], of the pages' images, into `data`.
    """

    kinds: npt.NDArray[np.int8]
    data: npt.NDArray[np.uint8]
    links: npt.NDArray[np.void]

    def objects(self) -> Iterator[tuple[bytes, bytes]]:
        """The URL of each link's page, and the link's JSON."""
        for at in range(0, len(self.links), ROWS_AT_ONCE):
            for page, page_end, begin, end in self.links[at : at + ROWS_AT_ONCE].tolist():
                yield self.data[page:page_end].tobytes(), self.data[begin:end].tobytes()


def look(members: Sequence[bytes | bytearray], directives: frozenset[str]) -> Seen:
    """Looks through members of an archive.

    Args:
      directives: of pages, that are honoured: a record that may have one is odd.
    """
    data = np.frombuffer(b"".join([*members, bytes(MARGIN)]), np.uint8)
    ends = np.cumsum(np.fromiter(map(len, members), np.int64, len(members)))
    kinds, fields = np.empty(len(members), np.int8), np.empty(7, np.int64)
    links = np.empty(len(data) // _SHORTEST, LINK)
    links = links[: _look(data, ends, kinds, links, fields, sought(directives))]
    return Seen(kinds, data, links)


@kernel
def _look(data, ends, kinds, links, fields, sought_words):  # type: ignore[no-untyped-def]
    """Fills `kinds` and `links`; returns how many links there are."""
    used, at = 0, 0
    for member in range(len(ends)):
        stop = ends[member] - 4  # what ends a record
        begin, kind, html = _block(data, at, stop), ODD, -1
        if begin >= 0:
            kind, html = _kind(data, begin, stop, fields, sought_words)
        if kind == PAGE:
            count = _links(data, html, stop, links[used:], fields)
            kind = PAGE if count >= 0 else ODD
            used += max(count, 0)
        kinds[member] = kind
        at = ends[member]
    return used


@kernel
def _block(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the block of a record of metadata begins that continues to `stop`, or -1."""
    length, is_metadata = -1, False
    line = -1
    if is_at(data, at, _VERSIONS[0]) or is_at(data, at, _VERSIONS[1]):
        line = after_line(data, at, stop)
    while line >= 0 and data[line] != ord("\r"):
        end, colon = after_line(data, line, stop), line
        while data[colon] > ord(" ") and data[colon] != ord(":"):
            colon += 1
        if data[colon] != ord(":") or data[colon + 1] != ord(" "):
            return -1
        if is_name(data, line, colon, _LENGTH):
            length = number(data, colon + 2, end - 2) if length < 0 else -1
        elif is_name(data, line, colon, _TYPE):
            is_metadata = end - colon == len(_METADATA) + 4 and is_at(data, colon + 2, _METADATA)
        line = end
    holds = line >= 0 and is_metadata and length == stop - line - 2 and length > 1
    return line + 2 if holds and data[line + 1] == ord("\n") and is_at(data, stop, _END) else -1


@kernel
def _kind(data, at, stop, fields, sought_words):  # type: ignore[no-untyped-def]
    """The kind of a block, and the position of its HTML metadata; `fields` have the URL of a
    page."""
    last = stop - 1
    while last > at and data[last] <= ord(" "):
        last -= 1
    head = find(data, at, stop, _HEADER, _HEADER) + len(_HEADER) - 1
    after = _object(data, head, stop, (_KIND, _TARGET), fields) if head < stop else -1
    if data[at] != ord("{") or data[last] != ord("}") or after < 0 or fields[4] & ESCAPED:
        return ODD, stop
    if fields[1] - fields[0] != len(_RESPONSE) or not is_at(data, fields[0], _RESPONSE):
        return WITHOUT_RESPONSE, stop
    html = find(data, after, stop, _HTML, _HTML)
    status = find(data, after, html, _STATUS, _STATUS) + len(_STATUS)
    if html == stop or not is_at(data, status, _TEXT) or data[status + 2] != ord("2"):
        return ODD, html
    if has_needless_escapes(data, at, stop):
        return ODD, html
    if find(data, status, html, _STATUS, _STATUS) < html or fields[3] - fields[2] > _LONGEST_PAGE:
        return ODD, html
    if states_opt_out(data, after, html + len(_HTML), stop, sought_words):
        return ODD, html
    return PAGE, html


@kernel
def _links(data, at, stop, links, fields):  # type: ignore[no-untyped-def]
    """Writes the images with a text; returns how many, or -1 where anything is not as usual."""
    used, low, page, page_end = 0, at, fields[2], fields[3]
    at = find(data, at, stop, _IMAGE, _BASE)
    while at < stop:
        if data[at] == _BASE[0] and (data[at + 5] == ord(",") or data[at + 5] == ord("}")):
            at = find(data, at + 5, stop, _IMAGE, _BASE)  # it ends a text
            continue
        begin = at - len(_PATH)
        if not is_at(data, begin, _PATH):
            return -1
        while begin > low and (data[begin] != ord("{") or data[begin + 1] != ord('"')):
            begin -= 1
        low = _object(data, begin, stop, (_URL, _ALT, _KEY), fields)
        if low < at or fields[4] != at - 1:
            return -1
        if fields[3] > fields[2]:  # it has a text
            link = links[used]
            link.page, link.page_end, link.object, link.object_end = page, page_end, begin, low
            used += 1
        at = find(data, low, stop, _IMAGE, _BASE)
    return used


@kernel
def _object(data, at, stop, keys, places):  # type: ignore[no-untyped-def]
    """Reads an object whose values are strings; returns where it ends, or -1.

    Writes where the values of some keys begin and end, and what is in them.
    """
    places[:] = 0
    if data[at] != ord("{"):
        return -1
    while data[at] != ord("}"):
        key = at + 2
        key_end, contents = string_end(data, key, stop)
        value = key_end + 3
        if contents or data[at + 1] != ord('"') or not is_at(data, key_end, _COLON):
            return -1
        end, contents = string_end(data, value, stop)
        at = end + 1
        if end < 0 or (data[at] != ord(",") and data[at] != ord("}")):
            return -1
        for column in range(len(keys)):
            if key_end - key == len(keys[column]) and is_at(data, key, keys[column]):
                places[2 * column], places[2 * column + 1] = value, end
                places[2 * len(keys)] |= contents
    return at + 1
