"""Images that lie in tars of the input."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.storage.files import open_to_read
from alignset.transforms.storage.shared_paths import input_fault

SOURCE = ("source_path", "source_at", "source_size")  # columns of pairs: where an image is stored
SPARSE_OR_LINK = -1  # in place of where an image is in its tar


def stored_bodies(pairs: pa.Table, max_bytes: int) -> Iterator[Fetched]:
    """The images of pairs that come from shards, read from where they are.

    Args:
      pairs: columns source_path (string or binary), source_at and source_size (int64: place in the
        file, or SPARSE_OR_LINK).
      max_bytes: longer files are not read, and are `too_large`. Missing ones are `input_gone`.
    """
    rows = pairs.select(SOURCE)
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
                if input_fault(os.fsdecode(row["source_path"]), error) is None:
                    raise
                body = b""
            is_whole = len(body) == row["source_size"]
            yield Fetched(index, body, None) if is_whole else Fetched(index, None, "input_gone")
    finally:
        if source is not None:
            source.close()
