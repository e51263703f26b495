"""A blocklist as files of arrays, which all workers of a machine map and share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.phrases import LONGEST, phrase_hashes
from alignset.transforms.blocklists.read_list import Entries, ListError, read_entries
from alignset.transforms.blocklists.targets import target_of
from alignset.transforms.columns.hashing import UInt64s, string_hashes
from alignset.transforms.storage.files import local_copy, write_atomically

_PLAIN_HOST = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z_-][a-z0-9_-]*$"
_SCHEME = re.compile("[a-z][a-z0-9+.-]*://", re.I)
# No URL has a host with one of these, so such an entry would block nothing.
_WILD = re.compile(r"[*\x00-\x1f]")
_NO_HOST = (
    "is not a host: write a name or an address, without a scheme, a port, a path or an asterisk"
)
_TOO_WIDE = "is a public suffix and would block too much: name the domains"


def hashed(entries: Entries) -> UInt64s:
    """The hashes of hosts, domains, URLs or prefixes: uint64[n].

    Raises:
      ListError: one is not what its kind says, as in all functions here.
    """
    is_host = entries.kind in (k.HOST, k.DOMAIN)
    return string_hashes(_hosts(entries) if is_host else _targets(entries))


def phrases(entries: Entries) -> tuple[UInt64s, int]:
    """The hashes of words and phrases, uint64[n], and how many words the longest has."""
    hashes, words = phrase_hashes(entries.values)
    entries.refuse((words == 0) | (words > LONGEST), f"must have 1 to {LONGEST} words")
    return hashes, int(words.max(initial=0))


def digests(entries: Entries) -> UInt64s:
    """Values that are written as hex digits, by their last words: uint64[n, w].

    Perceptual hashes are whole, and of keys and digests of files the last word tells them apart.
    """
    size = k.DIGEST_BYTES[entries.kind]
    good = pc.match_substring_regex(entries.values, f"^[0-9a-fA-F]{{{2 * size}}}$")
    what = f"must have {2 * size} hex digits to be {entries.kind}"
    entries.refuse(~good.to_numpy(zero_copy_only=False), what)
    digits = "".join(entries.values.to_pylist())
    rows = np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(-1, size)
    words = size // 8 if entries.kind in k.OF_PICTURES else 1
    return np.ascontiguousarray(rows[:, -8 * words :]).view(">u8").astype(np.uint64)


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


_FORMAT = "3"  # of the arrays: a run that another version began has other files


@dataclass(frozen=True)
class CompiledList:
    """A list, and where its arrays are.

    Attributes:
      name: that the user gave, or `list_name`. sha256: of the file as it was given, in hex.
      entries: how many it has of each kind.
      stem: what the paths of the files of its arrays begin with; they end in the kind.
      longest_phrase: words. prefix_sizes: how many bytes prefixes have, ascending.
      files: the paths of images, of a list of these.
    """

    name: str
    sha256: str
    entries: dict[str, int] = field(hash=False)
    stem: str
    longest_phrase: int = 0
    prefix_sizes: tuple[int, ...] = ()
    files: tuple[str, ...] = ()

    def path(self, kind: str) -> str:
        """The path of an array."""
        return f"{self.stem}-{kind}.npy"

    def array(self, kind: str) -> Any:
        """One of its arrays, mapped: uint64[n], ascending; uint64[w, n] of perceptual hashes;
        uint8[n, 2, 64, 64] of images."""
        return np.load(local_copy(self.path(kind)), mmap_mode="r").view(np.ndarray)


def compile_list(path: str, folder: str) -> CompiledList:
    """Reads a list, checks each of its entries, and writes its arrays.

    Args:
      path: of the list, in a store too. folder: where the files of arrays go, which are named by
        the list's SHA-256.

    Raises:
      ListError: it is not a blocklist, or has no entry; says what to do.
      FileNotFoundError: it is not there.
    """
    local = local_copy(path)
    with Path(local).open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    parts: dict[str, list[UInt64s]] = {kind: [] for kind in k.KINDS}
    longest, sizes = 0, set[int]()
    for entries in read_entries(path, local):
        if entries.kind == k.TEXT:
            part, words = phrases(entries)
            longest = max(longest, words)
        elif entries.kind in k.DIGEST_BYTES:
            part = digests(entries)
        else:
            part = hashed(entries)
            if entries.kind == k.PREFIX:
                sizes.update(pc.binary_length(_targets(entries)).to_pylist())
        parts[entries.kind].append(part)
    counts = {kind: sum(map(len, some)) for kind, some in parts.items() if some}
    if not counts:
        raise ListError(f"the blocklist {path} has no entry: leave it out, or write some")
    arrays = {}
    for kind in counts:
        rows = np.concatenate(parts[kind])
        arrays[kind] = np.unique(rows, axis=0).T if kind in k.OF_PICTURES else np.unique(rows)
    stem = _write(arrays, folder, sha256)
    return CompiledList(list_name(sha256), sha256, counts, stem, longest, tuple(sorted(sizes)))


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
    sha256, count = hashlib.sha256(members.tobytes()).hexdigest(), len(images.paths)
    words = images.digests[:, -8:].copy().view(">u8").astype(np.uint64)
    stem = _write({k.SHA256: np.unique(words), k.IMAGE: images.thumbnails}, folder, sha256)
    entries = {k.SHA256: count, k.IMAGE: count}
    return CompiledList(list_name(sha256), sha256, entries, stem, files=tuple(images.paths))


def list_name(sha256: str) -> str:
    """The name of a list whose user gave none. A dataset is published with it, and a file's name
    may be the very name that is to be forgotten."""
    return f"list-{sha256[:8]}"


def _write(arrays: Mapping[str, np.ndarray], folder: str, sha256: str) -> str:
    stem = f"{folder}/{_FORMAT}-{sha256[:32]}"
    for kind, array in arrays.items():
        write_atomically(f"{stem}-{kind}.npy", partial(np.save, arr=np.ascontiguousarray(array)))
    return stem
