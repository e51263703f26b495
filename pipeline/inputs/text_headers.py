"""The columns of CSV, TSV and JSON lines, told by their first bytes."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.csv

from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.inputs.whole_lines import LONGEST_ROW, WholeLines
from alignset.transforms.storage.broken_files import WRONG_FORMAT, FileFault

# What parts the columns of a line, by format.
DELIMITERS = {"csv": ",", "tsv": "\t"}
# In the others a lone quotation mark would swallow the rows up to the next.
QUOTED = ("csv",)
MOST_COLUMNS = 10_000  # of a table; pyarrow takes 8 KB for each
HEAD = 1 << 20  # bytes from which the columns are told
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def header_columns(split: Split, more_fields: Iterable[str] = ()) -> list[str]:
    """The columns of a text file: a table's header, or the fields of the first JSON objects.
    None at all where no row follows.

    Args:
      more_fields: fields that are named even where few of the objects have them.

    Raises:
      FileFault: the file begins with no header, or no JSON object; or nothing can be read.
    """
    with WholeLines(split) as source:
        head = _head(source)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        raise _no_text("its first bytes are not UTF-8 text; convert it, or decompress it")
    if split.format == "jsonl":
        fields = _json_fields(head, set(more_fields))
        if not fields:
            source.check()
        return fields
    line, _, rest = re.sub(rb"\r\n?", b"\n", head).partition(b"\n")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise _no_text("its first line is not UTF-8 text; convert it, or decompress it") from error
    if not rest.strip():
        source.check()
        return []
    if not line.removeprefix(BYTE_ORDER_MARK).strip():
        raise _no_text("its first line is empty; it must name the columns")
    names = line.count(DELIMITERS[split.format].encode()) + 1
    if names > MOST_COLUMNS:
        raise _no_text(f"its header names {names:,} columns; at most {MOST_COLUMNS:,} are read")
    if split.format in QUOTED and line.count(b'"') % 2:
        raise _no_text("a name in its header has a line break or an open quotation mark")
    reading = pa.csv.ReadOptions(block_size=len(line) + 1)
    table = pa.csv.read_csv(pa.BufferReader(line + b"\n"), reading, dialect(split))
    return list(table.column_names)


def _no_text(fault: str) -> FileFault:
    return FileFault(WRONG_FORMAT, fault)


def _head(source: WholeLines) -> bytes:
    """The first bytes of a file, to the second line with something on it at least."""
    head = b""
    while more := source.read(HEAD):
        head += more
        lines = head.strip()
        if b"\n" in lines or b"\r" in lines:
            return head
        if len(head) > LONGEST_ROW:
            raise _no_text(f"no row begins in its first {LONGEST_ROW >> 20} MiB")
    return head


def _json_fields(head: bytes, more_fields: set[str]) -> list[str]:
    """The fields of a tenth of the objects and more: many writers leave out those that are null,
    and a stray line must not choose the columns."""
    lines = [line for line in head.removeprefix(BYTE_ORDER_MARK).splitlines() if line.strip()]
    fields: Counter[str] = Counter()
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line.decode("utf-8", "replace"), parse_int=float)
            fields.update(record.keys() if isinstance(record, dict) else ())
    if lines and not fields:
        raise _no_text("no line holds a JSON object with fields; write one object on each line")
    usual = max(fields.values(), default=0) / 10
    return [name for name, count in fields.items() if count >= usual or name in more_fields]


def dialect(split: Split, on_invalid: Any = None) -> pa.csv.ParseOptions:
    """How a table's text is cut into rows and values."""
    return pa.csv.ParseOptions(
        delimiter=DELIMITERS[split.format],
        quote_char='"' if split.format in QUOTED else False,
        newlines_in_values=split.format in QUOTED,
        invalid_row_handler=on_invalid,
    )
