"""URLs that the URL standard leaves as they are, or only puts behind a folder of the page's.

A parser takes a microsecond for one, which is most of what it costs to read an image from a WAT.
These are told apart by their bytes; any other is left to a parser.

Source: https://url.spec.whatwg.org/
"""

from __future__ import annotations

import numpy as np

from alignset.transforms.columns.kernels import kernel

# How a URL becomes absolute: by a parser; as it stands; behind the page's host; behind the page's
# folder; and from there on behind the folder that is so many above it.
BY_PARSER, AS_IT_STANDS, BEHIND_HOST, BEHIND_FOLDER = -1, 0, 1, 2

# Letters, digits and what is not escaped in a path or query.
_PLAIN = np.array(
    [(chr(b).isalnum() and b < 0x80) or chr(b) in "-._~!$()*,;@=+/:?%&" for b in range(256)]
)
_IN_HOST, _LETTERS = (
    np.array([chr(b) in letters for b in range(256)])
    for letters in ("abcdefghijklmnopqrstuvwxyz0123456789.-", "abcdefghijklmnopqrstuvwxyz")
)
_SCHEMES = (np.frombuffer(b"http://", np.uint8), np.frombuffer(b"https://", np.uint8))
_SLASH, _DOT, _COLON = ord("/"), ord("."), ord(":")


@kernel
def url_form(data, at, stop):  # type: ignore[no-untyped-def]
    """How the URL in `data[at:stop]` becomes absolute; and where begins what of it is kept."""
    path = _path(data, at, stop)
    if path > at:
        return (AS_IT_STANDS, at) if _is_plain(data, path, stop, True) else (BY_PARSER, at)
    if at < stop and data[at] == _SLASH:
        rooted = (at + 1 == stop or data[at + 1] != _SLASH) and _is_plain(data, at, stop, True)
        return (BEHIND_HOST, at) if rooted else (BY_PARSER, at)
    form, begin = BEHIND_FOLDER, at
    while begin + 3 < stop and data[begin] == _DOT:
        if data[begin + 1] != _DOT or data[begin + 2] != _SLASH:
            break
        form, begin = form + 1, begin + 3
    if begin == stop or data[begin] == ord("?") or not _is_plain(data, begin, stop, False):
        return BY_PARSER, at
    return form, begin


@kernel
def _is_plain(data, at, stop, colons):  # type: ignore[no-untyped-def]
    """Whether nothing in a path and query is escaped, and no part of it begins with a dot."""
    before = _SLASH
    for place in range(at, stop):
        c = data[place]
        if not _PLAIN[c] or (before == _SLASH and (c == _DOT or c == ord("%"))):
            return False
        if c == _COLON and not colons:
            return False
        before = c
    return True


@kernel
def _path(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the path begins of an http(s) URL whose host stays as it is; else `at`."""
    letters, before, host = True, _DOT, _host(data, at, stop)
    for place in range(host, stop if host > at else at):
        c = data[place]
        if c == _SLASH:  # a last label with a digit may be an address
            return place if letters and before != _DOT else at
        if not _IN_HOST[c] or (c == before and c <= _DOT):
            return at
        letters = (letters or before == _DOT) and (_LETTERS[c] or c == _DOT)
        before = c
    return at


@kernel
def _host(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the host begins of an http(s) URL; else `at`."""
    for scheme in _SCHEMES:
        same = stop - at > len(scheme)
        for place in range(len(scheme)):
            same = same and data[at + place] == scheme[place]
        if same:
            return at + len(scheme)
    return at


@kernel
def end_before(data, at, stop, form):  # type: ignore[no-untyped-def]
    """Where ends what is put before URLs of a form, of a page's own URL in `data[at:stop]`, which
    stands as it is; nothing is put before those that stand as they are."""
    if form == AS_IT_STANDS:
        return at
    root, place = _path(data, at, stop), at
    while place < stop and data[place] != ord("?"):
        place += 1
    if form == BEHIND_HOST:
        return root
    for _ in range(form - BEHIND_HOST):
        place -= 1
        while place > root and data[place] != _SLASH:
            place -= 1
    return max(place, root) + 1
