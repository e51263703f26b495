"""Evidence: each file of a host by which images were judged, as it was read."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.arrivals.images import Span, Spool
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import EVIDENCE, key_column
from alignset.transforms.fetching.orders import HostAnswer
from alignset.transforms.fetching.robots import READ_BYTES
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.files import open_to_read, write_atomically
from alignset.transforms.storage.parquet_files import named, read_columns, read_rows, schema_of

# Bytes of bodies in a row group, which has each once. 10,000 hosts have 10 to 50 MB.
_GROUP_BYTES = 1 << 26
_LONGEST = 1 << 16  # characters of a URL that is read
_MOST_FILES = 1 << 12  # of an origin, that are read
# Kind of the header lines of an image that opted out since, whose URL may have to be forgotten; and
# how the key of its first pair begins, which stands in place of the URL.
HEADERS, OF_KEY = "headers", "key:"


class HostFiles:
    """Files of hosts. Their bodies are put aside, since each may have 500 KiB."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._noted: dict[tuple[str, str, str, float], tuple[int | None, str | None, Span | None]]
        self._noted = {}

    def note(self, origin: str, answer: HostAnswer) -> None:
        """Notes that an image of an origin is judged by an answer; on the fetcher's thread."""
        key = origin, answer.kind, answer.url, answer.read_at
        if key not in self._noted:
            span = None if answer.packed is None else self._spool.put(answer.packed)
            self._noted[key] = answer.status, answer.detail, span

    def write(self, path: Path) -> None:
        """Writes them as EVIDENCE; no file where there are none."""
        if self._noted:
            with path.open("wb") as sink:
                _write(self._batches(), sink)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        rows, size = list[dict[str, object]](), 0
        for key, (status, detail, span) in sorted(self._noted.items(), key=lambda item: item[0]):
            body = None if span is None else zlib.decompress(self._spool.get(span))
            row = dict(zip(("origin", "kind", "url"), key, strict=False))
            row |= {"status": status, "detail": detail, "read_at": int(1000 * key[-1])}
            row |= {"body": body, "sha256": None if body is None else sha256_of(body)}
            rows.append(row)
            size += len(body or b"")
            if size >= _GROUP_BYTES:
                yield pa.RecordBatch.from_pylist(rows, EVIDENCE)
                rows, size = [], 0
        yield pa.RecordBatch.from_pylist(rows, EVIDENCE)


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _write(batches: Iterable[pa.RecordBatch], sink: BinaryIO) -> None:
    repeated = ["kind", "status", "detail", "sha256", "body"]
    limit = 2 * _GROUP_BYTES  # of a dictionary; behind it each body would be written again
    with pq.ParquetWriter(
        sink,
        EVIDENCE,
        compression="zstd",
        use_dictionary=repeated,
        dictionary_pagesize_limit=limit,
        write_statistics=["origin"],
    ) as writer:
        for batch in batches:
            writer.write_batch(batch)


def forget_host_files(path: str, lists: Blocklists, keys: UInt64s) -> None:
    """Takes out of a file of EVIDENCE whatever is of a listed host or URL, and the headers of some
    pairs.

    Args:
      keys: uint64[n], of these pairs.
    """
    names = pc.binary_join_element_wise(OF_KEY, key_column(keys), "")

    def stays(rows: pa.RecordBatch) -> pa.BooleanArray:
        nothing = pa.array([""] * len(rows)), np.zeros(len(rows), np.uint64)
        roots = pc.binary_join_element_wise(rows["origin"], "", "/")
        listed = [lists.match_pairs(urls, *nothing).is_valid() for urls in (roots, rows["url"])]
        return pc.invert(pc.or_(pc.is_in(rows["url"], names), pc.or_(*listed)))

    rows = read_rows(path, ["origin", "url"]).to_struct_array().combine_chunks()
    if not pc.all(stays(pa.RecordBatch.from_struct_array(rows))).as_py():
        left = (rows.filter(stays(rows)) for rows in _groups(path))
        write_atomically(path, lambda sink: _write(left, sink))


def _groups(path: str) -> Iterator[pa.RecordBatch]:
    with named(path), open_to_read(path) as source, pq.ParquetFile(source) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).combine_chunks().to_batches()


def read_host_files(path: str) -> Iterator[tuple[str, Iterable[Mapping[str, Any]]]]:
    """Yields the rows of each origin in a file of EVIDENCE, which anybody may have written. They
    are to be read before the next origin.

    Raises:
      BrokenInputError: it is damaged, or a body does not have its SHA-256.
    """
    if schema_of(path) != EVIDENCE:
        raise BrokenInputError(f"{path} is not evidence: it has other columns")
    for origin, rows in groupby(_rows_in(path), itemgetter("origin")):
        yield origin, islice(rows, _MOST_FILES)


def _rows_in(path: str) -> Iterator[Mapping[str, Any]]:
    for batch in read_columns(path, EVIDENCE, _LONGEST, READ_BYTES):
        for row in batch.to_pylist():
            body, sha256 = row["body"], row["sha256"]
            if None in (row["origin"], row["kind"], row["url"], row["read_at"]):
                raise BrokenInputError(f"{path} is not evidence: a row has no origin, URL or time")
            if sha256 != (None if body is None else sha256_of(body)):
                raise BrokenInputError(
                    f"{path} was changed: {row['url']} does not have its SHA-256, {sha256}"
                )
            yield row
