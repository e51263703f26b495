"""Splits of the input to batches of `url` and `caption`. A bad row never stops a file, nor a broken
file a run: what of it could be read is read, and one row tells of the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.inputs.carried_values import (
    SidecarValues,
    add_carried,
    add_json_values,
    source_columns,
)
from alignset.pipeline.inputs.row_groups import (
    BATCH_BYTES,
    STRINGS,
    RowGroups,
    join_batches,
    string_sizes,
)
from alignset.pipeline.inputs.splits import ROWS, Split
from alignset.pipeline.inputs.text_files import (
    BLOCK,
    HEAD,
    LONGEST_ROW,
    read_json_lines,
    read_table,
)
from alignset.transforms.arrivals.stored_images import SPARSE_OR_LINK
from alignset.transforms.columns.carried import (
    CARRIED,
    MOST_DECODING_BYTES,
    WRONG_TYPE,
    decoding_bytes,
    typed,
)
from alignset.transforms.columns.pair_columns import OF_PAGES, OPT_OUTS, UNREADABLE
from alignset.transforms.images.file_formats import IMAGE_EXTENSIONS
from alignset.transforms.pages.page_files import SAID
from alignset.transforms.pairs.measure_pairs import NO_TEXT, NO_URL, NOT_HTTP, NOT_UTF8
from alignset.transforms.rules import given
from alignset.transforms.rules.given import PAGE_FAULTS
from alignset.transforms.storage.broken_files import BrokenFile, BrokenInputError
from alignset.transforms.storage.files import is_local, open_to_read
from alignset.transforms.storage.shared_paths import input_fault
from alignset.transforms.storage.tar_members import BrokenTar, tar_members

# Bytes of a shard's text files that are read; parsed, JSON takes up to 25 times its bytes.
_LONGEST_OF = {"txt": LONGEST_ROW, "json": 1 << 22}


def read_split(
    split: Split, batch_rows: int, *, skip_broken: bool = False
) -> Iterator[pa.RecordBatch]:
    """The batches of one split, the same each time, with at most `batch_rows` rows each, and at
    most `BATCH_BYTES` bytes where there is more than one row. One of over 40 MiB is unreadable.

    Columns: `url` and `caption`; `page_url` where the split has it; `malformed` of text files,
    pages and rows of datasets, and of a row that is unreadable; of shards `source_path`,
    `source_at` and `source_size`, the place of the image's bytes; what pages said, `SAID`; and the
    carried columns, below `CARRIED`.

    Args:
      skip_broken: where the file is broken, the rows before that are followed by one that tells of
        it, as `broken_row` has it. Which rows these are depends on the file's bytes alone.

    Raises:
      BrokenInputError: the file is broken, and not to be skipped.
    """
    faults: list[BrokenFile] = []
    for batch in _unless_broken(split, batch_rows, faults):
        for start, stop, size in _parts(batch, batch_rows):
            part = batch.slice(start, stop - start)
            if len(part) == 1 and size > LONGEST_ROW + BLOCK:
                part = _too_long(part)
            columns = {
                name: cast_to_binary(column) if name in STRINGS else column
                for name, column in zip(part.schema.names, part.columns, strict=True)
            }
            if split.of_set:  # a kept text that shows "&amp;" must not become another
                columns["caption"] = pc.replace_substring(columns["caption"], "&", "&amp;")
            yield pa.record_batch(add_carried(columns, len(part), split))
    if faults and not skip_broken:
        raise BrokenInputError.not_skipped(faults[0])
    for start in range(0, len(faults), batch_rows):
        yield broken_rows(faults[start : start + batch_rows])


def _unless_broken(
    split: Split, batch_rows: int, faults: list[BrokenFile]
) -> Iterator[pa.RecordBatch]:
    """The batches of a split as far as they go, and what ended them in `faults`."""
    if split.broken:
        faults.append(replace(split.broken, path=split.path))
        return
    try:
        if split.format in ("parquet", "pages", ROWS):
            yield from _parquet(split, batch_rows, faults)
        elif split.format == "webdataset":
            yield from _webdataset(split, batch_rows)
        else:
            yield from (read_json_lines if split.format == "jsonl" else read_table)(split)
    except Exception as error:
        faults.append(_fault(split, error))


def _fault(split: Split, error: Exception) -> BrokenFile:
    """The fault that an error describes; errors that are not about an input file are raised
    again."""
    fault = input_fault(split.path, error)
    if fault is None or split.format == "pages":  # which the run has written
        raise error
    return fault


def broken_rows(files: Sequence[BrokenFile]) -> pa.RecordBatch:
    """Rows that stand for files which cannot be read: the path as `url`, the fault as `caption`,
    and the detail as `malformed`."""
    columns = {
        "url": pa.array([os.fsencode(file.path) for file in files], pa.binary()),
        "caption": pa.array([os.fsencode(file.fault) for file in files], pa.binary()),
        "malformed": pa.array([file.detail for file in files], pa.string()),
    }
    return pa.record_batch(columns)


def _too_long(row: pa.RecordBatch) -> pa.RecordBatch:
    """A row that is unreadable, without its long strings."""
    columns = dict(zip(row.schema.names, row.columns, strict=True))
    for name, column in columns.items():
        if string_sizes(column)[0] > HEAD:
            columns[name] = pa.nulls(1, pa.binary() if name in STRINGS else column.type)
    columns["malformed"] = pa.array([UNREADABLE])
    return pa.record_batch(columns)


def _parts(batch: pa.RecordBatch, batch_rows: int) -> Iterator[tuple[int, int, int]]:
    """Where to cut a batch, by rows and by bytes: (start, stop, bytes)."""
    whole = (*STRINGS, *SAID)
    names = [name for name in batch.schema.names if name in whole or name.startswith(CARRIED)]
    sizes = np.cumsum(np.sum([string_sizes(batch[name]) for name in names], axis=0))
    start = 0
    while start < len(batch):
        bytes_before = sizes[start - 1] if start else 0
        full = int(np.searchsorted(sizes, bytes_before + BATCH_BYTES, side="right"))
        stop = min(max(full, start + 1), start + batch_rows, len(batch))
        yield start, stop, int(sizes[stop - 1] - bytes_before)
        start = stop


def cast_to_binary(values: pa.Array) -> pa.Array:
    """Strings of any Arrow type as binary; other values as they print.

    Raises:
      pa.ArrowException: values of this type cannot be printed.
    """
    if decoding_bytes(values) > MOST_DECODING_BYTES:
        texts = cast_to_binary(values.dictionary)
        values = pa.array(pa.DictionaryArray.from_arrays(values.indices, texts).to_pylist())
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        values = values.cast(pa.string())
    return values.cast(pa.binary())


def _parquet(split: Split, batch_rows: int, faults: list[BrokenFile]) -> Iterator[pa.RecordBatch]:
    """The rows of each row group, but for those from where it is broken on, told in `faults`.

    Each group is read by itself, in steps that do not depend on `batch_rows` or on the split.
    """
    more_columns = ("malformed", *SAID) if split.format == "pages" else ()
    columns = source_columns(split) | {name: name for name in more_columns}
    # Arrow's own file does not wait for the interpreter's lock.
    path = split.path
    with pa.OSFile(os.fsencode(path)) if is_local(path) else open_to_read(path) as source:
        if split.format == ROWS:
            names = {*pq.read_schema(source).names}
            columns |= {name: of for name, of in _OF_ROWS.items() if of in names}
        groups = RowGroups(source, columns)

        def read_each() -> Iterator[pa.RecordBatch]:
            for group in split.row_groups:
                try:
                    for batch in groups.read(group):
                        yield _as_read(batch) if split.format == ROWS else batch
                except Exception as error:
                    faults.append(_fault(split, error))

        yield from join_batches(read_each(), batch_rows)


# What is read of a dataset's rows beside pairs, by its name on the way; not every file has it.
_OF_ROWS = {"step": "step", "detail": "detail", **{name: of for of, name in OF_PAGES.items()}}
# Why a row was no pair; what a broken file holds is not a row.
_FAULTS = pa.array(
    [*PAGE_FAULTS, *OPT_OUTS, NO_URL, NOT_HTTP, NO_TEXT, NOT_UTF8, UNREADABLE, WRONG_TYPE]
)


def _as_read(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows that a dataset kept or dropped, as it read them: malformed ones are
    `malformed` again. Rows that were forgotten, or stand for broken files, are left out."""
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for name in _OF_ROWS:  # anybody may have written them
        columns[name], _ = typed(columns.get(name, pa.nulls(len(rows))), pa.string())
    steps, details = columns.pop("step"), columns.pop("detail")
    is_fault = pc.equal(steps, given.OF_ROWS[0].step).fill_null(False)
    is_file = pc.and_(is_fault, pc.is_in(details, pa.array(given.INPUT_FAULTS)))
    known = pc.if_else(pc.is_in(details, _FAULTS), details, UNREADABLE)
    faults = columns.get("malformed", pa.nulls(len(rows), pa.string()))
    faults = pc.coalesce(faults, pc.if_else(is_fault, known, pa.scalar(None, pa.string())))
    is_row = pc.and_not(pc.or_(rows["url"].is_valid(), faults.is_valid()), is_file)
    return pa.record_batch({**columns, "malformed": faults}).filter(is_row)


def _webdataset(split: Split, batch_rows: int) -> Iterator[pa.RecordBatch]:
    samples: list[dict[str, Any]] = []
    fault: Exception | None = None
    size = 0
    beside = SidecarValues(split)
    with open_to_read(split.path) as source:
        try:
            for sample in tar_samples(source, split.sources):
                sample["carried"] = beside.complete(sample["name"], sample["carried"])
                samples.append(sample | {"source_path": os.fsencode(split.path)})
                size += sum(len(sample[name] or b"") for name in STRINGS) + sample["carried_bytes"]
                if len(samples) == batch_rows or size > BATCH_BYTES:
                    yield _sample_batch(samples, split)
                    samples, size = [], 0
        except (BrokenTar, OSError) as error:
            fault = error
    if samples:
        yield _sample_batch(samples, split)
    if fault:
        raise fault


def _sample_batch(samples: list[dict[str, Any]], split: Split) -> pa.RecordBatch:
    kinds = dict.fromkeys((*STRINGS, "source_path"), pa.binary())  # no name need be UTF-8
    kinds |= {"source_at": pa.int64(), "source_size": pa.int64(), "malformed": pa.string()}
    batch = pa.RecordBatch.from_pylist(samples, schema=pa.schema(kinds))
    return add_json_values(batch, split, [sample["carried"] for sample in samples])


def tar_samples(source: BinaryIO, fields: Sequence[str] | None = ()) -> Iterator[dict[str, Any]]:
    """The samples of a shard: neighbouring files whose names agree up to the first dot. The last
    sample of a broken shard is left out where it may lack files.

    Each has `name` and `tar` (which of the tars behind each other it is in), STRINGS as bytes or
    None, `source_at` (or SPARSE_OR_LINK) and `source_size` of its image, and `fields` fields of its
    JSON.

    Args:
      fields: the fields of `KEY.json` that are wanted; None for all of them.
    """
    key: tuple[int, tuple[str, str]] | None = None
    sample: dict[str, Any] = {}
    try:
        for member in tar_members(source):
            stem, extension = _sample_of(member.name)
            readable = member.plain or extension in IMAGE_EXTENSIONS
            if not readable or stem[1].startswith("__"):
                continue
            if (member.tar, stem) != key:
                if key is not None:
                    yield sample
                key = (member.tar, stem)
                sample = {"name": "/".join(filter(None, stem)), "tar": member.tar}
                sample |= dict.fromkeys(STRINGS) | {"carried": {}, "carried_bytes": 0}
                sample |= {"source_at": 0, "source_size": 0}
            if extension in IMAGE_EXTENSIONS:
                if member.plain:
                    sample |= {"source_at": member.at, "source_size": member.size}
                elif not sample["source_at"]:
                    sample["source_at"] = SPARSE_OR_LINK
            elif member.size <= _LONGEST_OF.get(extension, -1):
                source.seek(member.at)
                _read_text(sample, extension, source.read(member.size), fields)
    except BrokenTar as error:
        if key is not None and error.member is not None and _sample_of(error.member)[0] != key[1]:
            yield sample
        raise
    if key is not None:
        yield sample


def _sample_of(name: str) -> tuple[tuple[str, str], str]:
    """A file's folder and stem, which name its sample, and its extension in lower case."""
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder, stem), extension.lower()


def _read_text(
    sample: dict[str, Any], extension: str, body: bytes, fields: Sequence[str] | None
) -> None:
    """Puts what a text file of a sample says into the sample."""
    if extension == "txt":
        sample["caption"] = sample["caption"] or body
        return
    try:
        record = json.loads(body)
        for name in STRINGS:
            value = record.get(name)
            if isinstance(value, str):
                sample[name] = value.encode("utf-8", "surrogatepass")
        if fields is None or fields:
            names = record if fields is None else fields
            sample["carried"] = {name: record[name] for name in names if name in record}
            sample["carried_bytes"] = len(body)
    except (ValueError, AttributeError, RecursionError):
        return  # without a URL the pair is malformed, and is recorded as such
