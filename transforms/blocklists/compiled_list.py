"""A blocklist as arrays in one file, which all workers of a machine map and share."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.list_values import digests, hashed, phrases, prefix_values
from alignset.transforms.blocklists.near_hashes import near_hashes
from alignset.transforms.blocklists.prefixes import without_longer
from alignset.transforms.blocklists.read_list import Entries, ListError, read_entries
from alignset.transforms.storage.files import PIECE, local_copy, write_atomically

_ALIGNED = 64  # bytes
_FORMAT = "1"  # of the arrays: a run that another version began has other files


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
      name: of its file. sha256: of the file as it was given, in hex.
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
        mapped = np.memmap(local_copy(self.path), place.dtype, "r", place.at, tuple(place.shape))
        return mapped.view(np.ndarray)


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
        made: dict[str, np.ndarray] = {}
        for kind, parts in self.parts.items():
            if kind == k.PREFIX:
                whole = without_longer(prefix for part in parts for prefix in part)
                made["prefix"], made["prefix_ends"] = whole
                continue
            rows = np.concatenate(parts)
            if kind in k.OF_FILES:
                made[kind] = np.unique(rows.view(f"S{rows.shape[1]}").ravel())
            elif kind in k.OF_PICTURES:
                words = rows.view(">u8").astype(np.uint64)
                hashes, members, starts = near_hashes(words)
                made |= {kind: hashes, f"{kind}_members": members, f"{kind}_starts": starts}
            elif kind == k.KEY:
                made[kind] = np.unique(rows.view(">u8").astype(np.uint64))
            else:
                made[kind] = np.unique(rows)
        return made


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
    sha256 = _sha256(local)
    gathered = _Gathered()
    for entries in read_entries(path, local):
        gathered.add(entries)
    if not gathered.entries:
        raise ListError(f"the blocklist {path} has no entry: leave it out, or write some")
    arrays = gathered.arrays()
    file = f"{folder}/{_FORMAT}-{sha256[:32]}.arrays"
    places = _places(arrays)
    write_atomically(file, lambda sink: _write(arrays, sink))
    entries_of = {kind: gathered.entries[kind] for kind in k.KINDS if gathered.entries[kind]}
    name = path.rstrip("/").rpartition("/")[2]
    return CompiledList(name, sha256, entries_of, file, places, gathered.longest_phrase)


def compile_images(path: str, folder: str) -> CompiledList:
    """The same of an image, or of a folder of images.

    Raises:
      ListError: there is no image, or one cannot be decoded.
    """
    from alignset.transforms.blocklists.listed_images import (
        read_images,
    )  # decoders, for these alone

    listed = read_images(path)
    members = np.unique(listed.digests.view("S32").ravel())
    arrays = {k.SHA256: members, k.IMAGE: listed.planes}
    sha256 = hashlib.sha256(members.tobytes()).hexdigest()
    file = f"{folder}/{_FORMAT}-{sha256[:32]}.arrays"
    write_atomically(file, lambda sink: _write(arrays, sink))
    count = len(listed.paths)
    name = f"{k.IMAGE}:{path.rstrip('/').rpartition('/')[2]}"
    entries, files = {k.SHA256: count, k.IMAGE: count}, tuple(listed.paths)
    return CompiledList(name, sha256, entries, file, _places(arrays), files=files)


def _sha256(local: str) -> str:
    with Path(local).open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


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
