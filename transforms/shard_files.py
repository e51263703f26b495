"""The files of one shard: tar, Parquet and stats, with the same bytes for the same pairs."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

# img2dataset's columns, then ours.
SHARD_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("unsafe_score", pa.float32()),
        ("evaluation_distance", pa.int32()),
    ]
)
_METADATA = SHARD_SCHEMA.names[: SHARD_SCHEMA.names.index("phash") + 1]
_BLOCK = tarfile.BLOCKSIZE


class TarWriter:
    """A tar of samples whose bytes depend on the samples alone: no clock, no user, no umask.

    Args:
      sink: a file open for writing.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._sha256 = hashlib.sha256()
        self._size = 0

    def add(self, name: str, body: bytes) -> None:
        """Appends one file."""
        info = tarfile.TarInfo(name)
        info.size = len(body)
        info.mode = 0o444
        header = info.tobuf(tarfile.USTAR_FORMAT)
        self._write(header + body + b"\0" * (-len(body) % _BLOCK))

    def add_sample(self, row: Mapping[str, Any], body: bytes, extension: str) -> None:
        """Appends an image, its alt-text and its metadata; `row` has SHARD_SCHEMA's columns."""
        key = row["key"]
        self.add(f"{key}.{extension}", body)
        self.add(f"{key}.json", json.dumps({n: row[n] for n in _METADATA}).encode())
        self.add(f"{key}.txt", row["caption"].encode())

    def finish(self) -> str:
        """Ends the tar; returns the SHA-256 of all its bytes, in hex."""
        self._write(b"\0" * (2 * _BLOCK))
        self._write(b"\0" * (-self._size % tarfile.RECORDSIZE))
        return self._sha256.hexdigest()

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._sha256.update(data)
        self._size += len(data)


class Spool:
    """Bytes put aside on local disk, so that a shard's images never fill the memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._size = 0

    def put(self, body: bytes) -> tuple[int, int]:
        """Appends bytes; returns their place, to be given to `get`."""
        self._file.write(body)
        self._size += len(body)
        return self._size - len(body), len(body)

    def get(self, place: tuple[int, int]) -> bytes:
        """The bytes at a place."""
        self._file.flush()
        return os.pread(self._file.fileno(), place[1], place[0])  # `put` goes on where it was

    def close(self) -> None:
        self._file.close()
