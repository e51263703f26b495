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
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import read_only, string_buffers
from alignset.transforms.columns.web_urls import parse_url
from alignset.transforms.fetching.fetch_target import request_url
from alignset.transforms.pairs.urls import url_identity

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPED = re.compile("%([0-9a-fA-F]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_LONGEST_HOST = 253

# URLs that are their own targets, but for the scheme. A last label that begins with a digit may be
# of an address.
_PLAIN = (
    r"^(?P<scheme>https?://)(?P<host>(?:[a-z0-9._-]*\.)?[a-z_-][a-z0-9_-]*)"
    r"/[A-Za-z0-9._~!$&()*+,;=:@/?-]*$"
)


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
    target = request_url(url) or url_identity(url)
    if target is None:
        return None
    scheme, _, rest = target.partition("://")
    end = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    authority, path = rest[:end].rpartition("@")[2], rest[end:]
    host, port = _host_and_port(authority)
    port_part = "" if port in ("", str(_DEFAULT_PORTS[scheme])) else f":{port}"
    path = path if path.startswith("/") else f"/{path}"
    return host, port_part + _ESCAPED.sub(_plain, path)


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


def _plain(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def targets(urls: pa.StringArray) -> Targets:
    """The targets of URLs; usual ones are found together, others are parsed one by one.

    Args:
      urls: string[n], no nulls, valid UTF-8.
    """
    data, offsets = string_buffers(urls)
    parts = pc.extract_regex(urls, _PLAIN)
    scheme, host = (
        pc.fill_null(pc.binary_length(pc.struct_field(parts, name)), 0).to_numpy()
        for name in ("scheme", "host")
    )
    has_dots = pc.match_substring(urls, "/.")  # which a fetcher takes off
    plain = np.asarray(pc.and_(parts.is_valid(), pc.invert(has_dots))) & (host <= _LONGEST_HOST)
    starts, stops = offsets[:-1].astype(np.int64) + scheme, offsets[1:].astype(np.int64)
    host_ends = starts + host
    others = np.flatnonzero(~plain)
    if not len(others):
        return Targets(data, starts, host_ends, stops)
    pairs = [target_of(url) or ("", "") for url in urls.take(pa.array(others)).to_pylist()]
    byte_pairs = [(name.encode(), rest.encode()) for name, rest in pairs]
    ends = len(data) + np.cumsum([0, *(len(name) + len(rest) for name, rest in byte_pairs)])
    starts[others], stops[others] = ends[:-1], ends[1:]
    host_ends[others] = ends[:-1] + [len(name) for name, _ in byte_pairs]
    more = np.frombuffer(b"".join(name + rest for name, rest in byte_pairs), np.uint8)
    return Targets(read_only(np.concatenate([data, more])), starts, host_ends, stops)
