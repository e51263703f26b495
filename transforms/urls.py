"""Image URLs: what makes one usable, and the identity by which images are counted."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from transforms.hashing import UInt64s, string_buffers, string_hashes, xxh64

# scheme, user information, host (a name or [IPv6]), port, the rest. Letter by letter, since
# re.I would take "ſ" for "s".
_URL = re.compile(
    r"([hH][tT][tT][pP][sS]?)://([^/?#]*@)?(\[[0-9a-fA-F:.]+\]|[^/?#:@\[\]\s]+)"
    r"(?::([0-9]*))?([/?#].*)?",
    re.S,
)
_DEFAULT_PORT = {"http": "80", "https": "443"}


def url_identity(url: str) -> str | None:
    """What one image URL is counted by, or None where it is no absolute http(s) URL.

    Scheme and host lower-cased, default port and fragment dropped, the rest as it is.
    """
    match = _URL.fullmatch(url.strip())
    if match is None:
        return None
    scheme, user, host, port, rest = match.groups()
    scheme = scheme.lower()
    number = (port or "").lstrip("0")
    if len(number) > 5 or int(number or 0) > 65535:  # int() raises at thousands of digits
        return None
    shown = f":{port}" if port and number != _DEFAULT_PORT[scheme] else ""
    return f"{scheme}://{user or ''}{host.lower()}{shown}{(rest or '').partition('#')[0]}"


# What a plain host is made of; any other character sends the URL through `url_identity`.
_HOST = np.array([(chr(b).isalnum() and b < 0x80) or chr(b) in ".-_" for b in range(256)])


@njit(nogil=True, cache=True)
def _hash_plain_urls(data, offsets, host, room, hashes, plain):  # type: ignore[no-untyped-def]
    """Hashes the identities of URLs of the usual form, scheme://host/path in plain ASCII."""
    for row in range(len(hashes)):
        plain[row] = False
        size = 0
        at, stop = offsets[row], offsets[row + 1]
        if stop - at > len(room):
            continue
        while at < stop and size < 8 and (size == 0 or room[size - 1] != ord(":")):
            room[size] = (
                data[at] | 0x20 if data[at] < ord("[") and data[at] > ord("@") else data[at]
            )
            size += 1
            at += 1
        secure = size == 6 and room[4] == ord("s")
        if not (secure or size == 5) or stop - at < 3 or data[at] != 0x2F or data[at + 1] != 0x2F:
            continue
        if room[0] != ord("h") or room[1] != ord("t") or room[2] != ord("t") or room[3] != ord("p"):
            continue
        room[size] = 0x2F
        room[size + 1] = 0x2F
        size += 2
        at += 2
        first = at
        while at < stop and host[data[at]]:
            upper = data[at] >= ord("A") and data[at] <= ord("Z")
            room[size] = data[at] | 0x20 if upper else data[at]
            size += 1
            at += 1
        usual = at > first and (at == stop or data[at] == ord("/") or data[at] == ord("?"))
        while usual and at < stop and data[at] != ord("#"):
            usual = data[at] > 0x20 and data[at] < 0x7F
            room[size] = data[at]
            size += 1
            at += 1
        if usual and at == stop:
            hashes[row] = xxh64(room, 0, size)
            plain[row] = True


def url_hashes(urls: pa.StringArray) -> tuple[UInt64s, npt.NDArray[np.bool_]]:
    """Hashes of the identities of image URLs.

    Args:
      urls: string[n], no nulls, valid UTF-8.

    Returns:
      uint64[n], and bool[n]: whether each is an absolute http or https URL with a host.
    """
    data, offsets = string_buffers(urls)
    hashes = np.zeros(len(urls), np.uint64)
    usable = np.empty(len(urls), np.bool_)
    _hash_plain_urls(data, offsets, _HOST, np.empty(4096, np.uint8), hashes, usable)
    unusual = np.flatnonzero(~usable)
    identities = [url_identity(url) for url in urls.take(pa.array(unusual)).to_pylist()]
    usable[unusual] = [identity is not None for identity in identities]
    hashes[unusual] = string_hashes(pa.array([i or "" for i in identities], pa.string()))
    return hashes, usable
