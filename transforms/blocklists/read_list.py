"""Files of blocklists to their entries by kind: text of `kind:value` lines, CSV, TSV, Parquet, or a
dataset's `taken_down.u64`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from alignset.transforms.blocklists.kinds import KEY, KINDS
from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.images.file_formats import signature_format

_PIECE = 1 << 22  # bytes of a text file read at once
_LONGEST_LINE = 1 << 16
_SHOWN = 80  # characters of a value in a message
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
NAMED = ", ".join(f"{kind}:" for kind in KINDS)


class ListError(ValueError):
    """A file is not a blocklist; says which, where, and what to do."""


class Entries(NamedTuple):
    """Some entries of one kind.

    Fields:
      values: string[n], as they are written, trimmed; none is empty.
      places: int64[n], the line or row that each stands in, from 1, ascending.
      origin: the file, and whether it has lines or rows, as in "list.txt, line".
    """

    kind: str
    values: pa.StringArray
    places: pa.Int64Array
    origin: str

    def filter(self, rows: Bools) -> Entries:
        """Only some of them: bool[n]."""
        mask = pa.array(rows)
        values, places = self.values.filter(mask), self.places.filter(mask)
        return self._replace(values=values, places=places)

    def refuse(self, rows: Bools, what: str) -> None:
        """Raises ListError where an entry is wrong: bool[n]."""
        count = int(rows.sum())
        if not count:
            return
        first = int(rows.argmax())
        value, place = self.values[first].as_py(), self.places[first].as_py()
        text = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        more = f" ({count - 1:,} more are wrong, too)" if count > 1 else ""
        raise ListError(f"{self.origin} {place:,}: {text!r} {what}{more}")


def format_of_list(path: str) -> str:
    """ "parquet", "csv", "tsv", "u64" or "text", by a file's name."""
    name = Path(path).name.lower()
    for ending in (".gz", ".zst", ".zstd"):
        name = name.removesuffix(ending)
    suffix = Path(name).suffix
    return suffix[1:] if suffix in (".parquet", ".csv", ".tsv", ".u64") else "text"


def read_entries(path: str, local: str) -> Iterator[Entries]:
    """The entries of a list, some thousands at a time.

    Args:
      path: as it was given, for messages. local: where the file is on this machine.

    Raises:
      ListError: the file is not of its format, none of its columns has a name that is known, or a
        line is not an entry.
    """
    kind = format_of_list(path)
    try:
        if kind == "parquet":
            with pq.ParquetFile(local) as file:
                columns = _list_columns(path, file.schema_arrow.names)
                yield from _read_batches(file.iter_batches(1 << 16, columns=columns), path)
        elif kind == "text":
            _check_no_image(path, local)
            with _opened(local) as source:
                yield from _read_lines(source, path)
        elif kind == "u64":
            with _opened(local) as source:
                yield from _read_keys(source, path)
        else:
            delimiter = "," if kind == "csv" else "\t"
            yield from _read_batches(_csv_batches(path, local, delimiter), path)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        reason = str(error).splitlines()[0]
        raise ListError(f"the blocklist {path} cannot be read as {kind}: {reason}") from error


def _check_no_image(path: str, local: str) -> None:
    with open(local, "rb") as file:
        kind = signature_format(file.read(64))
    if kind:
        raise ListError(f"{path} is an image, {kind}: to list it pass --blocklist=image:{path}")


def _opened(local: str) -> Any:
    """A file, decompressed by what it begins with."""
    with open(local, "rb") as file:
        start = file.read(4)
    for magic, codec in _MAGIC.items():
        if start.startswith(magic):
            return pa.CompressedInputStream(pa.OSFile(local), codec)
    return open(local, "rb")


def _read_lines(source: BinaryIO, path: str) -> Iterator[Entries]:
    rest, lines_before = source.read(3).removeprefix(b"\xef\xbb\xbf"), 0
    while piece := source.read(_PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        yield from _split_kinds(lines, lines_before, path)
        lines_before += len(lines)
        if len(rest) > _LONGEST_LINE:
            raise ListError(
                f"{path}, line {lines_before + 1:,}: {rest[:_SHOWN].decode('utf-8', 'replace')!r} "
                f"begins a line of more than {_LONGEST_LINE:,} bytes, which is not an entry"
            )
    yield from _split_kinds([rest], lines_before, path)


def _read_keys(source: BinaryIO, path: str) -> Iterator[Entries]:
    """Keys of pairs that are written as little-endian uint64."""
    rows_before = 0
    while piece := source.read(_PIECE):
        if len(piece) % 8:
            raise ListError(f"the blocklist {path} has not 8 bytes for each key: it is cut short")
        keys = key_column(np.frombuffer(piece, "<u8").astype(np.uint64))
        places = pa.array(np.arange(len(keys)) + rows_before + 1)
        rows_before += len(keys)
        yield Entries(KEY, keys, places, f"{path}, key")


def _split_kinds(lines: list[bytes], lines_before: int, path: str) -> Iterator[Entries]:
    """Entries by kind; lines_before: lines of the file before these."""
    try:
        text = pa.array(lines, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        text = pa.array([line.decode("utf-8", "replace") for line in lines], pa.string())
        is_broken = np.array(["\ufffd" in line for line in text.to_pylist()])
    else:
        is_broken = np.zeros(len(lines), np.bool_)
    places = pa.array(np.arange(len(lines)) + lines_before + 1)
    every = Entries("", pc.utf8_trim_whitespace(text), places, f"{path}, line")
    is_skipped = _marks(pc.or_(pc.equal(every.values, ""), pc.starts_with(every.values, "#")))
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))
    every.refuse(lengths > _LONGEST_LINE, f"is longer than {_LONGEST_LINE:,} bytes")
    every.refuse(is_broken & ~is_skipped, "is not UTF-8; write it as UTF-8")
    every = every.filter(~is_skipped)
    for kind in KINDS:
        rows = _marks(pc.starts_with(every.values, f"{kind}:", ignore_case=True))
        entries, every = every.filter(rows), every.filter(~rows)
        values = pc.utf8_slice_codeunits(entries.values, len(kind) + 1)
        entries = entries._replace(kind=kind, values=pc.utf8_trim_whitespace(values))
        entries.refuse(_marks(pc.equal(entries.values, "")), f"has nothing behind {kind}:")
        if len(entries.values):
            yield entries
    message = f"does not begin with any of {NAMED}; images are given as --blocklist=image:PATH"
    every.refuse(np.ones(len(every.values), np.bool_), message)


def _marks(marks: pa.BooleanArray) -> Bools:
    return np.asarray(marks.to_numpy(zero_copy_only=False))


def _read_batches(batches: Iterator[pa.RecordBatch], path: str) -> Iterator[Entries]:
    rows_before = 0
    for batch in batches:
        places = pa.array(np.arange(len(batch)) + rows_before + 1)
        rows_before += len(batch)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = pc.utf8_trim_whitespace(pc.fill_null(_as_strings(column), ""))
            entries = Entries(name.strip().lower(), values, places, f"{path}, row")
            entries = entries.filter(_marks(pc.not_equal(values, "")))
            if len(entries.values):
                yield entries


def _as_strings(column: pa.Array) -> pa.StringArray:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_uint64(column.type):  # keys and perceptual hashes as numbers
        digits = key_column(pc.fill_null(column, 0).to_numpy())
        return pc.if_else(column.is_valid(), digits, pa.scalar(None, pa.string()))
    if pa.types.is_large_binary(column.type):
        column = column.cast(pa.binary())
    if pa.types.is_binary(column.type) or pa.types.is_fixed_size_binary(column.type):
        raw = column.to_pylist()  # digests as they are
        return pa.array([body if body is None else body.hex() for body in raw], pa.string())
    strings = column.cast(pa.string())
    strings.validate(full=True)  # a Parquet file may hold any bytes as a string
    return strings


def _list_columns(path: str, names: list[str]) -> list[str]:
    columns = [name for name in names if name.strip().lower() in KINDS]
    if not columns:
        examples = ", ".join(repr(name[:_SHOWN]) for name in names[:5]) or "none"
        raise ListError(
            f"the blocklist {path} has no column that is named {', '.join(KINDS)}; got {examples}"
        )
    return columns


def _csv_batches(path: str, local: str, delimiter: str) -> Iterator[pa.RecordBatch]:
    with _opened(local) as source:
        head = source.read(_LONGEST_LINE).removeprefix(b"\xef\xbb\xbf").splitlines() or [b""]
    names = next(
        csv.reader(io.StringIO(head[0].decode("utf-8", "replace")), delimiter=delimiter), []
    )
    columns = _list_columns(path, names)
    with _opened(local) as source:
        reader = pacsv.open_csv(
            source,
            pacsv.ReadOptions(block_size=_PIECE),
            pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=columns,
                strings_can_be_null=False,
            ),
        )
        yield from reader
