"""Which pairs of a dataset are shown: always the same ones, of a bounded number of its files.

The files stand in the order of the hashes of their names. In the first ones, the pairs whose keys
have the smallest hashes are shown.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.datasets.kept_keys import key_numbers
from alignset.pipeline.inputs.row_groups import RowGroups
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.rules.given import DUPLICATE_IMAGE
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.storage.broken_files import BrokenInputError, broken_file
from alignset.transforms.storage.files import open_to_read

ENOUGH_FILES = 16  # 160,000 pairs of shards of the usual size
MOST_FILES = 1024  # of a rare reason
LONGEST = 500  # characters of a text that are read
_COLUMNS = ("key", "url", "caption", "reason", "detail", "width", "height", *LANGUAGE_COLUMNS)
_OF_OVERLAP = ("evaluation_set", "evaluation_image", "evaluation_distance", "thumbnail")


@dataclass(frozen=True)
class Overlap:
    """The evaluation image that a dropped image is a copy of.

    Attributes:
      of_set, name: of the evaluation image. distance: to it, by the run's measure.
      thumbnail: JPEG of the dropped image; empty where there is none.
    """

    of_set: str
    name: str
    distance: float
    thumbnail: bytes

    @property
    def place(self) -> str:
        return f"{self.of_set}/{self.name}"


@dataclass(frozen=True)
class Pair:
    """A pair as it is shown; what is not known of it is empty.

    Attributes:
      why: its reason and detail; empty for a kept pair.
      size: of its image, such as 640x480.
      file: the path of the file that it stands in.
      overlap: where it was dropped for being a copy, and that was asked for.
      language: where a vote found it.
      thumbnail: JPEG of an image that was dropped for one that looks like it; else empty.
    """

    key: str
    url: str
    caption: str
    reason: str
    detail: str
    size: str
    file: str
    overlap: Overlap | None = None
    language: str = ""
    thumbnail: bytes = b""

    @property
    def host(self) -> str:
        try:
            return urlsplit(self.url).netloc.rpartition("@")[2].lower()
        except ValueError:
            return ""

    @property
    def why(self) -> str:
        if self.overlap:
            return f"copy of {self.overlap.place}"
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class PairSample(NamedTuple):
    """Some pairs of a dataset.

    Fields:
      files_read: how many of the dataset's files they are of.
      row_counts: of the files that were read, by reason and by `reason:detail`.
    """

    pairs: list[Pair]
    files_read: int
    row_counts: Counter[str]


def take_sample(
    files: Sequence[str], count: int, reason: str = "", detail: str = "", language: str = ""
) -> PairSample:
    """The pairs with the smallest hashes of their keys.

    Args:
      files: Parquet files in the order in which they are read.
      count: how many pairs, at most; no two have the same key.
      reason, detail: what the pairs were dropped for; empty: whatever it is.
      language: of the pairs; empty: any.
    """
    least: dict[int, Pair] = {}
    row_counts: Counter[str] = Counter()
    files_read = 0
    for path in files[:MOST_FILES]:
        if files_read >= ENOUGH_FILES and len(least) == count:
            break
        files_read += 1
        for batch in _batches(path, reason):
            rows = _wanted_rows(batch, reason, detail, row_counts)
            if language:
                rows = _in_language(rows, language)
            for number, row in _least_rows(rows, count):
                least.setdefault(number, pair_of(row, path))
            least = {number: least[number] for number in sorted(least)[:count]}
    return PairSample([*least.values()], files_read, row_counts)


def _batches(path: str, reason: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file, without row groups that cannot hold a reason."""
    with_pictures = (MIN_EVALUATION_DISTANCE.reason, DUPLICATE_IMAGE)
    names = (*_COLUMNS, *_OF_OVERLAP) if reason in with_pictures else _COLUMNS
    yield from batches_with(path, names, reason)


def batches_with(path: str, names: Sequence[str], reason: str = "") -> Iterator[pa.RecordBatch]:
    """The rows of a file, without columns that it lacks and row groups that cannot hold a reason.

    A file may be anybody's: one of 300 KB may hold a value of 1 MB 16,384 times. So texts are cut
    to `LONGEST` characters, and long images stay a dictionary.

    Raises:
      BrokenInputError: it is damaged.
    """
    try:
        yield from _batches_with(path, names, reason)
    except Exception as error:
        fault = broken_file(path, error)
        if fault is None:
            raise
        raise BrokenInputError(
            f"{path} cannot be read: {fault.fault}; replace the file, or take it out of the dataset"
        ) from error


def _batches_with(path: str, names: Sequence[str], reason: str) -> Iterator[pa.RecordBatch]:
    with open_to_read(path) as source:
        schema = pq.read_schema(source)
        columns = {
            name: name
            for name in names
            if schema.names.count(name) == 1 and not pa.types.is_nested(schema.field(name).type)
        }
        rows = RowGroups(source, [], [], columns)
        for number in range(rows.footer.num_row_groups):
            if not reason or _may_hold(rows.footer.row_group(number), reason):
                for batch in rows.read(number, whole=True):
                    parts = [_cut(column) for column in batch.columns]
                    yield pa.record_batch(parts, names=batch.schema.names)


def _cut(values: pa.Array) -> pa.Array:
    if isinstance(values, pa.DictionaryArray):
        if pa.types.is_binary(values.dictionary.type):
            return values
        return _cut(values.dictionary).take(values.indices)
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return pc.utf8_slice_codeunits(values, 0, LONGEST) if is_text else values


def _may_hold(group: pq.RowGroupMetaData, reason: str) -> bool:
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == "reason" and column.statistics is not None:
            statistics = column.statistics
            return not statistics.has_min_max or statistics.min <= reason <= statistics.max
    return True


def _wanted_rows(
    batch: pa.RecordBatch, reason: str, detail: str, row_counts: Counter[str]
) -> pa.Table:
    """The rows with a reason and a detail; counts the rows by their reasons, and rows with this
    reason by their details."""
    rows = pa.Table.from_batches([batch])
    if "reason" not in rows.column_names:
        return rows
    row_counts.update(_value_counts(rows["reason"]))
    if not reason:
        return rows
    rows = rows.filter(pc.equal(rows["reason"], reason))
    details = rows["detail"] if "detail" in rows.column_names else pa.nulls(len(rows), pa.string())
    row_counts.update({f"{reason}:{name}": n for name, n in _value_counts(details).items()})
    return rows.filter(pc.equal(details, detail)) if detail else rows


def _in_language(rows: pa.Table, language: str) -> pa.Table:
    name = LANGUAGE_COLUMNS[0]
    if name not in rows.column_names:
        return rows.slice(0, 0)
    return rows.filter(pc.equal(rows[name], language))


def _value_counts(column: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    counts = Counter[str]()
    for count in pc.value_counts(column).to_pylist():
        counts[_text(count["values"])] += count["counts"]  # a null and "" are one
    return counts


def _least_rows(rows: pa.Table, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows with the smallest hashes, in their order; of equal hashes the first row."""
    names = [name for name in ("key", "url", "caption") if name in rows.column_names]
    if not len(rows) or not names:
        return
    texts = [pc.cast(rows[name], pa.string()) for name in names]
    whole = pc.coalesce(*texts, pa.scalar("")).combine_chunks()
    numbers = key_numbers(whole)
    hashes = key_hashes(numbers)
    for row in np.flatnonzero(numbers == 0).tolist():  # of another tool, or without a key
        digest = hashlib.blake2b(whole[row].as_py().encode(), digest_size=8).digest()
        hashes[row] = int.from_bytes(digest)
    hashes, places = np.unique(hashes, return_index=True)
    rows = rows.take(pa.array(places[:count]))
    yield from zip(hashes[:count].tolist(), rows.to_pylist(), strict=True)


def pair_of(row: dict[str, Any], path: str) -> Pair:
    sides = [_text(row.get(name)) for name in ("width", "height")]
    key, url, caption, reason, detail = (_text(row.get(name)) for name in _COLUMNS[:5])
    size = "x".join(sides) if all(sides) else ""
    language = _text(row.get(LANGUAGE_COLUMNS[0]))
    thumbnail = row.get("thumbnail") if reason == DUPLICATE_IMAGE else None
    values = key, url, caption, reason, detail, size, path
    return Pair(*values, _overlap(row), language, thumbnail or b"")


def _overlap(row: dict[str, Any]) -> Overlap | None:
    of_set, name, distance, thumbnail = (row.get(column) for column in _OF_OVERLAP)
    if of_set is None or name is None or distance is None:
        return None
    return Overlap(str(of_set), str(name), float(distance), thumbnail or b"")


def _text(value: object) -> str:
    return "" if value is None else str(value)
