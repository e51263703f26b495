"""Entries of blocklists in the form in which they are looked up, and those that are no such."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from publicsuffixlist import PublicSuffixList

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.phrases import LONGEST, phrase_hashes
from alignset.transforms.blocklists.read_list import Entries, Faults
from alignset.transforms.blocklists.targets import target_of
from alignset.transforms.columns.hashing import UInt64s, string_hashes

_PLAIN_HOST = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z_-][a-z0-9_-]*$"
_SCHEME = re.compile("[a-z][a-z0-9+.-]*://", re.I)
# A host that has one of these is no other's: such an entry would block nothing.
_WILD = re.compile(r"[*\x00-\x1f]")
NO_HOST = "is no host: give a name or an address, without a scheme, a port, a path or an asterisk"
NO_URL = "is no http(s) URL"


def hashed(entries: Entries, faults: Faults) -> UInt64s:
    """The hashes of hosts, domains or URLs, of which those that are none are added to `faults`:
    uint64[n]."""
    if entries.kind == k.URL:
        return string_hashes(_good(entries, faults, url_value, NO_URL))
    hosts = _hosts(entries, faults)
    return string_hashes(hosts)


def prefix_values(entries: Entries, faults: Faults) -> list[bytes]:
    """The beginnings of targets that prefixes of URLs stand for."""
    return [value.encode() for value in _good(entries, faults, url_value, NO_URL).to_pylist()]


def phrases(entries: Entries, faults: Faults) -> tuple[UInt64s, int]:
    """The hashes of words and phrases, uint64[n], and how many words the longest has."""
    hashes, words = phrase_hashes(entries.values)
    good = (words > 0) & (words <= LONGEST)
    _refuse(entries, ~good, faults, f"must have 1 to {LONGEST} words")
    return hashes[good], int(words[good].max(initial=0))


def digests(entries: Entries, faults: Faults) -> npt.NDArray[np.uint8]:
    """Values that are written as hex digits: uint8[n, b], of b bytes each."""
    size = k.DIGEST_BYTES[entries.kind]
    good = pc.match_substring_regex(entries.values, f"^[0-9a-fA-F]{{{2 * size}}}$")
    marks = good.to_numpy(zero_copy_only=False)
    what = f"must have {2 * size} hex digits to be {entries.kind}"
    _refuse(entries, ~marks, faults, what)
    digits = "".join(entries.values.filter(good).to_pylist())
    return np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, size)


def _refuse(entries: Entries, wrong: Any, faults: Faults, what: str) -> None:
    rows = pa.array(wrong)
    faults.add(entries.values.filter(rows), entries.places.filter(rows), what)


def _good(
    entries: Entries, faults: Faults, value_of: Callable[[str], str | None], what: str
) -> pa.StringArray:
    made = pa.array([value_of(value) for value in entries.values.to_pylist()], pa.string())
    _refuse(entries, made.is_null().to_numpy(zero_copy_only=False), faults, what)
    return made.drop_null()


def url_value(value: str) -> str | None:
    """The target that a URL stands for, which may lack its scheme; None where it is none."""
    if value.startswith(("/", "\\")):
        return None
    target = target_of(value if _SCHEME.match(value) else f"http://{value}")
    if target is None or not target[0] or _WILD.search(target[0]):
        return None
    return "".join(target)


def host_value(value: str) -> str | None:
    """A host as targets have it; None where it is none."""
    if re.search(r"[/?#@\\\s%*\x00]", value) or (":" in value and not value.startswith("[")):
        return None
    target = target_of(f"http://{value}/")
    return target[0] if target and target[1] == "/" and target[0] else None


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(only_icann=True)


def _hosts(entries: Entries, faults: Faults) -> pa.StringArray:
    values = entries.values
    if entries.kind == k.DOMAIN:
        values = pc.replace_substring_regex(values, r"^\*?\.", "")
        entries = entries._replace(values=values)
    plain = pc.match_substring_regex(values, _PLAIN_HOST).to_numpy(zero_copy_only=False)
    hosts = values.to_pylist()
    for row in np.flatnonzero(~plain):
        hosts[row] = host_value(hosts[row])
    made = pa.array(hosts, pa.string())
    _refuse(entries, made.is_null().to_numpy(zero_copy_only=False), faults, NO_HOST)
    if entries.kind == k.HOST:
        return made.drop_null()
    wide = np.array([host is not None and _is_wide(host) for host in hosts])
    what = "is what anybody may register names below, so it would block too much: name the domains"
    _refuse(entries, wide, faults, what)
    return made.filter(pa.array(~wide)).drop_null()


def _is_wide(host: str) -> bool:
    """Whether a name is a public suffix of ICANN's, such as com or co.uk."""
    return not host.startswith("[") and bool(_suffixes().is_public(host))
