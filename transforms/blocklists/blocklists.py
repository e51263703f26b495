"""The blocklists of a run, as all workers ask them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.compiled_list import CompiledList
from alignset.transforms.blocklists.targets import Targets, has_any_phrase, targets
from alignset.transforms.columns.hashing import Bools, HashSet, UInt64s, is_member, xxh64
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.pairs.texts import Texts, measure_texts
from alignset.transforms.storage.files import carry_file

if TYPE_CHECKING:
    from alignset.transforms.blocklists.listed_images import ListedImages
    from alignset.transforms.images.examine import Image

_DOT = ord(".")
_PIECE = 1 << 16  # perceptual hashes that are compared at once, which the caches hold
_OPENING = Lock()  # or each thread would make an index of a list's images, 30 s and 0.3 GB


@kernel
def _mark_spans(data, starts, stops, table, marks):  # type: ignore[no-untyped-def]
    for row in range(len(marks)):
        marks[row] = starts[row] < stops[row] and is_member(
            table, xxh64(data, starts[row], stops[row])
        )


@kernel
def _mark_domains(data, starts, stops, table, marks):  # type: ignore[no-untyped-def]
    """Marks the hosts that are a member, or end in a dot and a member."""
    for row in range(len(marks)):
        for at in range(starts[row], stops[row]):
            begins = at == starts[row] or data[at - 1] == _DOT
            if begins and is_member(table, xxh64(data, at, stops[row])):
                marks[row] = True
                break


@kernel
def _mark_beginnings(data, starts, stops, sizes, table, marks):  # type: ignore[no-untyped-def]
    """Marks the targets that begin with a member; sizes: of the members, ascending."""
    for row in range(len(marks)):
        for size in sizes:
            stop = starts[row] + size
            if stop > stops[row]:
                break
            if is_member(table, xxh64(data, starts[row], stop)):
                marks[row] = True
                break


def least_distance(members: UInt64s, words: UInt64s) -> int:
    """How far the nearest member is from a perceptual hash, in bits.

    >>> least_distance(np.array([[7, 12]], np.uint64), np.array([15], np.uint64))
    1

    Args:
      members: uint64[w, n], one or more. words: uint64[w].
    """
    least = 64 * len(words)
    for start in range(0, members.shape[1], _PIECE):
        some = members[:, start : start + _PIECE]
        bits = np.zeros(some.shape[1], np.uint16)
        for row, word in zip(some, words, strict=True):
            bits += np.bitwise_count(row ^ word)
        least = min(least, int(bits.min()))
    return least


class ListedCopy(NamedTuple):
    """The image of a list that a file is a copy of: the list, its file, and how far it is."""

    name: str
    path: str
    distance: float

    @property
    def detail(self) -> str:
        return f"{self.name}:{k.IMAGE}"


class _OpenList:
    """A list whose arrays are mapped. For all threads."""

    def __init__(self, blocklist: CompiledList) -> None:
        arrays = {kind: blocklist.array(kind) for kind in blocklist.entries}
        self._near = {kind: arrays.pop(kind) for kind in k.OF_PICTURES if kind in arrays}
        self._sets = {kind: HashSet(arrays[kind]) for kind in arrays if kind != k.IMAGE}
        self._longest_phrase = blocklist.longest_phrase
        self._prefix_sizes = np.array(blocklist.prefix_sizes, np.int64)

    def marks(
        self, asked: Targets, texts: Texts | None = None, keys: UInt64s | None = None
    ) -> Iterator[tuple[str, Bools]]:
        """For each kind of entries of n pairs, which of them are on the list: bool[n].

        Args:
          asked: of their URLs. texts: of their alt-texts, with their words; None where no list
            asks. keys: uint64[n]; None where no list is to be asked.
        """
        data, starts, host_ends, stops = asked
        for kind in k.OF_PAIRS:
            if kind not in self._sets:
                continue
            members, marks = self._sets[kind], np.zeros(len(starts), np.bool_)
            if kind == k.HOST:
                _mark_spans(data, starts, host_ends, members.table, marks)
            elif kind == k.DOMAIN:
                _mark_domains(data, starts, host_ends, members.table, marks)
            elif kind == k.URL:
                _mark_spans(data, starts, stops, members.table, marks)
            elif kind == k.PREFIX:
                _mark_beginnings(data, starts, stops, self._prefix_sizes, members.table, marks)
            elif kind == k.KEY and keys is not None:
                marks = members.contains(keys)
            elif kind == k.TEXT and texts is not None:
                marks = has_any_phrase(texts, members, self._longest_phrase)
            yield kind, marks

    def has_file(self, kind: str, digest: bytes) -> bool:
        """Whether the digest of a file is on the list."""
        word = np.frombuffer(digest[-8:], ">u8").astype(np.uint64)
        return kind in self._sets and bool(self._sets[kind].contains(word)[0])

    def distance(self, kind: str, words: UInt64s) -> int:
        """How far the nearest of its hashes of images is, in bits."""
        near = self._near.get(kind)
        return 64 * len(words) + 1 if near is None else least_distance(near, words)


_opened = lru_cache(maxsize=64)(_OpenList)


def _open(blocklist: CompiledList) -> _OpenList:
    with _OPENING:
        return _opened(blocklist)


@lru_cache(maxsize=64)
def _opened_images(blocklist: CompiledList) -> ListedImages:
    from alignset.transforms.blocklists.listed_images import ListedImages  # with decoders

    return ListedImages(blocklist.array(k.IMAGE), blocklist.files)


@dataclass(frozen=True)
class Blocklists:
    """The lists of a run, and from which distance on an image is another.

    Attributes:
      min_phash_distance, min_pdq_distance: bits; what is nearer to an entry is blocked.
    """

    lists: tuple[CompiledList, ...] = ()
    min_phash_distance: int = 6
    min_pdq_distance: int = 32

    def moved(self, folder: str) -> Blocklists:
        """The same, with the files of their arrays in a folder that all workers see."""
        lists = []
        for blocklist in self.lists:
            moved = replace(blocklist, stem=f"{folder}/{blocklist.stem.rpartition('/')[2]}")
            for kind in blocklist.entries:
                carry_file(blocklist.path(kind), moved.path(kind))
            lists.append(moved)
        return replace(self, lists=tuple(lists))

    def have(self, *kinds: str) -> bool:
        """Whether any list has entries of any of these kinds."""
        return any(kind in blocklist.entries for blocklist in self.lists for kind in kinds)

    def match_pairs(
        self,
        urls: pa.StringArray,
        captions: pa.StringArray,
        keys: UInt64s,
        words: npt.NDArray[np.int32] | None = None,
    ) -> pa.StringArray:
        """Which list each pair is on, and with which kind of entry, by the first that it is on.

        Args:
          urls: string[n]. captions: string[n], as they are kept; neither has nulls. keys:
            uint64[n].
          words: int32[n], how many words each caption has, where that is known.

        Returns:
          string[n], such as "takedowns:host", or null.
        """
        codes, names = np.zeros(len(urls), np.int32), [None]
        if self.have(*k.OF_PAIRS) and len(urls):
            texts = None
            if self.have(k.TEXT):
                # The words of a malformed pair are unknown, so its text is not measured.
                has_words = np.ones(len(urls), np.bool_) if words is None else words > 0
                texts = measure_texts(captions, has_words, words)
            asked = targets(urls), texts, keys
            for blocklist in self.lists:
                for kind, marks in _open(blocklist).marks(*asked):
                    codes[marks & (codes == 0)] = len(names)
                    names.append(f"{blocklist.name}:{kind}")  # type: ignore[arg-type]
        return pa.array(names, pa.string()).take(pa.array(codes))

    def match_url(self, url: str) -> str | None:
        """Which list a URL is on, such as one that a host redirects to. For all threads."""
        if not self.have(*k.OF_URLS):
            return None
        asked = targets(pa.array([url], pa.string()))
        for blocklist in self.lists:
            for kind, marks in _open(blocklist).marks(asked):
                if marks[0]:
                    return f"{blocklist.name}:{kind}"
        return None

    def match_file(self, sha256: bytes | None, body: bytes | None = None) -> str | None:
        """Which list a file is on, by its digests.

        Args:
          sha256: None where it is not known, or was asked for before.
          body: its bytes, for the digests that are not given; None leaves these out.
        """
        digests = {k.SHA256: sha256} if sha256 and self.have(k.SHA256) else {}
        if body is not None:
            for kind in (k.MD5, k.SHA1):
                if self.have(kind):
                    digests[kind] = hashlib.new(kind, body, usedforsecurity=False).digest()
        for blocklist in self.lists:
            for kind, digest in digests.items():
                if _open(blocklist).has_file(kind, digest):
                    return f"{blocklist.name}:{kind}"
        return None

    def match_picture(self, body: bytes, image: Image) -> str | None:
        """Which list an image is on by how it looks.

        Args:
          image: what `examine` said of the file with `keep_picture`, and with `keep_grey`.

        Raises:
          ModuleNotFoundError: a list has PDQ hashes, and `pdqhash` is not installed.
        """
        from alignset.transforms.images.thumbnail import pdq_words

        if detail := self.find_nearest(k.PHASH, np.array([image.phash], np.uint64)):
            return detail
        words = pdq_words(image) if self.have(k.PDQ) else None
        if words is not None and (detail := self.find_nearest(k.PDQ, words)):
            return detail
        copy = self.find_copy(body, image)
        return copy and copy.detail

    def find_nearest(self, kind: str, words: UInt64s) -> str | None:
        """The list with the entry that is nearest to a hash, where one is near enough; the
        first of equals.

        Args:
          kind: `phash` or `pdq`. words: uint64[w], the hash.
        """
        most = (self.min_phash_distance if kind == k.PHASH else self.min_pdq_distance) - 1
        if most < 0 or not self.have(kind):
            return None
        distances = [_open(blocklist).distance(kind, words) for blocklist in self.lists]
        bits = min(distances)
        return f"{self.lists[distances.index(bits)].name}:{kind}" if bits <= most else None

    def find_copy(self, body: bytes, image: Image | None = None) -> ListedCopy | None:
        """Which listed image a file shows, too.

        Args:
          image: what `examine` said of the file with `keep_grey`.
        """
        for blocklist in self.lists:
            if k.IMAGE not in blocklist.entries:
                continue
            with _OPENING:
                images = _opened_images(blocklist)
            if nearest := images.nearest(body, image):
                path = images.paths[nearest.row]
                return ListedCopy(blocklist.name, path, nearest.distance)
        return None


NO_LISTS = Blocklists()
