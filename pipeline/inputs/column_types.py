"""The types of an input file's columns: as the file says, or as its first MiB reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from alignset.pipeline.inputs.readers import tar_samples
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.inputs.text_files import HEAD, dialect, text_blocks
from alignset.transforms.columns.carried import plain_type
from alignset.transforms.storage.broken_files import FileFault
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.tar_members import BrokenTar

_SAMPLES = 100  # of a shard that are looked at
_CODE = "^[-+]?0[0-9]"  # of whole numbers that are codes, such as 00123, which no number holds


def column_types(split: Split) -> dict[str, pa.DataType]:
    """The type of each column that a file has.

    A table in text has numbers, truth values and times where its first MiB reads as such, but for
    whole numbers that begin with 0. Values of JSON have the types of the first objects, or of a
    shard's sidecar.
    """
    if split.format == "parquet":
        return _in_parquet(split.path)
    if split.format == "webdataset":
        return _in_shard(split.path)
    return (
        _of_records(_objects(next(text_blocks(split, HEAD), b"")))
        if split.format == "jsonl"
        else _in_table(split)
    )


def _in_parquet(path: str) -> dict[str, pa.DataType]:
    with open_to_read(path) as source:
        schema = pq.read_schema(source)
    return {field.name: field.type for field in schema if schema.names.count(field.name) == 1}


def _in_shard(path: str) -> dict[str, pa.DataType]:
    records: list[Mapping[str, Any]] = []
    with open_to_read(path) as source, contextlib.suppress(BrokenTar, OSError):
        for sample in islice(tar_samples(source, None), _SAMPLES):
            records.append(sample["carried"])
    types, sidecar = _of_records(records), f"{path.removesuffix('.tar')}.parquet"
    if exists(sidecar):
        with contextlib.suppress(OSError, pa.ArrowException):
            beside = _in_parquet(sidecar)
            types |= {n: kind for n, kind in beside.items() if n in types or "key" in beside}
    return types


def _objects(head: bytes) -> Iterable[Mapping[str, Any]]:
    for line in filter(bytes.strip, head.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line.decode("utf-8", "replace"))
            if isinstance(record, dict):
                yield record


def _of_records(records: Iterable[Mapping[str, Any]]) -> dict[str, pa.DataType]:
    """The types of the fields of objects; of one with several, a type that cannot be carried."""
    values: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            values.setdefault(name, []).append(value)
    types = {}
    for name, of_name in values.items():
        try:
            types[name] = pa.array(of_name).type
        except (pa.ArrowException, OverflowError, ValueError):
            types[name] = pa.union([], "dense")
    return types


def _in_table(split: Split) -> dict[str, pa.DataType]:
    head = next(text_blocks(split, HEAD), b"")
    reading = pa.csv.ReadOptions(block_size=len(head) + 1, use_threads=False)
    parsing = dialect(split, lambda row: "skip")
    try:
        schema = pa.csv.read_csv(pa.BufferReader(head), reading, parsing).schema
    except (pa.ArrowException, FileFault):  # of a row that is cut, or no UTF-8
        first = head.partition(b"\n")[0] + b"\n"
        schema = pa.csv.read_csv(pa.BufferReader(first), reading, parsing).schema
        return dict.fromkeys(schema.names, pa.string())
    whole = [of.name for of in schema if pa.types.is_integer(of.type)]
    whole = [name for name in whole if schema.names.count(name) == 1]
    as_text = pa.csv.ConvertOptions(
        include_columns=whole, column_types=dict.fromkeys(whole, pa.string())
    )
    texts = pa.csv.read_csv(pa.BufferReader(head), reading, parsing, as_text) if whole else {}
    codes = [n for n in whole if pc.any(pc.match_substring_regex(texts[n], _CODE)).as_py()]
    types = {}
    for field in schema:
        try:
            types[field.name] = plain_type(field.type)
        except TypeError:
            types[field.name] = pa.string()
    return types | dict.fromkeys(codes, pa.string())
