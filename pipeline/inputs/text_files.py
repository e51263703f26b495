"""CSV, TSV and JSON lines to rows of bytes. A bad row is handed on as such and stops nothing."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from alignset.pipeline.inputs.carried_values import with_json, with_sources
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.inputs.text_headers import BYTE_ORDER_MARK, dialect, header_columns
from alignset.pipeline.inputs.whole_lines import LONGEST_ROW, WholeLines
from alignset.transforms.columns.carried import json_type
from alignset.transforms.columns.pair_columns import PAGE_URL, UNREADABLE
from alignset.transforms.storage.broken_files import DAMAGED, FileFault

BLOCK = 1 << 23  # bytes of a text file parsed at once
_ROWS = pa.schema([("url", pa.binary()), ("caption", pa.binary()), ("malformed", pa.string())])


class _Followed(io.RawIOBase):
    """A file with a last line of ours."""

    def __init__(self, source: io.RawIOBase, line: bytes) -> None:
        self.source, self.rest = source, b"\n" + line + b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.source.read(size) or b""
        if not data:
            data, self.rest = self.rest, b""
        return data


def read_table(split: Split, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of a table in text: `url`, `caption` and `malformed`, with invalid rows last."""
    count = 0
    try:
        for batch in _table_rows(split, batch_rows, BLOCK):
            yield batch
            count += len(batch)
    except _LongRowError:
        # Larger blocks, which take 300 MB more, from the start again.
        for batch in _table_rows(split, batch_rows, LONGEST_ROW):
            yield batch.slice(min(count, len(batch)))
            count -= min(count, len(batch))


class _LongRowError(Exception):
    """A row is longer than a block."""


def _table_rows(split: Split, batch_rows: int, block: int) -> Iterator[pa.RecordBatch]:
    """The rows of a table, parsed in blocks of so many bytes.

    pyarrow hands over an invalid row only if it is UTF-8, and else gives the file up; so each byte
    is read as the Latin-1 character of that number. It also takes the file's end for the end of a
    quotation; so a line of ours follows, which is an invalid row, unless it is within one: that one
    is left out.

    Raises:
      FileFault, pa.ArrowException: the file is broken behind the rows that were given.
    """
    last = uuid.uuid4().hex
    fault: Exception | None = None
    reading, convert = _reading(split, block)
    ends: list[str] = []
    with tempfile.TemporaryFile() as invalid:  # they may be all rows of a large file

        def on_invalid(row: Any) -> str:
            if last in row.text:
                ends.append(row.text)
            else:
                pickle.dump(row.text, invalid)
            return "skip"

        parsing, last_batch = dialect(split, on_invalid), None
        with WholeLines(split) as source:
            try:
                stream = _Followed(source, last.encode())
                with pa.csv.open_csv(stream, reading, parsing, convert) as reader:
                    for batch in filter(len, reader):
                        if last_batch is not None:
                            yield last_batch
                        values = [_latin1_bytes(batch[_as_latin1(n)]) for n in _names(split)]
                        last_batch = _rows(values, pa.nulls(len(batch), pa.string()))
                        columns = {n: _latin1_bytes(batch[_as_latin1(n)]) for n in split.sources}
                        last_batch = with_sources(last_batch, split, columns)
                if ends != [last]:
                    last_batch, fault = _without_last(last_batch, among_rows=not ends)
            except pa.ArrowInvalid as error:
                fault = _of_long_row(error, block)
        if last_batch is not None:
            yield last_batch
        # Last, since the reader runs ahead of its batches: their place must not depend on time.
        invalid.seek(0)
        rows = _unpickle(invalid)
        while group := list(islice(rows, batch_rows)):
            yield _unreadable([row.encode("latin1") for row in group])
    source.check()
    if fault:
        raise fault


def _reading(split: Split, block: int) -> tuple[pa.csv.ReadOptions, pa.csv.ConvertOptions]:
    columns = [_as_latin1(name) for name in dict.fromkeys([*_names(split), *split.sources])]
    convert = pa.csv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, pa.string()),
        strings_can_be_null=False,
    )
    reading = pa.csv.ReadOptions(
        block_size=block,
        use_threads=False,
        encoding="latin1",
        column_names=[_as_latin1(name) for name in header_columns(split)],
        skip_rows=1,  # the header, which may begin with a byte order mark
    )
    return reading, convert


def _without_last(
    rows: pa.RecordBatch | None, *, among_rows: bool
) -> tuple[pa.RecordBatch | None, Exception]:
    """The rows without the one whose quotation ran on to the file's end, and what to say of it."""
    whose = ""
    if among_rows and rows is not None:
        url = rows["url"][-1].as_py()[:80].decode("utf-8", "replace")
        rows, whose = rows.slice(0, len(rows) - 1), f", of {url!r}"
    return rows, FileFault(DAMAGED, f"a quotation mark is never closed in the last row{whose}")


def _of_long_row(error: pa.ArrowInvalid, block: int) -> Exception:
    """The fault of a table that its reader's error describes.

    Raises:
      _LongRowError: larger blocks may do.
    """
    if "straddling" not in str(error):
        return error
    if block < LONGEST_ROW:
        raise _LongRowError from error
    return FileFault(
        DAMAGED, f"a row is longer than {LONGEST_ROW >> 20} MiB, or a quotation mark never closed"
    )


def _unpickle(file: BinaryIO) -> Iterator[str]:
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(file)


def _as_latin1(name: str) -> str:
    return name.encode().decode("latin1")


def _latin1_bytes(values: pa.StringArray) -> pa.BinaryArray:
    """string[n] of Latin-1 characters as the bytes of these numbers, binary[n], no nulls."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(pc.utf8_length(values).to_numpy(), out=offsets[1:])
    begin, end = np.frombuffer(values.buffers()[1], np.int32)[
        [values.offset, values.offset + len(values)]
    ]
    body = (values.buffers()[2] or pa.py_buffer(b""))[begin:end].to_pybytes()
    data = body.decode().encode("latin1")
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def _names(split: Split) -> list[str]:
    return [split.url_column, split.text_column, *filter(None, [split.page_column])]


def _rows(columns: list[pa.Array], faults: pa.Array) -> pa.RecordBatch:
    """Rows of `url`, `caption`, `malformed` and perhaps `page_url`."""
    rows = pa.record_batch([*columns[:2], faults], schema=_ROWS)
    return rows.append_column(PAGE_URL, columns[2]) if columns[2:] else rows


def _unreadable(rows: list[bytes]) -> pa.RecordBatch:
    faults = pa.array([UNREADABLE] * len(rows), pa.string())
    return _rows([pa.nulls(len(rows), pa.binary()), pa.array(rows, pa.binary())], faults)


def read_json_lines(split: Split, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of JSON lines, in order: `url`, `caption` and `malformed`."""
    kinds = {of.source: json_type(of.field.type) for of in split.carried if of.source}
    schema = pa.schema(kinds | dict.fromkeys(_names(split), pa.string()))
    options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with WholeLines(split) as source:
        for block in _line_blocks(source):
            try:
                if block.lstrip()[:1] != b"{":  # pyarrow 25 crashes on a block that begins "null"
                    raise pa.ArrowInvalid("begins with no object")
                reading = pa.json.ReadOptions(block_size=len(block) + 1, use_threads=False)
                table = pa.json.read_json(pa.BufferReader(block), reading, options)
                if len(table) != block.count(b"\n") + (block[-1:] != b"\n"):
                    raise pa.ArrowInvalid("a line is a row, and here a row is not a line")
            except pa.ArrowInvalid:  # one bad line: read each by itself
                lines = (line[0] for line in re.finditer(rb"[^\r\n]+", block))
                while group := list(islice(lines, batch_rows)):
                    yield _json_lines(group, split)
                continue
            columns = [table[n].combine_chunks().cast(pa.binary()) for n in _names(split)]
            rows = _rows(columns, pa.nulls(len(table), pa.string()))
            carried_values = {n: table[n].combine_chunks() for n in split.sources}
            yield with_sources(rows, split, carried_values)
    source.check()


def _line_blocks(source: io.RawIOBase) -> Iterator[bytes]:
    """A file in blocks of whole lines, without a byte order mark."""
    rest = source.read(len(BYTE_ORDER_MARK)).removeprefix(BYTE_ORDER_MARK)
    while data := source.read(BLOCK):
        end = data.rfind(b"\n") + 1
        if end:
            yield rest + data[:end]
            rest = data[end:]
        else:
            rest += data
        if len(rest) > LONGEST_ROW + BLOCK:
            raise FileFault(DAMAGED, f"a line is longer than {LONGEST_ROW >> 20} MiB")
    if rest.strip():
        yield rest


def _json_lines(lines: Iterable[bytes], split: Split) -> pa.RecordBatch:
    names = _names(split)
    rows: list[tuple[bytes | None, ...]] = []
    records: list[Mapping[str, Any]] = []
    faults: list[str | None] = []
    for line in filter(bytes.strip, lines):
        try:
            rows.append(tuple(_json_row(line, names)))
            records.append(_record(line) if split.carried else {})
            faults.append(None)
        except (ValueError, RecursionError):
            rows.append((None, line, None)[: len(names)])
            records.append({})
            faults.append(UNREADABLE)
    columns = [pa.array([row[at] for row in rows], pa.binary()) for at in range(len(names))]
    return with_json(_rows(columns, pa.array(faults, pa.string())), split, records)


def _record(line: bytes) -> dict[str, Any]:
    """A line that is an object, with whole numbers as they are but for vast ones."""
    text = line.decode("utf-8", "replace")
    return json.loads(text, parse_int=lambda digits: (int if len(digits) < 20 else float)(digits))


def _json_row(line: bytes, names: list[str]) -> list[bytes | None]:
    """The values of these fields in one line: URL, text and perhaps page.

    Raises:
      ValueError: it is not an object, or the URL or the text is there twice or not a text (or has
        two kinds of invalid UTF-8). The page is then taken for unknown.
    """
    if line.lstrip()[:1] != b"{":  # 1 µs, and a parser's complaint takes 8
        raise ValueError("no object")
    try:
        text, errors = line.decode(), "surrogatepass"  # a surrogate's escape is not a text
    except UnicodeDecodeError:
        text, errors = line.decode("utf-8", "surrogateescape"), "surrogateescape"
    # Objects as tuples of pairs, to see what is there twice; int() raises at 4300 digits.
    record = json.loads(text, object_pairs_hook=tuple, parse_int=float)
    if not isinstance(record, tuple):
        raise ValueError("no object")
    texts: list[bytes | None] = []
    for place, name in enumerate(names):
        values = [value for key, value in record if key == name] or [None]
        if len(values) > 1 or not isinstance(values[0], str | None):
            if place < 2:
                raise ValueError("twice, or no text")
            values = [None]
        texts.append(None if values[0] is None else values[0].encode("utf-8", errors))
    return texts
