"""Files of blocklists to their entries by kind: text of `kind:value` lines, CSV, TSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from alignset.transforms.blocklists.kinds import KINDS
from alignset.transforms.columns.rejects import key_column

_PIECE = 1 << 22  # bytes of a text file read at once
_LONGEST_LINE = 1 << 16
_SHOWN = 80  # characters of a value in a message
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
NAMED = ", ".join(f"{kind}:" for kind in KINDS)


class ListError(ValueError):
    """A file is no blocklist; says which, where, and what to do."""


class Entries(NamedTuple):
    """Some entries of one kind.

    Fields:
      values: string[n], as they are written, trimmed; none is empty.
      places: int64[n], the line or row that each stands in, from 1.
    """

    kind: str
    values: pa.StringArray
    places: pa.Int64Array


@dataclass
class Faults:
    """The entries of a file that are none: how many, and what is wrong with the first.

    Attributes:
      unit: what a place is, "line" or "row".
    """

    path: str
    unit: str = "line"
    count: int = 0
    first: tuple[int, str, str] = field(default=(0, "", ""))

    def add(self, values: pa.StringArray, places: pa.Int64Array, what: str) -> None:
        """Adds entries, all with the same fault."""
        if not len(values):
            return
        self.count += len(values)
        place = int(pc.min(places).as_py())
        if not self.first[0] or place < self.first[0]:
            at = int(pc.index(places, place).as_py())
            self.first = (place, values[at].as_py(), what)

    def check(self) -> None:
        """Raises ListError where there are some."""
        if not self.count:
            return
        place, value, what = self.first
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        more = f" ({self.count - 1:,} more are wrong, too)" if self.count > 1 else ""
        raise ListError(f"{self.path}, {self.unit} {place:,}: {shown!r} {what}{more}")


def format_of_list(path: str) -> str:
    """ "parquet", "csv", "tsv" or "text", by a file's name."""
    name = Path(path).name.lower()
    for ending in (".gz", ".zst", ".zstd"):
        name = name.removesuffix(ending)
    suffix = Path(name).suffix
    return suffix[1:] if suffix in (".parquet", ".csv", ".tsv") else "text"


def read_entries(path: str, local: str, faults: Faults) -> Iterator[Entries]:
    """The entries of a list, some thousands at a time. Lines that are none are added to `faults`.

    Args:
      path: as it was given, for what is said. local: where the file is on this machine.

    Raises:
      ListError: the file is not of its format, or none of its columns has a name that is known.
    """
    kind = format_of_list(path)
    faults.unit = "line" if kind == "text" else "row"
    try:
        if kind == "parquet":
            yield from _of_batches(_parquet_batches(path, local), faults)
        elif kind == "text":
            with _opened(local) as source:
                yield from _of_lines(source, faults)
        else:
            delimiter = "," if kind == "csv" else "\t"
            yield from _of_batches(_csv_batches(path, local, delimiter), faults)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        reason = str(error).splitlines()[0]
        raise ListError(f"the blocklist {path} cannot be read as {kind}: {reason}") from error


def _opened(local: str) -> Any:
    """A file, decompressed by what it begins with."""
    with open(local, "rb") as file:
        start = file.read(4)
    for magic, codec in _MAGIC.items():
        if start.startswith(magic):
            return pa.CompressedInputStream(pa.OSFile(local), codec)
    return open(local, "rb")


def _of_lines(source: BinaryIO, faults: Faults) -> Iterator[Entries]:
    left, done, first = b"", 0, True
    while piece := source.read(_PIECE):
        if first:
            piece, first = piece.removeprefix(b"\xef\xbb\xbf"), False
        whole, newline, rest = piece.rpartition(b"\n")
        if newline:
            lines = (left + whole).split(b"\n")
            yield from _of_kinds(lines, done, faults)
            left, done = rest, done + len(lines)
        else:
            left += rest
        if len(left) > _LONGEST_LINE:
            _refuse_long(pa.array([left.decode("utf-8", "replace")]), pa.array([done + 1]), faults)
    if left:
        yield from _of_kinds([left], done, faults)


def _refuse_long(values: pa.StringArray, places: pa.Int64Array, faults: Faults) -> None:
    """Raises ListError where a value is longer than any entry, since what follows is none either.
    One that has not ended yet is the last."""
    if not len(values) or pc.max(pc.binary_length(values)).as_py() <= _LONGEST_LINE:
        return
    long = pc.greater(pc.binary_length(values), _LONGEST_LINE)
    what = f"begins a {faults.unit} of more than {_LONGEST_LINE:,} bytes, which is no entry"
    faults.add(values.filter(long), places.filter(long), what)
    faults.check()


def _of_kinds(lines: list[bytes], done: int, faults: Faults) -> Iterator[Entries]:
    """The entries of some lines, of which `done` stand before them."""
    try:
        text = pa.array(lines, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        text = pa.array([line.decode("utf-8", "replace") for line in lines], pa.string())
        broken = np.array(["\ufffd" in line for line in text.to_pylist()])
    else:
        broken = np.zeros(len(lines), np.bool_)
    places = pa.array(np.arange(done + 1, done + 1 + len(lines)))
    _refuse_long(text, places, faults)
    text = pc.utf8_trim_whitespace(text)
    passed = pc.or_(pc.equal(text, ""), pc.starts_with(text, "#")).to_numpy(zero_copy_only=False)
    broken &= ~passed
    faults.add(*_chosen(text, places, broken), "is no UTF-8; write it as UTF-8")
    open_rows = ~(passed | broken)
    for kind in KINDS:
        of_kind = pc.starts_with(text, f"{kind}:", ignore_case=True)
        rows = open_rows & of_kind.to_numpy(zero_copy_only=False)
        if not rows.any():
            continue
        open_rows &= ~rows
        values, where = _chosen(text, places, rows)
        values = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(values, len(kind) + 1))
        empty = pc.equal(values, "").to_numpy(zero_copy_only=False)
        faults.add(*_chosen(values, where, empty), f"has nothing behind {kind}:")
        values, where = _chosen(values, where, ~empty)
        if len(values):
            yield Entries(kind, values, where)
    what = f"does not begin with any of {NAMED}"
    faults.add(*_chosen(text, places, open_rows), what)


def _chosen(values: pa.StringArray, places: pa.Int64Array, rows: np.ndarray) -> tuple[Any, Any]:
    chosen = pa.array(rows)
    return values.filter(chosen), places.filter(chosen)


def _of_batches(batches: Iterator[pa.RecordBatch], faults: Faults) -> Iterator[Entries]:
    done = 0
    for batch in batches:
        places = pa.array(np.arange(done + 1, done + 1 + len(batch)))
        done += len(batch)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = pc.utf8_trim_whitespace(pc.fill_null(_as_strings(column), ""))
            holds = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
            values, where = _chosen(values, places, holds)
            if len(values):
                yield Entries(name.strip().lower(), values, where)


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


def _known(path: str, names: list[str]) -> list[str]:
    known = [name for name in names if name.strip().lower() in KINDS]
    if not known:
        shown = ", ".join(repr(name[:_SHOWN]) for name in names[:5]) or "none"
        raise ListError(
            f"the blocklist {path} has no column that is named {', '.join(KINDS)}; got {shown}"
        )
    return known


def _parquet_batches(path: str, local: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(local) as file:
        known = _known(path, file.schema_arrow.names)
        yield from file.iter_batches(1 << 16, columns=known)


def _csv_batches(path: str, local: str, delimiter: str) -> Iterator[pa.RecordBatch]:
    with _opened(local) as source:
        head = source.read(_LONGEST_LINE).removeprefix(b"\xef\xbb\xbf").splitlines() or [b""]
    names = next(
        csv.reader(io.StringIO(head[0].decode("utf-8", "replace")), delimiter=delimiter), []
    )
    known = _known(path, names)
    with _opened(local) as source:
        reader = pacsv.open_csv(
            source,
            pacsv.ReadOptions(block_size=_PIECE),
            pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(known, pa.string()),
                include_columns=known,
                strings_can_be_null=False,
            ),
        )
        yield from reader
