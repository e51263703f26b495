"""Exact counts of a dataset, out of the Parquet files of `rejected/`, `shards/` and `pairs/`.

They are read batch by batch, and only the columns that are needed. They may be anybody's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.funnel import most_first
from alignset.pipeline.datasets.set_files import SetFiles, find_own_set
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.given import (
    DUPLICATE_IMAGE,
    DUPLICATE_OF_TRAINING,
    FETCH_FAILED,
    OPTED_OUT,
    TAKEN_DOWN,
)
from alignset.transforms.rules.overlap import COPY_DISTANCE
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_stats import FailingHost, NearDuplicates, SharedContents
from alignset.transforms.storage.broken_files import BrokenInputError

In = TypeVar("In")
Out = TypeVar("Out")
MOST_HOSTS = 20  # that failed most
MOST_GROUPS, MOST_PAIRS = 10, 32  # of images with equal bytes; of near ones that are compared
OTHERS = "(others)"
_THREADS = 4  # since a store answers slowly; more of them only wait for each other
_LONGEST_URL = 1 << 13
_LONGEST_NAME = 120  # of a reason, a detail, or a host
MOST_NAMES = 1 << 20  # different names that are counted apart; of more the most frequent
CONTENTS_AT_ONCE = 1 << 24  # some 36 bytes each, and as many while they are sorted
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: perceptual hashes do not fill their top bits evenly
_KEY_DETAILS = (DUPLICATE_OF_TRAINING, DUPLICATE_IMAGE)  # of these reasons, details are keys
_NAMES = pa.schema([("reason", pa.string()), ("detail", pa.string())])
_FAILURES = pa.schema([("url", pa.string()), *_NAMES])
_STATED = pa.schema([("opted_out", pa.string())])
_OF_IMAGES = pa.schema([(name, pa.string()) for name in ("key", "url", "sha256", "phash")])


def in_threads(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Maps in a few threads, in order, a few items ahead; raises what one of them did."""
    rest = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead = [pool.submit(work, item) for item in islice(rest, 2 * _THREADS)]
        while ahead:
            result = ahead.pop(0).result()
            ahead += [pool.submit(work, item) for item in islice(rest, 1)]
            yield result


def hosts_of(urls: pa.StringArray) -> pa.StringArray:
    """The host of each URL, with its port where that is given; "" where there is none."""
    found = pc.struct_field(pc.extract_regex(urls, r"://(?:[^/?#]*@)?(?P<host>[^/?#@]*)"), [0])
    return pc.utf8_slice_codeunits(pc.utf8_lower(pc.fill_null(found, "")), 0, _LONGEST_NAME)


def hex_numbers(texts: pa.Array) -> tuple[UInt64s, Bools]:
    """uint64[n] of the first 16 digits of texts in hex, and bool[n], which of them have these."""
    digits = pc.fill_null(pc.utf8_slice_codeunits(texts, 0, 16), "")
    has_all = pc.match_substring_regex(digits, "^[0-9a-f]{16}$")
    digits = pc.if_else(has_all, digits, "0" * 16)
    offsets = np.frombuffer(digits.buffers()[1], np.int32)[digits.offset :]
    body = np.frombuffer(digits.buffers()[2] or b"", np.uint8)[offsets[0] :][: 16 * len(digits)]
    halves = np.where(body < ord("a"), body - ord("0"), body - (ord("a") - 10)).reshape(-1, 8, 2)
    numbers = (halves[:, :, 0] << 4 | halves[:, :, 1]).astype(np.uint8)
    return numbers.view(">u8")[:, 0].astype(np.uint64), has_all.to_numpy(zero_copy_only=False)


class Tally:
    """Counts by one or several names, in bounded memory: of very many names the most frequent.

    Attributes:
      others: how many were counted of names that are forgotten.
    """

    def __init__(self, *names: str, most: int = 0) -> None:
        self.names, self.most, self.others = list(names), most or MOST_NAMES, 0
        self._parts: list[pa.Table] = []
        self._waiting = 0

    def add(self, *columns: pa.Array) -> None:
        """Counts rows by their names, string[n] each."""
        if len(columns[0]):
            ones = pa.array(np.ones(len(columns[0]), np.int64))
            self._add(_summed(pa.table([*columns, ones], [*self.names, "n"])))

    def merge(self, other: Tally) -> None:
        """Adds the counts of another of the same names."""
        self._add(other.table())
        self.others += other.others

    def _add(self, part: pa.Table) -> None:
        self._parts.append(part)
        self._waiting += len(part)
        if self._waiting > max(1 << 16, len(self._parts[0])):
            self.table()

    def table(self) -> pa.Table:
        """Columns of the names (string[n]), and `n`; the most frequent first, equal ones by name.
        Where names are forgotten, it is by the first of a row as far as that is enough."""
        if self._waiting:
            whole = pa.concat_tables(self._parts)
            order = [("n", "descending"), *((name, "ascending") for name in self.names)]
            whole = _summed(whole) if len(self._parts) > 1 else whole
            self._parts, self._waiting = [whole.sort_by(order)], 0
            if len(whole) > self.most:
                total = pc.sum(whole["n"]).as_py()
                names = self.first_totals()[0].slice(0, self.most // 2).combine_chunks()
                rest = self._parts[0].filter(pc.is_in(self._parts[0][0], value_set=names))
                self._parts = [rest.slice(0, self.most)]
                self.others += total - pc.sum(self._parts[0]["n"]).as_py()
        if not self._parts:
            names = [(name, pa.string()) for name in self.names]
            return pa.schema([*names, ("n", pa.int64())]).empty_table()
        return self._parts[0]

    def first_totals(self) -> pa.Table:
        """Columns of the first names alone (string[n]), and `n`; in the same order."""
        if len(self.names) == 1:
            return self.table()
        whole = _summed(self.table().select([self.names[0], "n"]))
        return whole.sort_by([("n", "descending"), (self.names[0], "ascending")])

    def only(self, names: pa.ChunkedArray) -> Tally:
        """The counts of some first names; all else are others."""
        table, part = self.table(), Tally(*self.names, most=self.most)
        rows = table.filter(pc.is_in(table[0], value_set=names.combine_chunks()))
        part._add(rows)
        total, rest = (pc.sum(of["n"]).as_py() or 0 for of in (table, rows))
        part.others = self.others + total - rest
        return part

    def counts(self) -> dict[str, int]:
        """Counts by the first name, the most frequent first."""
        totals = self.first_totals()
        return dict(zip(*(column.to_pylist() for column in totals.columns), strict=True))

    def nested(self) -> dict[str, dict[str, int]]:
        """Counts by the first name and then the second, the most frequent first."""
        table, by_name = self.table(), dict[str, dict[str, int]]()
        for first, second, n in zip(*(of.to_pylist() for of in table.columns), strict=True):
            by_name.setdefault(first, {})[second] = n
        return by_name


def _summed(table: pa.Table) -> pa.Table:
    names = table.column_names[:-1]
    return table.group_by(names).aggregate([("n", "sum")]).rename_columns([*names, "n"])


# ---- Exact counts ----------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class NearPair:
    """Two images with one perceptual hash and other bytes: of each its shard, and a pair's key.

    Attributes:
      order: random, but the same in each run.
    """

    order: int
    first: tuple[int, str]
    second: tuple[int, str]


@dataclass(frozen=True)
class ContentGroup:
    """A content, how many images have it, and where one of their pairs is."""

    images: int
    content: str
    shard: int
    key: str


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
      near: how many images have the perceptual hash of another with other bytes; near_pairs: a few.
      faults: files that cannot be read, each as a sentence, where these are passed over.
    """

    dropped: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    hosts: list[FailingHost] = field(default_factory=list)
    reported: dict[str, int] = field(default_factory=dict)
    copies: SharedContents = field(default_factory=SharedContents)
    groups: list[ContentGroup] = field(default_factory=list)
    near: int = 0
    near_pairs: list[NearPair] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """How many are kept."""
        return sum(self.kept.values())

    @property
    def held_out(self) -> int:
        return sum(count for number, count in self.kept.items() if number >= HOLDOUT)

    @property
    def rejected_rows(self) -> int:
        return sum(
            n for reasons in self.dropped.values() for of in reasons.values() for n in of.values()
        )

    @property
    def taken_down(self) -> int:
        return sum(self.reasons(stage).get(TAKEN_DOWN, 0) for stage in self.dropped)

    def reasons(self, stage: str) -> dict[str, int]:
        """How many rows of a stage have each reason."""
        return {reason: sum(of.values()) for reason, of in self.dropped.get(stage, {}).items()}

    def details(self, reason: str) -> dict[str, int]:
        """How many rows of both stages have each detail of a reason, most first."""
        total = Counter[str]()
        for reasons in self.dropped.values():
            total.update(reasons.get(reason, {}))
        return most_first(total)

    @property
    def opted_out(self) -> dict[str, int]:
        """Opt-outs of dropped pairs by detail, most first."""
        return self.details(OPTED_OUT)


@dataclass
class _Reader:
    """Reads files of a dataset; those that cannot be read are passed over, and named, where
    `faults` is a list."""

    files: SetFiles
    faults: list[str] | None

    def each(self, work: Callable[[str], Out], paths: Iterable[str]) -> Iterator[tuple[str, Out]]:
        """Maps files in threads, in their order; yields each with what `work` made of it."""

        def tried(path: str) -> tuple[str, list[Out]]:
            try:
                return path, [work(path)]
            except BrokenInputError as error:
                if self.faults is None:
                    raise
                self.faults.append(str(error))
                return path, []

        for path, found in in_threads(tried, paths):
            for one in found:
                yield path, one


def count_pairs(
    out: str, *, files: SetFiles | None = None, skip_broken: bool = False
) -> PairCounts:
    """Counts the pairs of a dataset, exactly.

    It costs 0.6 us of CPU a dropped row, and 2 us a kept one, whose image is compared with others.

    Args:
      files: of the dataset, where they are known.
      skip_broken: whether files that cannot be read are passed over, and named in `faults`.

    Raises:
      BrokenInputError: a file cannot be read.
    """
    files, counts = files or find_own_set(out) or SetFiles(out, [], []), PairCounts()
    reader = _Reader(files, counts.faults if skip_broken else None)
    _count_dropped(counts, reader)
    numbers = _numbers_of(files)
    stated = Tally("opted_out")

    def kept_rows(path: str) -> tuple[int, Tally]:
        rows, own = 0, Tally("opted_out")
        for batch in reader.files.read(path, _STATED, 1 << 10):
            rows += len(batch)
            own.add(batch["opted_out"].drop_null())
        return rows, own

    for path, (rows, own) in reader.each(kept_rows, numbers):
        counts.kept[numbers[path]] = rows
        stated.merge(own)
    counts.kept = dict(sorted(counts.kept.items()))
    reported = Counter[str]()
    for names, n in stated.counts().items():
        reported.update({name: n for name in filter(None, names.split(","))})
    counts.reported = most_first(reported)
    if files.is_of_shards:
        _count_contents(counts, numbers, reader)
    counts.faults = sorted(set(counts.faults))
    return counts


def _count_dropped(counts: PairCounts, reader: _Reader) -> None:
    def dropped_rows(path: str) -> tuple[Tally, Tally]:
        """Rows by reason and detail; and failed fetches by host and detail."""
        reasons, failures = Tally("reason", "detail"), Tally("host", "detail")
        for batch in reader.files.read(path, _NAMES, _LONGEST_NAME):
            is_key = pc.is_in(batch["reason"], pa.array(_KEY_DETAILS))
            detail = pc.if_else(is_key, "", pc.fill_null(batch["detail"], ""))
            reasons.add(pc.fill_null(batch["reason"], ""), detail)
        if FETCH_FAILED in reasons.counts():
            for batch in reader.files.read(path, _FAILURES, _LONGEST_URL):
                rows = batch.filter(pc.equal(batch["reason"], FETCH_FAILED))
                detail = pc.utf8_slice_codeunits(pc.fill_null(rows["detail"], ""), 0, _LONGEST_NAME)
                failures.add(hosts_of(rows["url"]), detail)
        return reasons, failures

    by_reason = {stage: Tally("reason", "detail") for stage in (TEXTS, IMAGES)}
    failures = Tally("host", "detail")
    for path, (reasons, own) in reader.each(dropped_rows, reader.files.rejected_files):
        by_reason[stage_of(path)].merge(reasons)
        failures.merge(own)
    counts.dropped = {stage: tally.nested() for stage, tally in by_reason.items()}
    for stage, tally in by_reason.items():
        if tally.others:
            counts.dropped[stage][OTHERS] = {"": tally.others}
    totals = failures.first_totals().slice(0, MOST_HOSTS)
    of_hosts = failures.only(totals[0]).nested()
    for host, failed in zip(*(column.to_pylist() for column in totals.columns), strict=True):
        counts.hosts.append(FailingHost(dict(sorted(of_hosts[host].items())), failed, host))


def stage_of(path: str) -> str:
    """The stage of a file of `rejected/`."""
    return TEXTS if Path(path).name.startswith("text-") else IMAGES


def _numbers_of(files: SetFiles) -> dict[str, int]:
    """The number of each shard, or file of `pairs/`. Another tool's are numbered on: two folders
    may have shards of one name."""
    numbers = {}
    for place, path in enumerate(files.kept_files):
        stem, folder = Path(path).stem, Path(path).parent.name
        is_own = not files.folder and stem.isdecimal() and len(stem) < 10
        numbers[path] = int(stem) + HOLDOUT * (folder == "holdout") if is_own else place
    return numbers


# The images of a part of all contents, or hashes: uint64[n] by name.
_Images = dict[str, UInt64s]


def _count_contents(counts: PairCounts, numbers: Mapping[str, int], reader: _Reader) -> None:
    """Counts images that share bytes, and perceptual hashes: in several passes by the top bits of
    these where there are very many, so that memory is bounded."""
    parts = -(-counts.pairs // CONTENTS_AT_ONCE)
    for part in range(parts):

        def images_of(path: str, part: int = part) -> tuple[_Images, _Images]:
            batches = reader.files.read(path, _OF_IMAGES, _LONGEST_URL)
            return _images_of(batches, numbers[path], part, parts)

        found = [images for _, images in reader.each(images_of, numbers)]
        for count, of_files in ((_count_shared, 0), (_count_near, 1)):
            if found:
                count(counts, _joined([images[of_files] for images in found]))
    most_images = sorted(counts.groups, key=lambda group: (-group.images, group.content))
    counts.groups = most_images[:MOST_GROUPS]
    counts.near_pairs = sorted(counts.near_pairs)[:MOST_PAIRS]


def _images_of(
    batches: Iterable[pa.RecordBatch], shard: int, part: int, parts: int
) -> tuple[_Images, _Images]:
    """The images of a sidecar whose content, and whose perceptual hash, is of a part."""

    def of_part(hashes: UInt64s) -> Bools:
        return (hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32) == part

    no_rows = pa.RecordBatch.from_pylist([], _OF_IMAGES)
    by_content, by_hash = list[_Images](), list[_Images]()
    for batch in chain([no_rows], batches):
        content, has_content = hex_numbers(batch["sha256"])
        phash, has_phash = hex_numbers(batch["phash"])
        key = hex_numbers(batch["key"])[0]
        has_url = batch["url"].is_valid().to_numpy(zero_copy_only=False)
        url = np.where(has_url, url_hashes(pc.fill_null(batch["url"], ""))[0], key)
        mixed, of_shard = phash * _MIX, np.full(len(key), shard, np.uint64)
        images = {"content": content, "key": key, "shard": of_shard}
        rows = has_content & of_part(content)
        by_content.append({n: of[rows] for n, of in (images | {"url": url}).items()})
        rows = has_content & has_phash & of_part(mixed)
        by_hash.append({n: of[rows] for n, of in (images | {"mixed": mixed}).items()})
    return _joined(by_content), _joined(by_hash)


def _joined(parts: Sequence[_Images]) -> _Images:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _is_first(first: UInt64s, second: UInt64s) -> Bools:
    """bool[n], where sorted rows differ from the row before."""
    starts = np.ones(len(first), np.bool_)
    starts[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return starts


def _count_shared(counts: PairCounts, images: _Images) -> None:
    order = np.lexsort((images["key"], images["url"], images["content"]))
    content, url = images["content"][order], images["url"][order]
    first = order[_is_first(content, url)]  # an image is a URL
    contents, start, sizes = np.unique(
        images["content"][first], return_index=True, return_counts=True
    )
    shared = np.flatnonzero(sizes > 1)
    counts.copies = SharedContents(
        counts.copies.images + int(sizes[shared].sum()), counts.copies.contents + len(shared)
    )
    for at in shared[np.argsort(-sizes[shared], kind="stable")][:MOST_GROUPS].tolist():
        row = first[start[at]]
        place = int(images["shard"][row]), f"{images['key'][row]:016x}"
        counts.groups.append(ContentGroup(int(sizes[at]), f"{contents[at]:016x}", *place))


def _count_near(counts: PairCounts, images: _Images) -> None:
    mixed, content, key = images["mixed"], images["content"], images["key"]
    order = np.lexsort((key, content, mixed))
    order = order[_is_first(mixed[order], content[order])]
    hashes, start, sizes = np.unique(mixed[order], return_index=True, return_counts=True)
    counts.near += int(sizes[sizes > 1].sum())
    for at in np.flatnonzero(sizes > 1)[:MOST_PAIRS].tolist():  # the hashes are a random order
        two = [
            (int(images["shard"][row]), f"{key[row]:016x}")
            for row in order[start[at] :][:2].tolist()
        ]
        counts.near_pairs.append(NearPair(int(hashes[at]), *two))


# ---- Images behind the counts ----------------------------------------------------------------


def compare_near(out: str, counts: PairCounts, files: SetFiles | None = None) -> NearDuplicates:
    """How many images have the perceptual hash of another, and how many of a few such pairs show
    one image: an equal hash is not a proof. Reads their images from the tars."""
    # Which decode images, for this alone.
    from alignset.transforms.decontamination.copy_index import plane_distance
    from alignset.transforms.images.examine import Image, examine
    from alignset.transforms.shards.descriptors import plane_of

    images = images_at(
        out, [of for pair in counts.near_pairs for of in (pair.first, pair.second)], files
    )

    def are_alike(pair: NearPair) -> bool | None:
        looks = [
            examine(images.get(place, b""), in_full=True, keep_grey=True)
            for place in (pair.first, pair.second)
        ]
        planes = [plane_of(look) for look in looks if isinstance(look, Image)]
        return plane_distance(*planes) < COPY_DISTANCE if len(planes) == len(looks) else None

    verdicts = [alike for alike in map(are_alike, counts.near_pairs) if alike is not None]
    return NearDuplicates(counts.near, len(verdicts), sum(verdicts))


def images_at(
    out: str, places: Iterable[tuple[int, str]], files: SetFiles | None = None
) -> dict[tuple[int, str], bytes]:
    """The files of the images of some kept pairs, by shard and key; what is gone is left out."""
    files = files or find_own_set(out) or SetFiles(out, [], [])
    keys_of: dict[int, list[str]] = {}
    for shard, key in sorted(set(places)):
        keys_of.setdefault(shard, []).append(key)
    paths = {number: path for path, number in _numbers_of(files).items()}
    images = dict[tuple[int, str], bytes]()
    for shard in keys_of.keys() & paths.keys():
        with suppress(OSError):
            for key, body in files.images(paths[shard], keys_of[shard]):
                images[shard, key] = body
    return images
