"""Entries of blocklists in the form in which they are looked up, and invalid ones."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from publicsuffixlist import PublicSuffixList

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.phrases import LONGEST, phrase_hashes
from alignset.transforms.blocklists.read_list import Entries
from alignset.transforms.blocklists.targets import target_of
from alignset.transforms.columns.hashing import UInt64s, string_hashes

_PLAIN_HOST = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z_-][a-z0-9_-]*$"
_SCHEME = re.compile("[a-z][a-z0-9+.-]*://", re.I)
# A host that has one of these is no other's: such an entry would block nothing.
_WILD = re.compile(r"[*\x00-\x1f]")
_NO_HOST = (
    "is not a host: write a name or an address, without a scheme, a port, a path or an asterisk"
)
_TOO_WIDE = "is a public suffix and would block too much: name the domains"


def hashed(entries: Entries) -> UInt64s:
    """The hashes of hosts, domains or URLs: uint64[n].

    Raises:
      ListError: one is not what its kind says, as in all functions here.
    """
    return string_hashes(_targets(entries) if entries.kind == k.URL else _hosts(entries))


def prefix_values(entries: Entries) -> list[bytes]:
    """The beginnings of targets that prefixes of URLs stand for."""
    return [value.encode() for value in _targets(entries).to_pylist()]


def phrases(entries: Entries) -> tuple[UInt64s, int]:
    """The hashes of words and phrases, uint64[n], and how many words the longest has."""
    hashes, words = phrase_hashes(entries.values)
    entries.refuse((words == 0) | (words > LONGEST), f"must have 1 to {LONGEST} words")
    return hashes, int(words.max(initial=0))


def digests(entries: Entries) -> npt.NDArray[np.uint8]:
    """Values that are written as hex digits: uint8[n, b], of b bytes each."""
    size = k.DIGEST_BYTES[entries.kind]
    good = pc.match_substring_regex(entries.values, f"^[0-9a-fA-F]{{{2 * size}}}$")
    what = f"must have {2 * size} hex digits to be {entries.kind}"
    entries.refuse(~good.to_numpy(zero_copy_only=False), what)
    digits = "".join(entries.values.to_pylist())
    return np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, size)


def _targets(entries: Entries) -> pa.StringArray:
    made = [url_value(value) for value in entries.values.to_pylist()]
    entries.refuse(np.array([value is None for value in made]), "is not an http(s) URL")
    return pa.array(made, pa.string())


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


def _hosts(entries: Entries) -> pa.StringArray:
    values = entries.values
    if entries.kind == k.DOMAIN:
        values = pc.replace_substring_regex(values, r"^\*?\.", "")
    plain = pc.match_substring_regex(values, _PLAIN_HOST).to_numpy(zero_copy_only=False)
    hosts = values.to_pylist()
    for row in np.flatnonzero(~plain):
        hosts[row] = host_value(hosts[row])
    entries.refuse(np.array([host is None for host in hosts]), _NO_HOST)
    if entries.kind == k.DOMAIN:
        entries.refuse(np.array([_is_wide(host) for host in hosts]), _TOO_WIDE)
    return pa.array(hosts, pa.string())


def _is_wide(host: str) -> bool:
    """Whether a name is a public suffix of ICANN's, such as com or co.uk."""
    return not host.startswith("[") and bool(_suffixes().is_public(host))
