"""Targets of URLs: host and path in the one form in which lists and pairs are compared.

Two URLs have one target where a fetcher would send the same request for them, over http or https.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import read_only, string_buffers
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.columns.web_urls import parse_url
from alignset.transforms.fetching.fetch_target import request_url
from alignset.transforms.pairs.urls import url_identity

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPED = re.compile("%([0-9a-fA-F]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_LONGEST_HOST = 253

# Of URLs that are their own targets, but for the scheme: what host and path are made of.
_LETTERS, _DIGITS = b"abcdefghijklmnopqrstuvwxyz", b"0123456789"
_HOST = np.isin(np.arange(256), list(_LETTERS + _DIGITS + b".-_"))
_PATH = np.isin(np.arange(256), list(_LETTERS + _LETTERS.upper() + _DIGITS + b"._~!$&()*+,;=:@/?-"))
_HTTP, _HTTPS = np.frombuffer(b"http://", np.uint8), np.frombuffer(b"https://", np.uint8)
_SLASH, _DOT, _ZERO, _NINE = ord("/"), ord("."), ord("0"), ord("9")


class Targets(NamedTuple):
    """The targets of n URLs; one that is not an http(s) URL has an empty one.

    Fields:
      data: uint8[m], the bytes of them all.
      starts, host_ends, stops: int64[n]; `data[start:stop]` is host and path, and
        `data[start:host_end]` is the host, without a port.
    """

    data: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    host_ends: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]


def target_of(url: str) -> tuple[str, str] | None:
    """Host, and what follows it (a port that is not the scheme's own, path and query).

    The host is as a resolver is asked for it: in IDNA's ASCII form, without a last dot, addresses
    in their usual notation. Escapes of characters that need none are taken away.

    Args:
      url: any string.

    Returns: (host, rest); None where `url` is not an http(s) URL.
    """
    url = url.encode(errors="replace").decode()  # no lone surrogates
    requested = request_url(url) or url_identity(url)
    if requested is None:
        return None
    scheme, _, rest = requested.partition("://")
    end = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    authority, path = rest[:end].rpartition("@")[2], rest[end:]
    host, port = _host_and_port(authority)
    shown = "" if port in ("", str(_DEFAULT_PORTS[scheme])) else f":{port}"
    path = path if path.startswith("/") else f"/{path}"
    return host, shown + _ESCAPED.sub(_plain, path)


def _host_and_port(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        name, _, port = authority[1:].partition("]")
        with suppress(ValueError):  # Python's parser of addresses may differ
            name = str(ipaddress.IPv6Address(name))
        return f"[{name}]", port.removeprefix(":").lstrip("0")
    host, _, port = authority.partition(":")
    host = host.rstrip(".")
    if host[host.rfind(".") + 1 :][:1].isdigit():  # as in 0x7f.1
        address = parse_url(f"http://{host}/")
        host = host if address is None else address.hostname
    return host, port.lstrip("0")


def _plain(escaped: re.Match[str]) -> str:
    character = chr(int(escaped[1], 16))
    return character if character in _UNRESERVED else escaped[0].upper()


@kernel
def _begins(data, at, stop, word):  # type: ignore[no-untyped-def]
    same = stop - at >= len(word)
    for place in range(len(word) if same else 0):
        same &= data[at + place] == word[place]
    return same


@kernel
def _mark_plain(data, offsets, tables, spans, plain):  # type: ignore[no-untyped-def]
    """Marks the URLs that are their own targets behind the scheme, and tells where these are."""
    host, path = tables
    starts, host_ends, stops = spans
    for row in range(len(plain)):
        plain[row] = False
        at, stop = offsets[row], offsets[row + 1]
        if _begins(data, at, stop, _HTTP):
            at += len(_HTTP)
        elif _begins(data, at, stop, _HTTPS):
            at += len(_HTTPS)
        else:
            continue
        starts[row], label = at, at
        while at < stop and host[data[at]]:
            if data[at] == _DOT:
                label = at + 1
            at += 1
        size = at - starts[row]
        if size == 0 or size > _LONGEST_HOST or label == at or at == stop or data[at] != _SLASH:
            continue
        if data[label] >= _ZERO and data[label] <= _NINE:  # an address
            continue
        host_ends[row], stops[row] = at, stop
        good = True
        while at < stop:
            good &= path[data[at]]
            good &= not (data[at] == _SLASH and at + 1 < stop and data[at + 1] == _DOT)
            at += 1
        plain[row] = good


def targets(urls: pa.StringArray) -> Targets:
    """The targets of URLs; a kernel finds usual ones, others are parsed one by one.

    Args:
      urls: string[n], no nulls, valid UTF-8.
    """
    data, offsets = string_buffers(urls)
    starts, host_ends, stops = (np.zeros(len(urls), np.int64) for _ in range(3))
    plain = np.empty(len(urls), np.bool_)
    _mark_plain(data, offsets, (_HOST, _PATH), (starts, host_ends, stops), plain)
    others = np.flatnonzero(~plain)
    if not len(others):
        return Targets(data, starts, host_ends, stops)
    made = [target_of(url) or ("", "") for url in urls.take(pa.array(others)).to_pylist()]
    parts = [(host.encode(), rest.encode()) for host, rest in made]
    ends = len(data) + np.cumsum([0, *(len(host) + len(rest) for host, rest in parts)])
    starts[others], stops[others] = ends[:-1], ends[1:]
    host_ends[others] = ends[:-1] + [len(host) for host, _ in parts]
    more = np.frombuffer(b"".join(host + rest for host, rest in parts), np.uint8)
    return Targets(read_only(np.concatenate([data, more])), starts, host_ends, stops)
