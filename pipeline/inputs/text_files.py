"""CSV, TSV and JSON lines to rows of bytes. A bad row is handed on as such and stops nothing.

1. The file is decompressed, and cut into blocks of whole lines.
2. Its columns are told by the first block: the header, or the fields of the JSON objects.
3. A block of a table is cut behind its last whole row: behind the last line end before which
   quotation marks are even in number. A line of ours behind it, which is an invalid row, shows
   whether pyarrow sees a row's end there too; where it does not, rows are counted out one by one.
4. A block of JSON lines is parsed by pyarrow, or where that fails, each line by itself.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from alignset.pipeline.inputs.carried_values import add_json_values, source_columns
from alignset.pipeline.inputs.splits import Split
from alignset.transforms.columns.carried import json_type
from alignset.transforms.columns.pair_columns import UNREADABLE
from alignset.transforms.pages.archives import CUT_OFF, GZIP, ZSTD, Broken, Stream, read_compressed
from alignset.transforms.storage.broken_files import CUT_SHORT, DAMAGED, WRONG_FORMAT, FileFault
from alignset.transforms.storage.files import open_to_read

# What parts the columns of a line, by format.
DELIMITERS = {"csv": ",", "tsv": "\t"}
# In the others a lone quotation mark would swallow the rows up to the next.
QUOTED = ("csv",)
MOST_COLUMNS = 10_000  # of a table; pyarrow takes 8 KB for each
HEAD = 1 << 20  # bytes from which the columns are told
BLOCK = 1 << 23  # bytes of a text file parsed at once
LONGEST_ROW = 1 << 25  # bytes of a row that is surely read
_LINES_AT_ONCE = 1 << 14  # that are parsed by Python
_MOST_LINES = 1000  # of a value at the end of a block, or rows are counted out
_READ = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAGIC = {"gzip": GZIP, "zstd": ZSTD}
_SKIPPABLE = ("zstd", b"\x2a\x4d\x18")  # what follows the first byte of a frame without data
# Objects as tuples of pairs, to see what is there twice; int() raises at 4300 digits.
_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float)
_OUR_LINE = uuid.uuid4().hex.encode()
# A row of CSV as pyarrow reads it: a mark is a quotation's only where a value begins.
_VALUE = rb'(?:"(?:[^"]|"")*+"[^,\r\n]*+|(?!")[^,\r\n]*+)'
_ROW = re.compile(rb"(?:%s,)*+%s(?:\r\n?|\n)" % (_VALUE, _VALUE))


def text_blocks(split: Split, size: int) -> Iterator[bytes]:
    """A text file, decompressed, in blocks of whole lines, each of about so many bytes or one line
    of more, without a byte order mark. They depend on the file's bytes alone. Behind `LONGEST_ROW`
    bytes a line is cut.

    Raises:
      FileFault, OSError: behind the last whole line; it cannot be read, or decompressed, further.
    """
    mark, fault = _BYTE_ORDER_MARK, None
    parts: list[bytes] = []
    count = 0
    with open_to_read(split.path) as source:
        try:
            for piece in _pieces(source, split.compression):
                end = _last_line_end(piece) if count + len(piece) >= size else 0
                if end or count > LONGEST_ROW + size:
                    yield b"".join([*parts, piece[: end or None]]).removeprefix(mark)
                    mark, parts, count, piece = b"", [], 0, piece[end or len(piece) :]
                parts.append(piece)
                count += len(piece)
        except (FileFault, OSError) as error:
            fault = error
    text = b"".join(parts).removeprefix(mark)
    if text := text[: _last_line_end(text)] if fault else text:
        yield text
    if fault:
        raise fault


def _last_line_end(text: bytes) -> int:
    return text.rfind(b"\n") + 1 or text.rfind(b"\r") + 1


def _pieces(source: BinaryIO, compression: str) -> Iterator[bytes]:
    """The file, decompressed, piece by piece.

    Raises:
      FileFault: it cannot be decompressed further.
    """
    raw = iter(partial(source.read, _READ), b"")
    if not compression:
        yield from raw
        return
    stream = Stream(raw)
    stream.has(4)
    head = bytes(stream.data[: len(_MAGIC[compression])])
    if not _MAGIC[compression].startswith(head) and (compression, head[1:]) != _SKIPPABLE:
        raise FileFault(WRONG_FORMAT, f"no {compression} begins in it")
    text_bytes = 0
    for event in read_compressed(stream, _MAGIC[compression]):
        if isinstance(event, Broken):
            if event.detail == CUT_OFF:
                fault = f"it is cut off: its {compression} ends after {text_bytes:,} bytes of text"
                raise FileFault(CUT_SHORT, fault)
            fault = f"its {compression} is damaged after {text_bytes:,} bytes of text"
            raise FileFault(DAMAGED, fault)
        if event:
            text_bytes += len(event)
            yield bytes(event)
    if not head:
        raise FileFault(CUT_SHORT, "it is cut off: it has no bytes")


def header_columns(split: Split, more_fields: Iterable[str] = ()) -> list[str]:
    """The columns of a text file: a table's header, or the fields of the first JSON objects.
    None at all where no row follows.

    Args:
      more_fields: fields that are named even where few of the objects have them.

    Raises:
      FileFault: the file begins with no header, or no JSON object; or nothing can be read.
    """
    head, fault = b"", None
    try:
        for block in text_blocks(split, HEAD):
            head += block
            if re.search(rb"[\r\n]", head.strip()):
                break
            if len(head) > LONGEST_ROW:
                raise _no_text(f"no row begins in its first {LONGEST_ROW >> 20} MiB")
    except (FileFault, OSError) as error:
        if len(head) > LONGEST_ROW:
            raise
        fault = error
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        raise _no_text("its first bytes are not UTF-8 text; convert it, or decompress it")
    names = _json_fields(head, {*more_fields}) if split.format == "jsonl" else _header(head, split)
    if fault and not names:
        raise fault
    return names


def _no_text(fault: str) -> FileFault:
    return FileFault(WRONG_FORMAT, fault)


def _header(head: bytes, split: Split) -> list[str]:
    # In two steps: `re.sub` takes 90 bytes for each line end.
    line, _, rows = head.replace(b"\r\n", b"\n").replace(b"\r", b"\n").partition(b"\n")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise _no_text("its first line is not UTF-8 text; convert it, or decompress it") from error
    if not rows.strip():
        return []
    if not line.strip():
        raise _no_text("its first line is empty; it must name the columns")
    names = line.count(DELIMITERS[split.format].encode()) + 1
    if names > MOST_COLUMNS:
        raise _no_text(f"its header names {names:,} columns; at most {MOST_COLUMNS:,} are read")
    if split.format in QUOTED and line.count(b'"') % 2:
        raise _no_text("a name in its header has a line break or an open quotation mark")
    reading = pa.csv.ReadOptions(block_size=len(line) + 1)
    return list(
        pa.csv.read_csv(pa.BufferReader(line + b"\n"), reading, dialect(split)).column_names
    )


def _json_fields(head: bytes, more_fields: set[str]) -> list[str]:
    """The fields of a tenth of the objects and more: many writers leave out those that are null,
    and a stray line must not choose the columns."""
    lines = [line for line in head.splitlines() if line.strip()]
    fields: Counter[str] = Counter()
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            fields.update(dict(_object_pairs(line.decode("utf-8", "replace"))).keys())
    if lines and not fields:
        raise _no_text("no line holds a JSON object with fields; write one object on each line")
    usual = max(fields.values(), default=0) / 10
    return [name for name, count in fields.items() if count >= usual or name in more_fields]


def _object_pairs(text: str) -> tuple[tuple[str, Any], ...]:
    """The fields of a JSON object. Raises ValueError where a text is none."""
    stripped = text.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")):  # a parser's complaint takes 4 µs
        raise ValueError("no object")
    pairs: tuple[tuple[str, Any], ...] = _DECODER.decode(text)
    return pairs


def dialect(split: Split, skip_invalid: Any = None) -> pa.csv.ParseOptions:
    """How a table's text is cut into rows and values."""
    return pa.csv.ParseOptions(
        delimiter=DELIMITERS[split.format],
        quote_char='"' if split.format in QUOTED else False,
        newlines_in_values=split.format in QUOTED,
        invalid_row_handler=skip_invalid,
    )


def read_table(split: Split) -> Iterator[pa.RecordBatch]:
    """Rows of a table in text: `url`, `caption` and the other columns of a split. The invalid rows
    of a block follow its others.

    Raises:
      FileFault, OSError, pa.ArrowException: the file is broken behind the rows that were given.
    """
    header, text, skip = header_columns(split), b"", 1
    fault: Exception | None = None
    ends = (_probable_end, _certain_end) if split.format in QUOTED else (_last_line_end,)
    try:
        for block in text_blocks(split, BLOCK):
            text += block
            for find_end in ends:
                if end := find_end(text):
                    rows, invalid, is_end = _parse_rows(text[:end], split, header, skip)
                    if is_end:
                        yield from filter(len, (rows, _unreadable(invalid)))
                        text, skip = text[end:], 0
                        break
            if len(text) > LONGEST_ROW + BLOCK:
                text, size = b"", f"{LONGEST_ROW >> 20} MiB"
                raise FileFault(
                    DAMAGED, f"a row is longer than {size}, or a quotation mark never closed"
                )
    except (FileFault, OSError) as error:
        fault = error
    if text:
        rows, invalid, is_end = _parse_rows(text, split, header, skip)
        if not is_end:
            whose = ""
            if not (invalid and _OUR_LINE in invalid.pop()):
                url = rows["url"][-1].as_py()[:80].decode("utf-8", "replace")
                rows, whose = rows.slice(0, len(rows) - 1), f", of {url!r}"
            message = f"a quotation mark is never closed in the last row{whose}"
            fault = fault or FileFault(DAMAGED, message)
        yield from filter(len, (rows, _unreadable(invalid)))
    if fault:
        raise fault


def _probable_end(text: bytes) -> int:
    """Where the last whole row of CSV ends, if each mark begins or ends a quotation; else 0.

    >>> _probable_end(b'url,"a\\nb"\\nurl,"c\\n')
    10
    """
    line_end = b"\n" if b"\n" in text else b"\r"
    end = text.rfind(line_end) + 1
    marks = text.count(b'"', 0, end)
    for _ in range(_MOST_LINES):
        if marks % 2 == 0:
            return end
        start = text.rfind(line_end, 0, end - 1) + 1
        marks -= text.count(b'"', start, end)
        end = start
    return 0


def _certain_end(text: bytes) -> int:
    """Where the last row of CSV ends that is whole, whatever marks there are.

    >>> _certain_end(b'5",a\\nurl,"b\\n')
    5
    """
    end = 0
    while row := _ROW.match(text, end):
        end = row.end()
    return end


def _parse_rows(
    text: bytes, split: Split, header: Sequence[str], skip: int
) -> tuple[pa.RecordBatch, list[bytes], bool]:
    """The valid rows of a text, the invalid ones, and whether it ends with the end of a row.

    pyarrow hands over an invalid row only if it is UTF-8, and else gives the text up: then each
    byte is read as the Latin-1 character with its number.
    """
    try:
        encoding, _ = "utf8", text.decode()
    except UnicodeDecodeError:
        encoding = "latin1"
    invalid: list[bytes] = []

    def skip_invalid(row: Any) -> str:
        invalid.append(row.text.encode(encoding))
        return "skip"

    text = b"%s\n%s\n" % (text, _OUR_LINE)
    names = [*dict.fromkeys(source_columns(split).values())]
    reading = pa.csv.ReadOptions(
        block_size=len(text) + 1,
        use_threads=False,
        encoding=encoding,
        column_names=header,
        skip_rows=skip,
    )
    convert = pa.csv.ConvertOptions(
        include_columns=names,
        column_types=dict.fromkeys(names, pa.binary()),
        strings_can_be_null=False,
    )
    table = pa.csv.read_csv(pa.BufferReader(text), reading, dialect(split, skip_invalid), convert)
    is_end = invalid[-1:] == [_OUR_LINE]
    columns = {}
    for name, source in source_columns(split).items():
        columns[name] = table[source].combine_chunks()
        if encoding == "latin1":
            values = [value.decode().encode(encoding) for value in columns[name].to_pylist()]
            columns[name] = pa.array(values, pa.binary())
    columns["malformed"] = pa.nulls(len(table), pa.string())
    return pa.record_batch(columns), invalid[: len(invalid) - is_end], is_end


def _unreadable(rows: list[bytes]) -> pa.RecordBatch:
    columns = {"url": pa.nulls(len(rows), pa.binary()), "caption": pa.array(rows, pa.binary())}
    return pa.record_batch(columns | {"malformed": pa.array([UNREADABLE] * len(rows), pa.string())})


def read_json_lines(split: Split) -> Iterator[pa.RecordBatch]:
    """Rows of JSON lines, in order: `url`, `caption` and the other columns of a split.

    Raises:
      FileFault, OSError: the file is broken behind the rows that were given.
    """
    columns = source_columns(split)
    kinds = dict.fromkeys(columns.values(), pa.string())
    kinds |= {
        column.source: json_type(column.field.type) for column in split.carried if column.source
    }
    kinds |= dict.fromkeys(split.text_columns, pa.string())
    options = pa.json.ParseOptions(
        explicit_schema=pa.schema(kinds), unexpected_field_behavior="ignore"
    )
    for block in text_blocks(split, BLOCK):
        if len(block) > LONGEST_ROW + BLOCK:
            raise FileFault(DAMAGED, f"a line is longer than {LONGEST_ROW >> 20} MiB")
        try:
            if block.lstrip()[:1] != b"{":  # pyarrow 25 crashes on a block that begins "null"
                raise pa.ArrowInvalid("begins with no object")
            reading = pa.json.ReadOptions(block_size=len(block) + 1, use_threads=False)
            table = pa.json.read_json(pa.BufferReader(block), reading, options)
            if len(table) != block.count(b"\n") + (block[-1:] != b"\n"):
                raise pa.ArrowInvalid("a line is a row, and here a row is not a line")
        except pa.ArrowInvalid:  # one bad line: read each by itself
            lines = (line[0] for line in re.finditer(rb"[^\r\n]+", block) if line[0].strip())
            while group := [*islice(lines, _LINES_AT_ONCE)]:
                yield _json_lines(group, split)
            continue
        rows = {name: table[source].combine_chunks() for name, source in columns.items()}
        yield pa.record_batch(rows | {"malformed": pa.nulls(len(table), pa.string())})


def _json_lines(lines: Sequence[bytes], split: Split) -> pa.RecordBatch:
    rows: list[Sequence[bytes | None]] = []
    records: list[dict[str, Any]] = []
    faults: list[str | None] = []
    for line in lines:
        fault = None
        try:
            row, record = _json_row(line, split)
        except (ValueError, RecursionError):
            row, record, fault = [None, line, None], {}, UNREADABLE
        rows.append(row)
        records.append(record)
        faults.append(fault)
    columns = {
        name: pa.array([row[at] for row in rows], pa.binary())
        for at, name in enumerate([*source_columns(split)][: len(split.text_columns)])
    }
    batch = pa.record_batch(columns | {"malformed": pa.array(faults, pa.string())})
    return add_json_values(batch, split, records)


def _json_row(line: bytes, split: Split) -> tuple[list[bytes | None], dict[str, Any]]:
    """The URL, the text and perhaps the page of a line, and its fields if some are carried.

    Raises:
      ValueError: it is not an object, or the URL or the text is there twice or not a text (or has
        two kinds of invalid UTF-8). The page is then taken for unknown.
    """
    try:
        text, errors = line.decode(), "surrogatepass"  # a surrogate's escape is not a text
    except UnicodeDecodeError:
        text, errors = line.decode("utf-8", "surrogateescape"), "surrogateescape"
    pairs = _object_pairs(text)
    texts: list[bytes | None] = []
    for name in split.text_columns:
        values = [value for key, value in pairs if key == name] or [None]
        if len(values) > 1 or not isinstance(values[0], str | None):
            if len(texts) < 2:
                raise ValueError("twice, or no text")
            values = [None]
        texts.append(None if values[0] is None else values[0].encode("utf-8", errors))
    if not split.carried:
        return texts, {}
    text = line.decode("utf-8", "replace")
    record = json.loads(text, parse_int=lambda digits: (int if len(digits) < 20 else float)(digits))
    return texts, record
