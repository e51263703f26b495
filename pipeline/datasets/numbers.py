"""Exact counts of a dataset, out of the Parquet files of `rejected/`, `shards/` and `pairs/`.

They are read batch by batch, and only the columns that are needed. They may be anybody's.

1. `_count_dropped` counts the rows of `rejected/` by reason and detail.
2. `_split_images` writes the hashes of kept images into parts, by their top bits.
3. `_shared` sorts one part at a time, and finds the hashes that several images have.
4. `compare_near` decodes a few images of equal perceptual hashes, which proves nothing.
"""

from __future__ import annotations

from binascii import unhexlify
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.funnel import most_first
from alignset.pipeline.datasets.set_files import SetFiles, find_own_set
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.records import LONGEST_WORD, hosts_of
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.given import DUPLICATE_IMAGE, DUPLICATE_OF_TRAINING, FETCH_FAILED
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.rules.thresholds import COPY_DISTANCE
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_stats import FailingHost, NearDuplicates, SharedContents
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.parquet_files import read_columns
from alignset.transforms.workers.threads import map_in_threads

In = TypeVar("In")
Out = TypeVar("Out")
MOST_HOSTS = 20  # that failed most
MOST_GROUPS, MOST_PAIRS = 10, 32  # of images with equal bytes; of near ones that are compared
OTHERS = "(others)"
_LONGEST_URL = 1 << 13
MOST_NAMES = 1 << 20  # different names that are counted apart; of more the most frequent
# Images are compared in so many parts, by the top bits of their hashes. Each part waits in a file
# of its own, in memory while that is small, so that sidecars are read once and memory is bounded.
PARTS, IN_MEMORY = 64, 1 << 18
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd
_KEY_DETAILS = (DUPLICATE_OF_TRAINING, DUPLICATE_IMAGE)  # of these reasons, details are keys
_NAMES = pa.schema([("reason", pa.string()), ("detail", pa.string())])
_FAILURES = pa.schema([("url", pa.string()), *_NAMES])
_STATED = pa.schema([("opted_out", pa.string())])
_OF_IMAGES = pa.schema([(name, pa.string()) for name in ("key", "url", "sha256", "phash")])


def hex_numbers(texts: pa.Array) -> tuple[UInt64s, Bools]:
    """uint64[n] of the first 16 digits of texts in hex, and bool[n], which of them have these.

    >>> hex_numbers(pa.array(["00000000000000ff00", "f", None]))
    (array([255,   0,   0], dtype=uint64), array([ True, False, False]))
    """
    digits = pc.fill_null(pc.utf8_slice_codeunits(texts, 0, 16), "")
    has_all = pc.match_substring_regex(digits, "^[0-9a-f]{16}$")
    digits = pc.if_else(has_all, digits, "0" * 16)
    start = np.frombuffer(digits.buffers()[1], np.int32)[digits.offset]
    body = unhexlify(memoryview(digits.buffers()[2] or b"")[start:][: 16 * len(digits)])
    numbers = np.frombuffer(body, ">u8").astype(np.uint64)
    return numbers, has_all.to_numpy(zero_copy_only=False)


def kept_keys(files: SetFiles) -> UInt64s:
    """The keys of all pairs that a dataset holds, held-out pairs too: uint64[n], ascending; other
    strings, and what cannot be read, are omitted."""
    keys = map_in_threads(keys_in, files.kept_files)
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *keys]))


def keys_in(path: str) -> UInt64s:
    """The keys of one file, each once, since it may repeat a key without end."""
    keys = np.zeros(0, np.uint64)
    with suppress(BrokenInputError):
        for batch in read_columns(path, pa.schema([("key", pa.string())])):
            numbers, are_keys = hex_numbers(batch["key"])
            keys = np.union1d(keys, numbers[are_keys])
    return keys


class Tally:
    """Counts by one or two names, in bounded memory: only frequent names are counted apart.

    Attributes:
      counts: by names. others: how many were counted of names that are forgotten.
    """

    def __init__(self, most: int = 0) -> None:
        self.counts, self.others, self.most = Counter[tuple[str, ...]](), 0, most or MOST_NAMES

    def add(self, *columns: pa.Array) -> None:
        """Counts rows by their names, string[n] each."""
        codes = [column.dictionary_encode() for column in columns]  # no group_by: slow to import
        sizes = [len(of.dictionary) for of in codes]
        if all(sizes):
            rows = np.ravel_multi_index([of.indices.to_numpy() for of in codes], sizes)
            rows, counts = np.unique(rows, return_counts=True)
            indices = map(pa.array, np.unravel_index(rows, sizes))
            names = [of.dictionary.take(at) for of, at in zip(codes, indices, strict=True)]
            every = zip(*(of.to_pylist() for of in names), strict=True)
            self._add(dict(zip(every, counts.tolist(), strict=True)))

    def merge(self, other: Tally) -> None:
        """Adds the counts of another of as many names."""
        self._add(other.counts)
        self.others += other.others

    def _add(self, counts: Mapping[tuple[str, ...], int]) -> None:
        self.counts.update(counts)
        if len(self.counts) > self.most:
            self.forget(self.most // 2)

    def forget(self, most: int) -> None:
        """Keeps so many counts, the highest; all else are others."""
        total = self.counts.total()
        self.counts = Counter(dict([*most_first(self.counts).items()][:most]))
        self.others += total - self.counts.total()

    def totals(self) -> dict[str, int]:
        """Counts by the first name, the most frequent first."""
        totals = Counter[str]()
        for (name, *_), n in self.counts.items():
            totals[name] += n
        return most_first(totals)

    def nested(self, most: int | None = None) -> dict[str, dict[str, int]]:
        """Counts by the first name, so many of them, and then by the second; the most frequent
        first."""
        by_name = {name: dict[str, int]() for name in islice(self.totals(), most)}
        counts = {names: n for names, n in self.counts.items() if names[0] in by_name}
        for (first, second), n in most_first(counts).items():
            by_name[first][second] = n
        return by_name


Place = tuple[str, str]  # of a pair: the path of its file, and its key
# How many images have one hash, this hash, and where two of them are.
Group = tuple[int, int, list[Place]]


@dataclass
class PairCounts:
    """Exact counts of a dataset's pairs.

    Attributes:
      dropped: rows of `rejected/` by stage (TEXTS or IMAGES), reason and detail ("" where there is
        none, or it is a key); what was taken down is a reason of both stages.
      kept: rows by the number of their shard, held-out ones too; or by the number of their file of
        `pairs/`.
      hosts: those with the most failed fetches.
      reported: how many kept pairs state each opt-out that is only reported, most first.
      copies: the images that have the bytes of another. groups: the largest of such.
      near: how many images have the perceptual hash of another with other bytes. near_groups: a
        few, whose order is random, but the same in each run.
      faults: files that cannot be read, each as a sentence, where these are passed over.
    """

    dropped: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    hosts: list[FailingHost] = field(default_factory=list)
    reported: dict[str, int] = field(default_factory=dict)
    copies: SharedContents = field(default_factory=SharedContents)
    groups: list[Group] = field(default_factory=list)
    near: int = 0
    near_groups: list[Group] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """How many are kept."""
        return sum(self.kept.values())

    @property
    def rejected_rows(self) -> int:
        return sum(
            n for reasons in self.dropped.values() for of in reasons.values() for n in of.values()
        )

    def reasons(self, stage: str) -> dict[str, int]:
        """How many rows of a stage have each reason."""
        return {reason: sum(of.values()) for reason, of in self.dropped.get(stage, {}).items()}

    def details(self, reason: str) -> dict[str, int]:
        """How many rows of both stages have each detail of a reason, most first."""
        total = Counter[str]()
        for reasons in self.dropped.values():
            total.update(reasons.get(reason, {}))
        return most_first(total)


def count_pairs(
    out: str, *, files: SetFiles | None = None, skip_broken: bool = False
) -> PairCounts:
    """Counts the pairs of a dataset, exactly.

    It costs 0.6 us of CPU a dropped row, and 2 us a kept one, whose image is compared with others;
    for 64 bytes a kept row there must be room in the folder for temporary files.

    Args:
      files: of the dataset, where they are known.
      skip_broken: whether files that cannot be read are passed over, and named in `faults`.

    Raises:
      BrokenInputError: a file cannot be read.
    """
    files, counts = files or find_own_set(out) or SetFiles(out, [], []), PairCounts()

    def each(work: Callable[[str], Out], paths: Collection[str]) -> Iterator[tuple[str, Out]]:
        """Maps files in threads, in their order; yields each with what `work` made of it."""

        def tried(path: str) -> Out | None:
            try:
                return work(path)
            except BrokenInputError as error:
                if not skip_broken:
                    raise
                counts.faults.append(str(error))
                return None

        outcomes = zip(paths, map_in_threads(tried, paths), strict=True)
        return ((path, outcome) for path, outcome in outcomes if outcome is not None)

    _count_dropped(counts, files, each)
    order = {path: at for at, path in enumerate(files.kept_files)}
    stated, lock = Tally(), Lock()
    columns = pa.schema([*_STATED, *(_OF_IMAGES if files.is_of_shards else ())])
    with ExitStack() as stack:
        by_content, by_hash = (
            [stack.enter_context(SpooledTemporaryFile(IN_MEMORY)) for _ in range(PARTS)]
            for _ in range(2)
        )

        def kept_rows(path: str) -> tuple[int, Tally]:
            rows, own = 0, Tally()
            for batch in files.read(path, columns, _LONGEST_URL):
                rows += len(batch)
                own.add(pc.list_flatten(pc.split_pattern(batch["opted_out"].drop_null(), ",")))
                if files.is_of_shards:
                    parts = _split_images(batch, order[path])
                    with lock:
                        for spool, part in zip(chain(by_content, by_hash), parts, strict=True):
                            spool.write(part)
            return rows, own

        for path, (rows, own) in each(kept_rows, order):
            counts.kept[_shard_number(path, order[path], files)] = rows
            stated.merge(own)
        same = [_shared(spool, files.kept_files, MOST_GROUPS) for spool in by_content]
        near = [_shared(spool, files.kept_files, MOST_PAIRS, by_size=False) for spool in by_hash]
    counts.kept = dict(sorted(counts.kept.items()))
    counts.reported = {name: n for name, n in stated.totals().items() if name}
    counts.copies = SharedContents(sum(of[0] for of in same), sum(of[1] for of in same))
    counts.near = sum(of[0] for of in near)
    groups, near_groups = ([group for of in parts for group in of[2]] for parts in (same, near))
    counts.groups = sorted(groups, key=lambda of: (-of[0], of[1]))[:MOST_GROUPS]
    counts.near_groups = sorted(near_groups, key=lambda of: of[1])[:MOST_PAIRS]
    counts.faults = sorted(set(counts.faults))
    return counts


def _count_dropped(counts: PairCounts, files: SetFiles, each: Callable[..., Any]) -> None:
    def dropped_rows(path: str) -> tuple[Tally, Tally]:
        """Rows by reason and detail; and failed fetches, of images alone, by host and detail."""
        reasons, failures, of_images = Tally(), Tally(), stage_of(path) == IMAGES
        for batch in files.read(path, _FAILURES if of_images else _NAMES, _LONGEST_URL):
            filled = (pc.fill_null(batch[name], "") for name in ("reason", "detail"))
            reason, detail = (pc.utf8_slice_codeunits(of, 0, LONGEST_WORD) for of in filled)
            reasons.add(reason, pc.if_else(pc.is_in(reason, pa.array(_KEY_DETAILS)), "", detail))
            if of_images:
                failed = pc.equal(reason, FETCH_FAILED)
                failures.add(hosts_of(batch["url"].filter(failed)), detail.filter(failed))
        return reasons, failures

    by_reason, failures = {TEXTS: Tally(), IMAGES: Tally()}, Tally()
    for path, (reasons, own) in each(dropped_rows, files.rejected_files):
        by_reason[stage_of(path)].merge(reasons)
        failures.merge(own)
    for stage, tally in by_reason.items():
        counts.dropped[stage] = tally.nested()
        if tally.others:
            counts.dropped[stage][OTHERS] = {"": tally.others}
    for host, details in failures.nested(MOST_HOSTS).items():
        of_host = dict(sorted(details.items())), sum(details.values())
        counts.hosts.append(FailingHost(*of_host, host))


def stage_of(path: str) -> str:
    """The stage of a file of `rejected/`."""
    return TEXTS if Path(path).name.startswith("text-") else IMAGES


def _shard_number(path: str, index: int, files: SetFiles) -> int:
    """The number of a shard, or of a file of `pairs/`. Another tool's are numbered on: two folders
    may have shards of one name."""
    stem, folder = Path(path).stem, Path(path).parent.name
    is_own = not files.folder and stem.isdecimal() and len(stem) < 10
    return int(stem) + HOLDOUT * (folder == "holdout") if is_own else index


def _split_images(batch: pa.RecordBatch, file: int) -> list[bytes]:
    """Rows of a sidecar as `_shared` compares them: `PARTS` of those with a content, and as many of
    those with a perceptual hash. An image is a URL, and a content."""
    content, has_content = hex_numbers(batch["sha256"])
    phash, has_phash = hex_numbers(batch["phash"])
    key = hex_numbers(batch["key"])[0]
    has_url = batch["url"].is_valid().to_numpy(zero_copy_only=False)
    url = np.where(has_url, url_hashes(pc.fill_null(batch["url"], ""))[0], key)
    # Multiplied, since perceptual hashes do not fill their top bits evenly.
    hashed = (content, url, has_content), (phash * _MIX, content, has_content & has_phash)
    parts = list[bytes]()
    for hashes, image, which in hashed:
        images = np.stack([hashes, image, key, np.full_like(key, file)], axis=1)[which]
        numbers = (images[:, 0] // (2**64 // PARTS)).astype(np.uint8)
        ends = np.cumsum(np.bincount(numbers, minlength=PARTS))[:-1]
        of_parts = np.split(images[np.argsort(numbers, kind="stable")], ends)
        parts += [part.tobytes() for part in of_parts]
    return parts


def _shared(
    part: IO[bytes], files: Sequence[str], most: int, *, by_size: bool = True
) -> tuple[int, int, list[Group]]:
    """How many images have the hash of another, how many hashes these are, and a few of them.

    Args:
      part: uint64[n, 4]: the hash, the image, and the key and the file of a row with it, as bytes.
      by_size: whether the few are hashes of the most images, or the smallest.
    """
    part.seek(0)
    images = np.frombuffer(part.read(), np.uint64).reshape(-1, 4)
    images = images[np.lexsort(images.T[::-1])]
    images = images[np.append(True, (images[1:, :2] != images[:-1, :2]).any(axis=1))[: len(images)]]
    hashes, starts, sizes = np.unique(images[:, 0], return_index=True, return_counts=True)
    shared = np.flatnonzero(sizes > 1)
    first = shared[np.argsort(-sizes[shared], kind="stable")] if by_size else shared
    groups = list[Group]()
    for at in first[:most].tolist():
        rows = images[starts[at] : starts[at] + 2, 2:].tolist()
        places = [(files[file], f"{key:016x}") for key, file in rows]
        groups.append((int(sizes[at]), int(hashes[at]), places))
    return int(sizes[shared].sum()), len(shared), groups


def compare_near(out: str, counts: PairCounts) -> NearDuplicates:
    """How many images have the perceptual hash of another, and how many of a few such pairs show
    one image: an equal hash is not a proof. Reads their images from the tars."""
    # Which decode images, for this alone.
    from alignset.transforms.arrivals.image_looks import find_thumbnail
    from alignset.transforms.decontamination.copy_index import thumbnail_distance
    from alignset.transforms.images.examine import Image, examine

    files, places = find_own_set(out) or SetFiles(out, [], []), defaultdict[str, list[str]](list)
    for path, key in sorted({place for _, _, two in counts.near_groups for place in two}):
        places[path].append(key)
    images, alike = dict[Place, bytes](), list[bool]()
    for path, keys in places.items():
        with suppress(OSError):  # what is gone is not compared
            images |= {(path, key): body for key, body in files.images(path, keys)}
    for _, _, two in counts.near_groups:
        looks = [examine(images.get(of, b""), keep_grey=True) for of in two]
        thumbnails = [find_thumbnail(look) for look in looks if isinstance(look, Image)]
        if len(thumbnails) == len(two):
            alike.append(thumbnail_distance(*thumbnails) < COPY_DISTANCE)
    return NearDuplicates(counts.near, len(alike), sum(alike))
