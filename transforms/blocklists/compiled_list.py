"""A blocklist as arrays in one file, which all workers of a machine map and share."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.near_hashes import near_hashes
from alignset.transforms.blocklists.phrases import LONGEST, phrase_hashes
from alignset.transforms.blocklists.prefixes import without_longer
from alignset.transforms.blocklists.read_list import Entries, ListError, read_entries
from alignset.transforms.blocklists.targets import target_of
from alignset.transforms.columns.hashing import UInt64s, string_hashes
from alignset.transforms.storage.files import PIECE, local_copy, write_atomically

_PLAIN_HOST = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z_-][a-z0-9_-]*$"
_SCHEME = re.compile("[a-z][a-z0-9+.-]*://", re.I)
# No URL has a host with one of these, so such an entry would block nothing.
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
    values = [url_value(value) for value in entries.values.to_pylist()]
    entries.refuse(np.array([value is None for value in values]), "is not an http(s) URL")
    return pa.array(values, pa.string())


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
def public_suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList  # of the extra blocklists

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
        # Public suffixes of ICANN's, such as com or co.uk.
        is_public = public_suffixes().is_public
        wide = [not host.startswith("[") and bool(is_public(host)) for host in hosts]
        entries.refuse(np.array(wide), _TOO_WIDE)
    return pa.array(hosts, pa.string())


_ALIGNED = 64  # bytes
_FORMAT = "2"  # of the arrays: a run that another version began has other files


@dataclass(frozen=True)
class ArrayPlace:
    """Where an array is in a file: its type, its offset in bytes, its shape."""

    dtype: str
    at: int
    shape: list[int]


@dataclass(frozen=True)
class CompiledList:
    """A list, and where its arrays are.

    Attributes:
      name: that the user gave, or `list_name`. sha256: of the file as it was given, in hex.
      entries: how many it has of each kind.
      path: of the file of its arrays. places: of the arrays, by name.
      longest_phrase: words. files: the paths of images, of a list of these.
    """

    name: str
    sha256: str
    entries: dict[str, int]
    path: str
    places: dict[str, ArrayPlace] = field(default_factory=dict)
    longest_phrase: int = 0
    files: tuple[str, ...] = ()

    def array(self, name: str) -> Any:
        """One of its arrays, mapped."""
        place = self.places[name]
        if not all(place.shape):
            return np.zeros(place.shape, place.dtype)
        values = np.memmap(local_copy(self.path), place.dtype, "r", place.at, tuple(place.shape))
        return values.view(np.ndarray)


class _Gathered:
    """The entries of a list as they are read."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Any]] = {}
        self.entries: Counter[str] = Counter()
        self.longest_phrase = 0

    def add(self, entries: Entries) -> None:
        kind = entries.kind
        if kind == k.PREFIX:
            part: Any = prefix_values(entries)
        elif kind == k.TEXT:
            part, longest = phrases(entries)
            self.longest_phrase = max(self.longest_phrase, longest)
        else:
            part = digests(entries) if kind in k.DIGEST_BYTES else hashed(entries)
        self.entries[kind] += len(entries.values)
        self.parts.setdefault(kind, []).append(part)

    def arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for kind, parts in self.parts.items():
            if kind == k.PREFIX:
                whole = without_longer(prefix for part in parts for prefix in part)
                arrays["prefix"], arrays["prefix_ends"] = whole
                continue
            rows = np.concatenate(parts)
            if kind in k.OF_FILES:
                arrays[kind] = np.unique(rows.view(f"S{rows.shape[1]}").ravel())
            elif kind in k.OF_PICTURES:
                words = rows.view(">u8").astype(np.uint64)
                hashes, members, starts = near_hashes(words)
                arrays |= {kind: hashes, f"{kind}_members": members, f"{kind}_starts": starts}
            elif kind == k.KEY:
                arrays[kind] = np.unique(rows.view(">u8").astype(np.uint64))
            else:
                arrays[kind] = np.unique(rows)
        return arrays


def compile_list(path: str, folder: str) -> CompiledList:
    """Reads a list, checks each of its entries, and writes its arrays.

    Args:
      path: of the list, in a store too. folder: where the file of arrays goes, which is named by
        the list's SHA-256.

    Raises:
      ListError: it is not a blocklist, or has no entry; says what to do.
      FileNotFoundError: it is not there.
    """
    local = local_copy(path)
    with Path(local).open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    parts = _Gathered()
    for entries in read_entries(path, local):
        parts.add(entries)
    if not parts.entries:
        raise ListError(f"the blocklist {path} has no entry: leave it out, or write some")
    arrays = parts.arrays()
    file = f"{folder}/{_FORMAT}-{sha256[:32]}.arrays"
    places = _places(arrays)
    write_atomically(file, lambda sink: _write(arrays, sink))
    entries_of = {kind: parts.entries[kind] for kind in k.KINDS if parts.entries[kind]}
    return CompiledList(list_name(sha256), sha256, entries_of, file, places, parts.longest_phrase)


def compile_images(path: str, folder: str) -> CompiledList:
    """The same of an image, or of a folder of images.

    Raises:
      ListError: there is no image, or one cannot be decoded.
    """
    from alignset.transforms.blocklists.listed_images import (
        read_images,
    )  # decoders, for these alone

    images = read_images(path)
    members = np.unique(images.digests.view("S32").ravel())
    arrays = {k.SHA256: members, k.IMAGE: images.planes}
    sha256 = hashlib.sha256(members.tobytes()).hexdigest()
    file = f"{folder}/{_FORMAT}-{sha256[:32]}.arrays"
    write_atomically(file, lambda sink: _write(arrays, sink))
    count = len(images.paths)
    entries, files = {k.SHA256: count, k.IMAGE: count}, tuple(images.paths)
    return CompiledList(list_name(sha256), sha256, entries, file, _places(arrays), files=files)


def list_name(sha256: str) -> str:
    """The name of a list whose user gave none. A dataset is published with it, and a file's name
    may be the very name that is to be forgotten."""
    return f"list-{sha256[:8]}"


def _places(arrays: Mapping[str, np.ndarray]) -> dict[str, ArrayPlace]:
    places, at = {}, 0
    for name, array in arrays.items():
        places[name] = ArrayPlace(array.dtype.str, at, list(array.shape))
        at += array.nbytes + -array.nbytes % _ALIGNED
    return places


def _write(arrays: Mapping[str, np.ndarray], sink: BinaryIO) -> None:
    for array in arrays.values():
        whole = np.ascontiguousarray(array).ravel().view(np.uint8)
        for at in range(0, len(whole), PIECE):
            sink.write(whole[at : at + PIECE].data)
        sink.write(bytes(-array.nbytes % _ALIGNED))
