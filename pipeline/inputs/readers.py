"""Splits of the input to batches of `url` and `caption`. A bad row never stops a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.inputs.splits import Split
from pipeline.inputs.text_files import BLOCK, HEAD, LONGEST_ROW, read_json_lines, read_table
from transforms.columns.pair_columns import PAGE_URL, UNREADABLE
from transforms.images.file_formats import IMAGE_EXTENSIONS
from transforms.storage.files import is_local, open_to_read
from transforms.storage.tar_members import BrokenTar, tar_members

STRINGS = ("url", "caption", PAGE_URL)
BATCH_BYTES = 1 << 25  # of these; 65,536 usual pairs have a third of it
# Bytes of a shard's text files that are read; parsed, JSON takes up to 25 times its bytes.
LONGEST_OF = {"txt": LONGEST_ROW, "json": 1 << 22}
# Rows read at once where each value may share 1 MB with the one before (Parquet's DELTA_BYTE_ARRAY,
# which Spark may choose): a page of 1 MB then holds 20 GB, and pyarrow makes no dictionary of it.
SHARED_ROWS = 64
DECODED_BYTES = 1 << 28  # of a column that a batch of Parquet may take before it is cut


def read_split(split: Split, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The batches of one split, the same each time, with at most `batch_rows` rows each, and at
    most `BATCH_BYTES` bytes where there is more than one row. One of over 40 MiB is unreadable.

    Columns: `url` and `caption`; `page_url` where the split has it; `malformed` of text files and
    pages, and of a row that is unreadable; and of shards `source_path`, `source_at` and
    `source_size`, the place of the image's bytes.
    """
    readers = {
        "parquet": _parquet,
        "csv": read_table,
        "tsv": read_table,
        "jsonl": read_json_lines,
        "webdataset": _webdataset,
        "pages": _parquet,
    }
    try:
        for batch in readers[split.format](split, batch_rows):
            for start, stop, size in _parts(batch, batch_rows):
                part = batch.slice(start, stop - start)
                if len(part) == 1 and size > LONGEST_ROW + BLOCK:
                    part = _too_long(part)
                columns = [
                    as_bytes(column) if name in STRINGS else column
                    for name, column in zip(part.schema.names, part.columns, strict=True)
                ]
                yield pa.record_batch(columns, names=part.schema.names)
    except (OSError, EOFError, BrokenTar, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        if "straddling" in reason:
            reason = (
                f"a row is longer than {LONGEST_ROW >> 20} MiB, or a quotation mark never closed"
            )
        advice = "replace the file or leave it out of --input, with another --output"
        raise RuntimeError(f"cannot read {split.path} to its end: {reason}; {advice}") from error


def _too_long(row: pa.RecordBatch) -> pa.RecordBatch:
    """A row that is unreadable, without its long strings."""
    columns = dict(zip(row.schema.names, row.columns, strict=True))
    for name in columns.keys() & set(STRINGS):
        if _sizes(columns[name])[0] > HEAD:
            columns[name] = pa.nulls(1, pa.binary())
    columns["malformed"] = pa.array([UNREADABLE])
    return pa.record_batch(columns)


def _parts(batch: pa.RecordBatch, batch_rows: int) -> Iterator[tuple[int, int, int]]:
    """Where to cut a batch, by rows and by bytes: (start, stop, bytes)."""
    strings = [_sizes(batch[name]) for name in STRINGS if name in batch.schema.names]
    sizes = np.cumsum(np.sum(strings, axis=0))
    start = 0
    while start < len(batch):
        before = sizes[start - 1] if start else 0
        full = int(np.searchsorted(sizes, before + BATCH_BYTES, side="right"))
        stop = min(max(full, start + 1), start + batch_rows, len(batch))
        yield start, stop, int(sizes[stop - 1] - before)
        start = stop


def _sizes(values: pa.Array) -> npt.NDArray[np.int64]:
    """The bytes of each value as a string, int64[n]; those of numbers are not counted."""
    if isinstance(values, pa.DictionaryArray):
        sizes = np.append(_sizes(values.dictionary), 0)
        return sizes[pc.fill_null(values.indices.cast(pa.int64()), len(sizes) - 1).to_numpy()]
    kind = values.type
    if kind in (pa.string_view(), pa.binary_view()):
        values = values.cast(pa.large_binary())
    elif kind not in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        return np.zeros(len(values), np.int64)
    return pc.fill_null(pc.binary_length(values), 0).to_numpy().astype(np.int64)


def as_bytes(values: pa.Array) -> pa.Array:
    """Strings of any Arrow type as binary; what is no string as it prints.

    Raises:
      pa.ArrowException: values of this type cannot be printed.
    """
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        values = values.cast(pa.string())
    return values.cast(pa.binary())


def _parquet(split: Split, batch_rows: int) -> Iterator[pa.RecordBatch]:
    names = [split.url_column, split.text_column, *filter(None, [split.page_column])]
    faults = ["malformed"] if split.format == "pages" else []
    # Arrow's own file does not wait for the interpreter's lock.
    with pa.OSFile(split.path) if is_local(split.path) else open_to_read(split.path) as source:
        footer = pq.read_metadata(source)
        rows, shared = batch_rows, set()
        for group in map(footer.row_group, split.row_groups):
            for place, column in enumerate(map(group.column, range(group.num_columns))):
                if group.num_rows and column.path_in_schema in names:
                    size = column.total_uncompressed_size / group.num_rows
                    size = max(size, footer.schema.column(place).length or 1)  # where it is fixed
                    rows = min(rows, max(1, int(BATCH_BYTES / size)))
                    if any("DELTA" in encoding for encoding in column.encodings):
                        shared.add(column.path_in_schema)
        # A page without a checksum passes.
        options = {"metadata": footer, "pre_buffer": False, "page_checksum_verification": True}
        groups, columns = list(split.row_groups), [*names, *faults]
        alone = [name for name in names if name not in shared]
        repeats = _long_repeats(source, alone, groups, rows, options)
        file = pq.ParquetFile(source, read_dictionary=repeats, **options)
        few = min(rows, SHARED_ROWS) if shared else rows
        batches = file.iter_batches(batch_size=few, row_groups=groups, columns=columns)
        for batch in _joined(batches, rows) if few < rows else batches:
            pairs = pa.record_batch(
                [batch[name] for name in names], names=list(STRINGS[: len(names)])
            )
            yield pairs.append_column("malformed", batch["malformed"]) if faults else pairs


def _joined(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Neighbouring batches as one, of so many rows or little more than `BATCH_BYTES`."""
    for first in batches:
        some, count, size = [first], len(first), first.nbytes
        while count < rows and size < BATCH_BYTES and (batch := next(batches, None)):
            some.append(batch)
            count, size = count + len(batch), size + batch.nbytes
        yield pa.concat_batches(some)


def _long_repeats(
    source: Any, names: list[str], groups: list[int], rows: int, options: dict[str, Any]
) -> list[str]:
    """The columns to leave as dictionaries until a batch is cut: where every row had the longest
    value of one, so many rows would be vast. A file of 180 KB may hold one of 1 MB 20,000 times."""
    # 64 KiB at once: the dictionaries come first, 3 ms for one of usual size.
    file = pq.ParquetFile(source, read_dictionary=names, buffer_size=1 << 16, **options)
    long = set()
    for group in groups:
        reading = {"batch_size": 1, "row_groups": [group], "columns": names, "use_threads": False}
        for batch in islice(file.iter_batches(**reading), 1):
            for name in names:
                longest = _sizes(getattr(batch[name], "dictionary", batch[name])).max(initial=0)
                if longest * rows > DECODED_BYTES:
                    long.add(name)
    return sorted(long)


def _webdataset(split: Split, batch_rows: int) -> Iterator[pa.RecordBatch]:
    samples: list[dict[str, Any]] = []
    size = 0
    with open_to_read(split.path) as source:
        for sample in _samples(source):
            samples.append(sample | {"source_path": split.path})
            size += sum(len(sample[name] or b"") for name in STRINGS)
            if len(samples) == batch_rows or size > BATCH_BYTES:
                yield _sample_batch(samples)
                samples, size = [], 0
    if samples:
        yield _sample_batch(samples)


def _samples(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """The samples of a shard: neighbouring files whose names agree up to the first dot."""
    key, sample = None, _new_sample()
    for member in tar_members(source):
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        if not member.plain or name.startswith("__"):
            continue
        if (folder, stem) != key and key is not None:
            yield sample
            sample = _new_sample()
        key = (folder, stem)
        if extension.lower() in IMAGE_EXTENSIONS:
            sample |= {"source_at": member.at, "source_size": member.size}
        elif member.size <= LONGEST_OF.get(extension, -1):
            source.seek(member.at)
            _read_text(sample, extension, source.read(member.size))
    if key is not None:
        yield sample


def _new_sample() -> dict[str, Any]:
    return dict.fromkeys(STRINGS) | {"source_at": 0, "source_size": 0}


def _read_text(sample: dict[str, Any], extension: str, body: bytes) -> None:
    if extension == "txt":
        sample["caption"] = sample["caption"] or body
        return
    try:
        record = json.loads(body)
        for name in STRINGS:
            value = record.get(name)
            if isinstance(value, str):
                sample[name] = value.encode("utf-8", "surrogatepass")
    except (ValueError, AttributeError, RecursionError):
        return  # without a URL the pair is malformed, and is recorded as such


def _sample_batch(samples: list[dict[str, Any]]) -> pa.RecordBatch:
    schema = pa.schema(
        [
            ("url", pa.binary()),
            ("caption", pa.binary()),
            (PAGE_URL, pa.binary()),
            ("source_path", pa.string()),
            ("source_at", pa.int64()),
            ("source_size", pa.int64()),
        ]
    )
    return pa.RecordBatch.from_pylist(samples, schema=schema)
