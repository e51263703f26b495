"""Image URLs: what makes one usable, and the identity by which images are counted."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from numba import njit

from alignset.transforms.columns.hashing import (
    Bools,
    UInt64s,
    read8,
    string_buffers,
    string_hashes,
    xxh64,
)
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.columns.web_urls import parse_url

# scheme, user information, host (a name or [IPv6]), port, the rest. Letter by letter, since
# re.I would take "ſ" for "s".
_URL = re.compile(
    r"([hH][tT][tT][pP][sS]?)://([^/?#]*@)?(\[[0-9a-fA-F:.]+\]|[^/?#:@\[\]\s]+)"
    r"(?::([0-9]*))?([/?#].*)?",
    re.S,
)
_DEFAULT_PORT = {"http": "80", "https": "443"}
_OF_HOST = "".join(c for c in map(chr, range(0x80)) if c.isalnum() or c in ".-_")


def url_identity(url: str) -> str | None:
    """Returns the form of a URL by which images are counted.

    Scheme and host are lower-cased, default port and fragment dropped, and the rest is as it was.
    A URL in which the URL standard mends more (`http:/a.org`) is what its parser makes of it.

    Returns:
      None where it is not an absolute http(s) URL by the standard.
    """
    url = url.strip()
    match = _URL.fullmatch(url)
    if match is None or not _is_name(match[3]):
        target = parse_url(url)
        if target is None or target.protocol not in ("http:", "https:"):
            return None
        if match is None:
            return target.href.partition("#")[0]
    scheme, user, host, port, rest = match.groups()
    scheme = scheme.lower()
    number = (port or "").lstrip("0")
    if len(number) > 5 or int(number or 0) > 65535:  # int() raises at thousands of digits
        return None
    port_part = f":{port}" if port and number != _DEFAULT_PORT[scheme] else ""
    return f"{scheme}://{user or ''}{host.lower()}{port_part}{(rest or '').partition('#')[0]}"


def _is_name(host: str) -> bool:
    """Checks that a host is a name: one whose last label begins with a digit may be an address."""
    last = host.removesuffix(".").rpartition(".")[2]
    return not host.strip(_OF_HOST) and not last[:1].isdigit()


# What a plain host is made of; any other character sends the URL through `url_identity`.
_HOST = np.array([chr(b) in _OF_HOST for b in range(256)])
_HTTP, _HTTPS = np.frombuffer(b"http://\0https://", "<u8")
_CAPITALS = np.array([0x20202020, 0x2020202020], np.uint64)  # the bit of each scheme's letters
_SEVEN = np.uint64((1 << 56) - 1)  # bytes
_SLASH, _QUESTION, _COLON, _FRAGMENT, _DOT = (ord(c) for c in "/?:#.")


@njit(inline="always")
def _host_start(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the host begins, or 0."""
    if stop - at < 8:  # "http://a"
        return 0
    first = read8(data, at)
    if (first | _CAPITALS[0]) & _SEVEN == _HTTP:
        return at + 7
    return at + 8 if first | _CAPITALS[1] == _HTTPS else 0


@njit(inline="always")
def _is_identity(data, start, host_end, stop):  # type: ignore[no-untyped-def]
    """Whether a URL without a port is its own identity: no capitals up to there, no fragment."""
    wrong = False
    for at in range(np.uint64(start), np.uint64(host_end)):  # no branches: many bytes at once
        wrong |= (data[at] >= ord("A")) & (data[at] <= ord("Z"))
    for at in range(np.uint64(host_end), np.uint64(stop)):
        wrong |= data[at] == _FRAGMENT
    return not wrong


@njit(inline="always")
def _identity_into(room, data, start, host_end, path, stop):  # type: ignore[no-untyped-def]
    """Writes scheme and host in lower case and the path up to the fragment; returns the end."""
    end = host_end - start
    for place in range(end):
        byte = data[start + place]
        room[place] = byte + 32 if byte >= ord("A") and byte <= ord("Z") else byte
    while path < stop and data[path] != _FRAGMENT:
        room[end] = data[path]
        path += 1
        end += 1
    return end


@njit(inline="always")
def _path_start(data, at, stop, port):  # type: ignore[no-untyped-def]
    """Where the path begins: at once, or behind the default port."""
    if at == stop or data[at] != _COLON or stop - at < len(port):
        return at
    for place in range(len(port)):
        if data[at + place] != port[place]:
            return at
    return at + len(port)


@njit(inline="always")
def _may_be_address(data, start, stop):  # type: ignore[no-untyped-def]
    """Whether the last label of a host begins with a digit."""
    last = stop - 2 if data[stop - 1] == _DOT else stop - 1
    while last > start and data[last - 1] != _DOT:
        last -= 1
    return last >= start and data[last] >= ord("0") and data[last] <= ord("9")


@kernel
def has_blank_edges(data, offsets):  # type: ignore[no-untyped-def]
    """Whether any row begins or ends with what might be white space."""
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        if start < stop:
            for edge in (data[start], data[stop - 1]):
                if edge <= 0x20 or edge >= 0x80:
                    return True
    return False


@kernel
def _hash_plain_urls(data, offsets, host, room, hashes, marks):  # type: ignore[no-untyped-def]
    """Hashes the identities of URLs of the usual form, scheme://host[:port]/path#fragment."""
    plain, own = marks
    for row in range(len(hashes)):
        plain[row] = own[row] = False
        start, stop = offsets[row], offsets[row + 1]
        # The last byte is not a white space, so `url_identity` has nothing to trim.
        if stop == start or data[stop - 1] <= 0x20 or data[stop - 1] >= 0x7F:
            continue
        first = _host_start(data, start, stop)
        at = first
        while first and at < stop and host[data[at]]:
            at += 1
        path = _path_start(data, at, stop, b":443" if first - start == 8 else b":80")
        after = data[path] if path < stop else np.uint8(_SLASH)
        plain[row] = at > first and (after in (_SLASH, _QUESTION, _FRAGMENT))
        plain[row] &= not (plain[row] and _may_be_address(data, first, at))
        if plain[row] and path == at and _is_identity(data, start, at, stop):
            hashes[row] = xxh64(data, start, stop)
            own[row] = True
        elif plain[row]:
            hashes[row] = xxh64(room, 0, _identity_into(room, data, start, at, path, stop))


def url_hashes(urls: pa.StringArray) -> tuple[UInt64s, Bools, Bools]:
    """Hashes of the identities of image URLs.

    Args:
      urls: string[n], no nulls, valid UTF-8.

    Returns: uint64[n]; bool[n], whether each is an absolute http or https URL with a host; and
      bool[n], whether each is known to be its own identity, so that its hash is the hash of the URL
      itself.
    """
    data, offsets = string_buffers(urls)
    hashes = np.zeros(len(urls), np.uint64)
    usable, own = np.empty(len(urls), np.bool_), np.empty(len(urls), np.bool_)
    room = np.empty(int(np.diff(offsets).max(initial=0)), np.uint8)
    _hash_plain_urls(data, offsets, _HOST, room, hashes, (usable, own))
    unusual = np.flatnonzero(~usable)
    identities = [url_identity(url) for url in urls.take(pa.array(unusual)).to_pylist()]
    usable[unusual] = [identity is not None for identity in identities]
    hashes[unusual] = string_hashes(pa.array([i or "" for i in identities], pa.string()))
    return hashes, usable, own
