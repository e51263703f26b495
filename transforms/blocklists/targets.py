"""What of a pair is compared with a list: the target of its URL, and the words of its alt-text.

A target is host and path in one form. Two URLs have one target where a fetcher would send the same
request for them, over http or https. Words and phrases are told by the hashes of their words.
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

from alignset.transforms.columns.hashing import (
    Bools,
    HashSet,
    UInt64s,
    is_member,
    pair_hash,
    read_only,
    string_buffers,
)
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.columns.web_urls import parse_url, request_url
from alignset.transforms.pairs.texts import Texts, measure_texts
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


LONGEST = 32  # words of a phrase


@kernel
def _chain(ngrams, first, words):  # type: ignore[no-untyped-def]
    """The hash of so many neighbouring words; for two it is the hash of their bigram."""
    value = ngrams[first]
    for word in range(1, words):
        value = pair_hash(value, ngrams[first + 2 * word - 1])
    return value


@kernel
def _has_phrase(ngrams, first, words, table, longest):  # type: ignore[no-untyped-def]
    for begin in range(words):
        at = first + max(0, 2 * begin - 1)
        value = ngrams[at]
        if is_member(table, value):
            return True
        for more in range(1, min(longest, words - begin)):
            value = pair_hash(value, ngrams[first + 2 * (begin + more) - 1])
            if is_member(table, value):
                return True
    return False


@kernel
def _mark(texts, table, longest, marks):  # type: ignore[no-untyped-def]
    ngrams, first, word_count = texts
    for row in range(len(marks)):
        marks[row] = _has_phrase(ngrams, first[row], word_count[row], table, longest)


def phrase_hashes(phrases: pa.StringArray) -> tuple[UInt64s, npt.NDArray[np.int32]]:
    """The hash of each phrase, uint64[n], and how many words it has, int32[n].

    Args:
      phrases: string[n], no nulls, valid UTF-8; read as alt-texts are.
    """
    texts = measure_texts(phrases, np.ones(len(phrases), np.bool_))
    hashes = [
        _chain(texts.ngrams, first, words) if words else 0
        for first, words in zip(texts.first_ngram, texts.word_count, strict=True)
    ]
    return np.array(hashes, np.uint64), texts.word_count


def has_any_phrase(texts: Texts, phrases: HashSet, longest: int) -> Bools:
    """Which texts have one of the phrases as neighbouring words: bool[n].

    Args:
      phrases: of the hashes of phrases. longest: how many words the longest of them has.
    """
    marks = np.empty(len(texts.word_count), np.bool_)
    _mark((texts.ngrams, texts.first_ngram, texts.word_count), phrases.table, longest, marks)
    return marks
