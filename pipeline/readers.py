"""Splits of the input to batches of `url` and `caption`. A bad row never stops a file."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from transforms.files import open_to_read
from transforms.measure import UNREADABLE

BLOCK = 1 << 23  # bytes of a text file parsed at once
HEAD = 1 << 20  # bytes in which the header ends
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "avif")
_ROWS = pa.schema([("url", pa.binary()), ("caption", pa.binary()), ("malformed", pa.string())])


def read_split(split: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The batches of one split, the same each time, with at most `batch_rows` rows each.

    Columns: `url` and `caption`; of text files `malformed`; of shards `source_path`, `source_at`
    and `source_size`, the place of the image's bytes.
    """
    readers = {"parquet": _parquet, "csv": _csv, "tsv": _csv, "jsonl": _jsonl}
    read = readers.get(split.format, _webdataset)
    try:
        for batch in read(split, batch_rows):
            for start in range(0, len(batch), batch_rows):
                yield batch.slice(start, batch_rows)
    except (OSError, EOFError, tarfile.TarError, pa.ArrowException) as error:
        hint = "; is a quotation mark never closed?" if "straddling" in str(error) else ""
        raise RuntimeError(f"cannot read {split.path} to its end: {error}{hint}") from error


def header_columns(split: Any) -> list[str]:
    """The columns of a text file: a table's header, or the fields of the first JSON objects.
    None at all where no row follows."""
    with _open(split) as source:
        head = source.read(HEAD)
    if split.format == "jsonl":
        return _json_fields(head)
    line, _, rest = head.partition(b"\n")
    if not rest.strip():
        return []
    table = pa.csv.read_csv(pa.BufferReader(line + b"\n"), parse_options=_dialect(split))
    return list(table.column_names)


def _json_fields(head: bytes) -> list[str]:
    """The fields of a tenth of the objects and more: many writers leave out those that are null,
    and a stray line must not choose the columns."""
    lines = [line for line in head.splitlines() if line.strip()]
    fields: Counter[str] = Counter()
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            fields.update(record.keys() if isinstance(record, dict) else ())
    if lines and not fields:
        raise ValueError("no line holds a JSON object with fields")
    return [name for name, count in fields.items() if 10 * count >= max(fields.values())]


def _open(split: Any) -> Any:
    source = open_to_read(split.path)
    if not split.compression:
        return source
    return pa.CompressedInputStream(pa.PythonFile(source, "r"), split.compression)


def _parquet(split: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
    columns = [split.url_column, split.text_column]
    with open_to_read(split.path) as source:
        file = pq.ParquetFile(source, pre_buffer=False)
        for batch in file.iter_batches(
            batch_size=batch_rows, row_groups=list(split.row_groups), columns=columns
        ):
            named = [batch[name] for name in columns]
            plain = [_bytes(c) for c in named]
            yield pa.record_batch(plain, names=["url", "caption"])


def _bytes(values: pa.Array) -> pa.Array:
    """Strings of any Arrow type as binary; numbers as they print."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    number = pa.types.is_primitive(values.type) or pa.types.is_null(values.type)
    return (values.cast(pa.string()) if number else values).cast(pa.binary())


def _dialect(split: Any, on_invalid: Any = None) -> pa.csv.ParseOptions:
    return pa.csv.ParseOptions(
        delimiter="\t" if split.format == "tsv" else ",",
        # A TSV has no quoting: a lone quotation mark would swallow the rows up to the next.
        quote_char=False if split.format == "tsv" else '"',
        newlines_in_values=split.format == "csv",
        invalid_row_handler=on_invalid,
    )


def _csv(split: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of a table in text. pyarrow hands over an invalid row only if it is UTF-8, and else
    gives the file up; so each byte is read as the Latin-1 character of that number."""
    invalid: list[str] = []

    def on_invalid(row: Any) -> str:
        invalid.append(row.text)
        return "skip"

    columns = [_as_latin1(split.url_column), _as_latin1(split.text_column)]
    convert = pa.csv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, pa.string()),
        strings_can_be_null=False,
    )
    reading = pa.csv.ReadOptions(
        block_size=BLOCK,
        use_threads=False,
        encoding="latin1",
        column_names=[_as_latin1(name) for name in header_columns(split)],
        skip_rows=1,  # the header, which may begin with a byte order mark
    )
    with (
        _open(split) as source,
        pa.csv.open_csv(source, reading, _dialect(split, on_invalid), convert) as reader,
    ):
        for batch in reader:
            yield _rows([_latin1_bytes(batch[0]), _latin1_bytes(batch[1])], len(batch))
    # Last, since the reader runs ahead of its batches: their place must not depend on time.
    yield _unreadable([row.encode("latin1") for row in invalid])


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


def _rows(columns: list[pa.Array], size: int) -> pa.RecordBatch:
    return pa.record_batch([*columns, pa.nulls(size, pa.string())], schema=_ROWS)


def _unreadable(rows: list[bytes]) -> pa.RecordBatch:
    faults = pa.array([UNREADABLE] * len(rows), pa.string())
    nothing = pa.nulls(len(rows), pa.binary())
    return pa.record_batch([nothing, pa.array(rows, pa.binary()), faults], schema=_ROWS)


def _jsonl(split: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([(split.url_column, pa.string()), (split.text_column, pa.string())])
    options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with _open(split) as source:
        for block in _line_blocks(source):
            try:
                reading = pa.json.ReadOptions(block_size=len(block) + 1, use_threads=False)
                table = pa.json.read_json(pa.BufferReader(block), reading, options)
            except pa.ArrowInvalid:  # one bad line: read each by itself
                yield _json_lines(block.splitlines(), split)
                continue
            columns = [table[name].combine_chunks().cast(pa.binary()) for name in schema.names]
            yield _rows(columns, len(table))


def _line_blocks(source: BinaryIO) -> Iterator[bytes]:
    """A file in blocks of whole lines."""
    rest = b""
    while data := source.read(BLOCK):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut]
            rest = data[cut:]
        else:
            rest += data
    if rest.strip():
        yield rest


def _json_lines(lines: Iterable[bytes], split: Any) -> pa.RecordBatch:
    rows: list[tuple[bytes | None, bytes | None, str | None]] = []
    for line in filter(bytes.strip, lines):
        try:
            record = json.loads(line.decode("utf-8", "surrogateescape"))
            values = [record.get(name) for name in (split.url_column, split.text_column)]
            if any(not isinstance(value, str | None) for value in values):
                raise TypeError("not text")
        except (ValueError, TypeError, AttributeError, RecursionError):
            rows.append((None, line, UNREADABLE))
            continue
        url, text = (v if v is None else _raw(v) for v in values)
        rows.append((url, text, None))
    urls, texts, faults = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.record_batch(
        [pa.array(urls, pa.binary()), pa.array(texts, pa.binary()), pa.array(faults, pa.string())],
        schema=_ROWS,
    )


def _raw(text: str) -> bytes:
    """The bytes that a string was decoded from; a lone surrogate stays invalid UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _webdataset(split: Any, batch_rows: int) -> Iterator[pa.RecordBatch]:
    samples: list[dict[str, Any]] = []
    with open_to_read(split.path) as source:
        for sample in _samples(source):
            samples.append(sample | {"source_path": split.path})
            if len(samples) == batch_rows:
                yield _sample_batch(samples)
                samples = []
    if samples:
        yield _sample_batch(samples)


def _samples(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """The samples of a shard: neighbouring files whose names agree up to the first dot."""
    key, sample = None, _new_sample()
    with tarfile.open(fileobj=source, mode="r:") as tar:
        for member in tar:
            folder, _, name = member.name.rpartition("/")
            stem, _, extension = name.partition(".")
            if not member.isfile() or name.startswith("__"):
                continue
            if (folder, stem) != key and key is not None:
                yield sample
                sample = _new_sample()
            key = (folder, stem)
            if extension.lower() in IMAGE_EXTENSIONS:
                sample |= {"source_at": member.offset_data, "source_size": member.size}
            elif extension in ("json", "txt"):
                body = tar.extractfile(member)
                _read_text(sample, extension, body.read() if body else b"")
        # tarfile takes an end that comes between two files, or in a header, for the end.
        source.seek(tar.offset)
        if source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it is cut off")
    if key is not None:
        yield sample


def _new_sample() -> dict[str, Any]:
    return {"url": None, "caption": None, "source_at": 0, "source_size": 0}


def _read_text(sample: dict[str, Any], extension: str, body: bytes) -> None:
    if extension == "txt":
        sample["caption"] = sample["caption"] or body
        return
    try:
        record = json.loads(body)
        for name in ("url", "caption"):
            value = record.get(name)
            if isinstance(value, str):
                sample[name] = value.encode("utf-8", "surrogatepass")
    except (ValueError, AttributeError):
        return  # without a URL the pair is malformed, and is recorded as such


def _sample_batch(samples: list[dict[str, Any]]) -> pa.RecordBatch:
    schema = pa.schema(
        [
            ("url", pa.binary()),
            ("caption", pa.binary()),
            ("source_path", pa.string()),
            ("source_at", pa.int64()),
            ("source_size", pa.int64()),
        ]
    )
    return pa.RecordBatch.from_pylist(samples, schema=schema)
