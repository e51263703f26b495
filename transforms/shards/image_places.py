"""Images in files that are not this dataset's own: in tars of the input, or in a folder of another
tool."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.storage.broken_files import broken_file
from alignset.transforms.storage.files import open_to_read
from alignset.transforms.storage.parquet_files import read_rows

COLUMNS = ("source_path", "source_at", "source_size")
_PLACED = ["key", "name", "tar", *COLUMNS]
MAX_BYTES = 1 << 26  # of an image that is shown or compared
SPARSE_OR_LINK = -1  # in place of where an image is in its tar
# By this process. Another's, in a dataset of somebody else, may name any file or address.
_WRITTEN = set[str]()


def stored_bodies(pairs: pa.Table, max_bytes: int) -> Iterator[Fetched]:
    """The images of pairs that come from shards, read from where they are.

    Args:
      pairs: columns source_path (string or binary), source_at and source_size (int64: place in the
        file, or SPARSE_OR_LINK).
      max_bytes: longer files are not read, and are `too_large`. Missing ones are `input_gone`.
    """
    rows = pairs.select(COLUMNS)
    order = pc.sort_indices(rows, [("source_path", "ascending"), ("source_at", "ascending")])
    path, source = None, None
    try:
        for index in order.to_pylist():
            row = rows.slice(index, 1).to_pylist()[0]
            if row["source_at"] == SPARSE_OR_LINK:
                yield Fetched(index, None, "sparse_or_link")
                continue
            if row["source_size"] > max_bytes:
                yield Fetched(index, None, "too_large")
                continue
            try:
                if source is None or row["source_path"] != path:
                    if source is not None:
                        source.close()
                    path = row["source_path"]
                    source = open_to_read(os.fsdecode(path))
                source.seek(row["source_at"])
                body = source.read(row["source_size"])
            except Exception as error:
                if broken_file(os.fsdecode(row["source_path"]), error) is None:
                    raise
                body = b""
            whole = len(body) == row["source_size"]
            yield Fetched(index, body, None) if whole else Fetched(index, None, "input_gone")
    finally:
        if source is not None:
            source.close()


def write_places(pairs: pa.Table, tar: str) -> None:
    """Writes where the images of a shard lie, in place of its tar.

    Args:
      pairs: columns key (16 hex digits), name (of the sample, binary), tar (which of the tars
        behind each other it is in, -1: none) and COLUMNS.
    """
    pq.write_table(pairs.select(_PLACED), _path(tar), compression="zstd")
    _WRITTEN.add(_path(tar))


def read_places(tar: str) -> pa.Table | None:
    """The places that this process wrote by `write_places` in place of a tar; None of any other."""
    path = _path(tar)
    return read_rows(path, _PLACED) if path in _WRITTEN else None


def placed_images(
    places: pa.Table, wanted_keys: Container[int] | None = None
) -> Iterator[tuple[str, bytes]]:
    """The images at some places, by the keys of their pairs; all where none are wanted."""
    if wanted_keys is not None:
        keys = places["key"].to_pylist()
        places = places.filter(pa.array([int(key, 16) in wanted_keys for key in keys], pa.bool_()))
    keys = places["key"].to_pylist()
    for arrival in stored_bodies(places, MAX_BYTES):
        if arrival.body:
            yield keys[arrival.index], arrival.body


def _path(tar: str) -> str:
    return tar.removesuffix(".tar") + ".places"
