"""All numbers of a dataset, out of its Parquet files: `rejected/`, `shards/`, `holdout/`, `pairs/`.

Files are read batch by batch, and only the columns that are asked for. They may be anybody's: a
column of another type has no values, and long texts are cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.datasets.set_files import SetFiles, find_own_set
from alignset.pipeline.datasets.stored_images import stored_image
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.decontamination.copy_index import plane_distance
from alignset.transforms.duplicates.contents import starts_of
from alignset.transforms.images.examine import Image, examine
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
from alignset.transforms.shards.descriptors import plane_of
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import (
    MOST_GROUPS,
    MOST_PAIRS,
    ContentGroup,
    FailingHost,
    NearDuplicates,
    NearPair,
    SharedContents,
    largest,
)
from alignset.transforms.storage.broken_files import BrokenInputError, broken_file
from alignset.transforms.storage.files import open_to_read

In, Out = TypeVar("In"), TypeVar("Out")
MOST_HOSTS = 20  # that failed most
OTHERS = "(others)"
_THREADS = 4  # since a store answers slowly; more of them only wait for each other
_BATCH_BYTES, _BATCH_ROWS = 1 << 25, 1 << 16
_SHARED_ROWS = 64  # read at once where each value may share 1 MB with the one before
_LONGEST_URL = 1 << 13
_LONGEST_NAME = 120  # of a reason, a detail, or a host
_MOST_NAMES = 1 << 20  # different names that are counted apart; of more the most frequent
_CONTENTS_AT_ONCE = 1 << 24  # some 36 bytes each, and as many while they are sorted
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: perceptual hashes do not fill their top bits evenly
_KEY_DETAILS = (DUPLICATE_OF_TRAINING, DUPLICATE_IMAGE)  # of these reasons, details are keys
_NAMES = pa.schema([("reason", pa.string()), ("detail", pa.string())])


# ---- Reading ---------------------------------------------------------------------------------


def read_columns(
    path: str, columns: pa.Schema, longest: int = _LONGEST_NAME
) -> Iterator[pa.RecordBatch]:
    """Some columns of a Parquet file, some rows at a time, of the types that `columns` names; null
    where the file has no such column, or a value is of another type. Texts are cut.

    Raises:
      BrokenInputError: the file is damaged.
    """
    try:
        with open_to_read(path) as source:
            footer = pq.read_metadata(source)
            schema = footer.schema.to_arrow_schema()
            names = [
                name
                for name in columns.names
                if schema.names.count(name) == 1 and not pa.types.is_nested(schema.field(name).type)
            ]
            rows, dictionaries = _batch_rows(footer, names)
            file = pq.ParquetFile(source, metadata=footer, read_dictionary=dictionaries)
            if not names:
                yield from _nulls(footer.num_rows, columns)
                return
            for batch in file.iter_batches(rows, columns=names, use_threads=False):
                arrays = [
                    _plain(batch[of.name], of.type, longest)
                    if of.name in names
                    else pa.nulls(len(batch), of.type)
                    for of in columns
                ]
                yield pa.record_batch(arrays, schema=columns)
    except Exception as error:
        fault = broken_file(path, error)
        if fault is None:
            raise
        raise BrokenInputError(
            f"{path} cannot be read: {fault.fault}; replace the file, or take it out of the dataset"
        ) from error


def _nulls(rows: int, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows, _BATCH_ROWS):
        size = min(_BATCH_ROWS, rows - start)
        yield pa.record_batch([pa.nulls(size, of.type) for of in columns], schema=columns)


def _batch_rows(footer: pq.FileMetaData, names: Sequence[str]) -> tuple[int, list[str]]:
    """How many rows a batch may have, and the columns that are read as dictionaries: of one that
    is none, the bytes in the footer are those in memory."""
    rows, dictionaries = _BATCH_ROWS, set[str]()
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name, encodings = column.path_in_schema, set(column.encodings)
            if name not in names or column.physical_type not in (
                "BYTE_ARRAY",
                "FIXED_LEN_BYTE_ARRAY",
            ):
                continue
            if "DELTA_BYTE_ARRAY" in encodings:
                rows = min(rows, _SHARED_ROWS)
            elif encodings & {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}:
                dictionaries.add(name)
            size = max(1, column.total_uncompressed_size) / max(1, group.num_rows)
            rows = min(rows, max(1, int(_BATCH_BYTES / size)))
    return rows, sorted(dictionaries)


def _plain(values: pa.Array, kind: pa.DataType, longest: int) -> pa.Array:
    """Values of another type, which need not be values of that; texts are cut."""
    if isinstance(values, pa.DictionaryArray):
        used = pc.unique(values.indices)  # a whole dictionary may have a million values
        short = _plain(values.dictionary.take(used), kind, longest)
        return short.take(pc.index_in(values.indices, used))
    try:
        values = values.cast(kind, safe=False)
        if kind == pa.string():
            if (pc.max(pc.binary_length(values)).as_py() or 0) > longest:
                values = pc.utf8_slice_codeunits(values, 0, longest)
            values.validate(full=True)  # whether it is UTF-8
    except pa.ArrowException:
        return pa.nulls(len(values), kind)
    return values


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

    def __init__(self, *names: str, most: int = _MOST_NAMES) -> None:
        self.names, self.most, self.others = list(names), most, 0
        self._whole: pa.Table | None = None
        self._parts: list[pa.Table] = []
        self._waiting = 0

    def add(self, *columns: pa.Array, counts: pa.Array | None = None) -> None:
        """Counts rows by their names, string[n] each; once, or as often as `counts` says."""
        if counts is None:
            counts = pa.array(np.ones(len(columns[0]), np.int64))
        self._add(_summed(pa.table([*columns, counts], [*self.names, "n"])))

    def merge(self, other: Tally) -> None:
        """Adds the counts of another of the same names."""
        self._add(other.table())
        self.others += other.others

    def _add(self, part: pa.Table) -> None:
        self._parts.append(part)
        self._waiting += len(part)
        if self._waiting > max(1 << 16, 0 if self._whole is None else len(self._whole)):
            self.table()

    def table(self) -> pa.Table:
        """Columns of the names (string[n]), and `n`; the most frequent first, equal ones by name.
        Where names are forgotten, the first alone says which: all of its rows go, or none."""
        parts = self._parts if self._whole is None else [self._whole, *self._parts]
        if not parts:
            return pa.schema(
                [*((name, pa.string()) for name in self.names), ("n", pa.int64())]
            ).empty_table()
        if self._parts:
            whole = _summed(pa.concat_tables(parts))
            if len(whole) > self.most:
                whole = self._trimmed(whole)
            order = [("n", "descending"), *((name, "ascending") for name in self.names)]
            self._whole, self._parts, self._waiting = whole.sort_by(order), [], 0
        assert self._whole is not None
        return self._whole

    def _trimmed(self, whole: pa.Table) -> pa.Table:
        first = whole.select([self.names[0], "n"]).group_by(self.names[0]).aggregate([("n", "sum")])
        first = first.sort_by([("n_sum", "descending"), (self.names[0], "ascending")])
        kept = first.slice(0, self.most // 2)[self.names[0]]
        rest = whole.filter(pc.is_in(whole[self.names[0]], value_set=kept))
        self.others += pc.sum(whole["n"]).as_py() - (pc.sum(rest["n"]).as_py() or 0)
        return rest

    def counts(self) -> dict[str, int]:
        """Counts by the first name, the most frequent first."""
        totals = Counter[str]()
        table = self.table()
        for name, n in zip(table[0].to_pylist(), table["n"].to_pylist(), strict=True):
            totals[name or ""] += n
        return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))

    def nested(self) -> dict[str, dict[str, int]]:
        """Counts by the first name and then the second, the most frequent first."""
        table, by_name = self.table(), dict[str, dict[str, int]]()
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            of_name = by_name.setdefault(row[0] or "", {})
            of_name[row[1] or ""] = of_name.get(row[1] or "", 0) + row[-1]
        return by_name


def _summed(table: pa.Table) -> pa.Table:
    names = table.column_names[:-1]
    return table.group_by(names).aggregate([("n", "sum")]).rename_columns([*names, "n"])


# ---- Exact counts ----------------------------------------------------------------------------


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
        return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))

    @property
    def opted_out(self) -> dict[str, int]:
        """Opt-outs of dropped pairs by detail, most first."""
        return self.details(OPTED_OUT)


def count_pairs(
    out: str, *, files: SetFiles | None = None, skip_broken: bool = False
) -> PairCounts:
    """Counts the pairs of a dataset, exactly.

    It costs some TODO us of CPU a dropped row, and TODO a kept one.

    Args:
      files: of the dataset, where they are known.
      skip_broken: whether files that cannot be read are passed over, and named in `faults`.

    Raises:
      BrokenInputError: a file cannot be read.
    """
    files = files or find_own_set(out) or SetFiles(out, [], [], frozenset(), None)
    counts = PairCounts()

    def readable(work: Callable[[str], Out]) -> Callable[[str], Out | None]:
        def tried(path: str) -> Out | None:
            try:
                return work(path)
            except BrokenInputError as error:
                if not skip_broken:
                    raise
                counts.faults.append(str(error))
                return None

        return tried

    _count_dropped(counts, files.rejected_files, readable)
    kept_files = [(_number_of(path, at), path) for at, path in enumerate(files.kept_files)]
    stated = Tally("opted_out")
    of_files = in_threads(readable(_kept_rows), files.kept_files)
    for (number, _), found in zip(kept_files, of_files, strict=True):
        if found is not None:
            counts.kept[number] = found[0]
            stated.merge(found[1])
    counts.kept = dict(sorted(counts.kept.items()))
    reported = Counter[str]()
    for names, n in stated.counts().items():
        reported.update({name: n for name in filter(None, names.split(","))})
    counts.reported = dict(sorted(reported.items(), key=lambda item: (-item[1], item[0])))
    if files.is_of_shards:
        _count_contents(counts, {path: number for number, path in kept_files}, readable)
    counts.faults = sorted(set(counts.faults))
    return counts


def _count_dropped(
    counts: PairCounts,
    paths: Sequence[str],
    readable: Callable[..., Callable[[str], tuple[Tally, Tally] | None]],
) -> None:
    by_reason = {stage: Tally("reason", "detail") for stage in (TEXTS, IMAGES)}
    failures = Tally("host", "detail")
    for path, found in zip(paths, in_threads(readable(_dropped_rows), paths), strict=True):
        if found is not None:
            by_reason[stage_of(path)].merge(found[0])
            failures.merge(found[1])
    counts.dropped = {stage: tally.nested() for stage, tally in by_reason.items()}
    for stage, tally in by_reason.items():
        if tally.others:
            counts.dropped[stage][OTHERS] = {"": tally.others}
    hosts = failures.table().group_by("host").aggregate([("n", "sum")])
    hosts = hosts.sort_by([("n_sum", "descending"), ("host", "ascending")]).slice(0, MOST_HOSTS)
    table = failures.table()
    for host, failed in zip(
        *(column.to_pylist() for column in hosts.select(["host", "n_sum"])), strict=True
    ):
        rows = table.filter(pc.equal(table["host"], host)).to_pylist()
        details = {row["detail"] or "": row["n"] for row in rows}
        counts.hosts.append(FailingHost(dict(sorted(details.items())), failed, host))


def stage_of(path: str) -> str:
    """The stage of a file of `rejected/`."""
    return TEXTS if Path(path).name.startswith("text-") else IMAGES


def _number_of(path: str, place: int) -> int:
    """The number of the shard, or of the file of `pairs/`."""
    stem, folder = Path(path).stem, Path(path).parent.name
    number = int(stem) if stem.isdecimal() and len(stem) < 10 else place
    return number + HOLDOUT * (folder == "holdout")


def _dropped_rows(path: str) -> tuple[Tally, Tally]:
    """Rows of a file of `rejected/` by reason and detail; and failed fetches by host and detail."""
    reasons, failures = Tally("reason", "detail"), Tally("host", "detail")
    for batch in read_columns(path, _NAMES):
        is_key = pc.is_in(batch["reason"], pa.array(_KEY_DETAILS))
        detail = pc.if_else(is_key, "", pc.fill_null(batch["detail"], ""))
        reasons.add(pc.fill_null(batch["reason"], ""), detail)
    if stage_of(path) == IMAGES and FETCH_FAILED in reasons.counts():
        columns = pa.schema([("url", pa.string()), *_NAMES])
        for batch in read_columns(path, columns, _LONGEST_URL):
            failed = batch.filter(pc.equal(batch["reason"], FETCH_FAILED))
            detail = pc.utf8_slice_codeunits(pc.fill_null(failed["detail"], ""), 0, _LONGEST_NAME)
            failures.add(hosts_of(failed["url"]), detail)
    return reasons, failures


def _kept_rows(path: str) -> tuple[int, Tally]:
    """How many rows a sidecar has, and how many of them state which opt-outs."""
    stated = Tally("opted_out")
    with open_to_read(path) as source:
        try:
            footer = pq.read_metadata(source)
        except (pa.ArrowException, OSError) as error:
            raise BrokenInputError(f"{path} cannot be read: {error}") from error
    if "opted_out" in footer.schema.names:
        for batch in read_columns(path, pa.schema([("opted_out", pa.string())]), 1 << 10):
            stated.add(batch["opted_out"].drop_null())
    return footer.num_rows, stated


# The images of a part of all contents, or hashes: uint64[n] by name.
_Images = dict[str, UInt64s]
_OF_CONTENTS = pa.schema([(name, pa.string()) for name in ("key", "url", "sha256", "phash")])


def _count_contents(
    counts: PairCounts, files: Mapping[str, int], readable: Callable[..., Callable]
) -> None:
    """Counts images that share bytes, and perceptual hashes: in several passes by the top bits of
    these where there are very many, so that memory is bounded."""
    parts = -(-counts.pairs // _CONTENTS_AT_ONCE)
    for part in range(parts):

        def of_file(path: str, part: int = part) -> tuple[_Images, _Images]:
            return _images_of(path, files[path], part, parts)

        found = [images for images in in_threads(readable(of_file), files) if images]
        for count, of_files in ((_count_shared, 0), (_count_near, 1)):
            names = found[0][of_files].keys() if found else ()
            joined = {n: np.concatenate([of[of_files].pop(n) for of in found]) for n in [*names]}
            if joined:
                count(counts, joined)
    counts.groups = largest(counts.groups)
    counts.near_pairs = sorted(counts.near_pairs)[:MOST_PAIRS]


def _images_of(path: str, shard: int, part: int, parts: int) -> tuple[_Images, _Images]:
    """The images of a sidecar whose content, and whose perceptual hash, is of a part."""

    def of_part(hashes: UInt64s) -> Bools:
        return (hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32) == part

    no_rows = pa.RecordBatch.from_pylist([], _OF_CONTENTS)
    by_content, by_hash = list[_Images](), list[_Images]()
    for batch in (no_rows, *read_columns(path, _OF_CONTENTS, _LONGEST_URL)):
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


def _count_shared(counts: PairCounts, images: _Images) -> None:
    order = np.lexsort((images["key"], images["url"], images["content"]))
    content, url = images["content"][order], images["url"][order]
    first = order[starts_of(content, url)] if len(order) else order  # an image is a URL
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
    order = order[starts_of(mixed[order], content[order])] if len(order) else order
    hashes, start, sizes = np.unique(mixed[order], return_index=True, return_counts=True)
    counts.near += int(sizes[sizes > 1].sum())
    for at in np.flatnonzero(sizes > 1)[:MOST_PAIRS].tolist():  # the hashes are a random order
        two = [
            (int(images["shard"][row]), f"{key[row]:016x}")
            for row in order[start[at] :][:2].tolist()
        ]
        counts.near_pairs.append(NearPair(int(hashes[at]), *two))


# ---- Images behind the counts ----------------------------------------------------------------


def compare_near(out: str, counts: PairCounts) -> NearDuplicates:
    """How many images have the perceptual hash of another, and how many of a few such pairs show
    one image: an equal hash is not a proof. Reads their images from the tars."""

    def are_alike(pair: NearPair) -> bool | None:
        looks = [
            examine(_image_at(out, place) or b"", in_full=True, keep_grey=True)
            for place in (pair.first, pair.second)
        ]
        planes = [plane_of(look) for look in looks if isinstance(look, Image)]
        return plane_distance(*planes) < COPY_DISTANCE if len(planes) == len(looks) else None

    verdicts = [alike for alike in map(are_alike, counts.near_pairs) if alike is not None]
    return NearDuplicates(counts.near, len(verdicts), sum(verdicts))


def _image_at(out: str, place: tuple[int, str]) -> bytes | None:
    shard, key = place
    with suppress(OSError):  # it is gone
        return stored_image(ShardPlaces(out).tar(shard), key)
    return None
