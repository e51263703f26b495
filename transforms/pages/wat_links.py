"""The usual records of a WAT, looked through by one compiled walk over their bytes.

A record has a hundred links for each that is an image's, so that most of it is never parsed: what
matters is found by its key. A key has bare quotation marks, and within a string they would be
escaped. Where anything is not as Common Crawl writes it, the record is `ODD`, for a real parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
from alignset.transforms.pages.plain_urls import AS_IT_STANDS, end_before, url_form
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
# Bytes that are no part of white space, in UTF-8.
_LETTER = ~np.isin(np.arange(256), [ord(" "), *range(0x80, 0xC0), 0xC2, 0xE1, 0xE2, 0xE3])
# Where the parts of a link are: the URL of its page, whose part before `base_end` is put before
# the link's own; the link's URL and text; its JSON object; and whether a parser is needed.
LINK = np.dtype(
    (
        np.record,  # so that its fields are attributes, without a compiler too
        [
            *(("page", np.int64), ("base_end", np.int64), ("page_end", np.int64)),
            *(("url", np.int64), ("url_end", np.int64), ("text", np.int64), ("text_end", np.int64)),
            *(("object", np.int64), ("object_end", np.int64), ("odd", np.int64)),
        ],
    )
)
ROWS_AT_ONCE, _LONGEST_PAGE = 1 << 12, 1 << 12  # bytes of its URL, which each row has twice


class Images(NamedTuple):
    """Images with a text, as `Found` has them, in columns."""

    url: pa.StringArray
    text: pa.StringArray
    page: pa.StringArray


class Links(NamedTuple):
    """Some links of images, of which more than their bytes is made only where it is asked for."""

    data: npt.NDArray[np.uint8]
    links: npt.NDArray[np.void]  # LINK[n]

    def columns(self) -> Images:
        """The images of links that need no parser.

        Raises:
          ValueError: a text is no UTF-8.
        """
        offsets = np.empty((3, len(self.links) + 1), np.int32)
        _fill_offsets(self.links, offsets)
        joined = [np.empty(size, np.uint8) for size in offsets[:, -1]]
        _join(self.data, self.links, *joined)
        images = Images(
            *(
                pa.StringArray.from_buffers(
                    len(self.links), pa.py_buffer(ends), pa.py_buffer(strings)
                )
                for ends, strings in zip(offsets, joined, strict=True)
            )
        )
        images.text.validate(full=True)
        return images

    def objects(self) -> Iterator[tuple[bytes, bytes]]:
        """The URL of each link's page, and the link's JSON."""
        parts = self.links[["page", "page_end", "object", "object_end"]].tolist()
        for page, page_end, begin, end in parts:
            yield self.data[page:page_end].tobytes(), self.data[begin:end].tobytes()


class Seen(NamedTuple):
    """What is seen in members of an archive.

    Attributes:
      kinds: int8[members]: what each is.
      plain: the links to images of the pages, some thousand at a time, but for
      odd: those that need a parser.
    """

    kinds: npt.NDArray[np.int8]
    plain: Iterator[Links]
    odd: Iterator[Links]


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
    odd = links["odd"] > 0
    return Seen(kinds, _steps(data, links, ~odd), _steps(data, links, odd))


def _steps(
    data: npt.NDArray[np.uint8], links: npt.NDArray[np.void], which: npt.NDArray[np.bool_]
) -> Iterator[Links]:
    rows = np.flatnonzero(which)
    for at in range(0, len(rows), ROWS_AT_ONCE):
        yield Links(data, links[rows[at : at + ROWS_AT_ONCE]])


@kernel
def _fill_offsets(links, offsets):  # type: ignore[no-untyped-def]
    offsets[:, 0] = 0
    for row in range(len(links)):
        link = links[row]
        url_size = link.base_end - link.page + link.url_end - link.url
        offsets[0, row + 1] = offsets[0, row] + url_size
        offsets[1, row + 1] = offsets[1, row] + link.text_end - link.text
        offsets[2, row + 1] = offsets[2, row] + link.page_end - link.page


@kernel
def _join(data, links, urls, texts, pages):  # type: ignore[no-untyped-def]
    url = text = page = 0
    for row in range(len(links)):
        link = links[row]
        url = _copy(data, link.page, link.base_end, urls, url)
        url = _copy(data, link.url, link.url_end, urls, url)
        text = _copy(data, link.text, link.text_end, texts, text)
        page = _copy(data, link.page, link.page_end, pages, page)


@kernel
def _copy(data, at, stop, joined, end):  # type: ignore[no-untyped-def]
    """Appends a range of bytes; returns the new end."""
    for place in range(stop - at):
        joined[end + place] = data[at + place]
    return end + stop - at


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
    """Where the block of a record of metadata begins that goes on to `stop`, or -1."""
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
    """What a block is, and where in it the HTML is told of; `fields` have the URL of a page."""
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
    stands = url_form(data, page, page_end)[0] == AS_IT_STANDS
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
        url, url_end, text, text_end = fields[0], fields[1], fields[2], fields[3]
        if text_end > text:
            form, kept = url_form(data, url, url_end)
            link = links[used]
            link.page, link.page_end, link.object, link.object_end = page, page_end, begin, low
            link.url, link.url_end, link.text, link.text_end = kept, url_end, text, text_end
            odd = not stands or form < 0 or fields[6] or not _has_letter(data, text, text_end)
            link.odd = odd
            if not odd:
                link.base_end = end_before(data, page, page_end, form)
            used += 1
        at = find(data, low, stop, _IMAGE, _BASE)
    return used


@kernel
def _has_letter(data, at, stop):  # type: ignore[no-untyped-def]
    """Whether a text has anything that is surely no white space."""
    while at < stop and not _LETTER[data[at]]:
        at += 1
    return at < stop


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
