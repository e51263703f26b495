"""The images of one shard as columns: what each step finds of each, and its file on local disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from alignset.transforms.images.examine import Image
from alignset.transforms.images.resize import plain_form

Span = tuple[int, int]  # where bytes begin in a spool, and how many there are

# One row a kept pair whose image was fetched. Apart from the shard's other files: its times differ
# from run to run.
RESPONSES = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("final_url", pa.string()),
        ("status", pa.int16()),
        ("date", pa.timestamp("ms", "UTC")),
        ("content_type", pa.string()),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
    ]
)
COLUMNS = {
    # Why it is dropped; nothing but `drop` writes these.
    "reason": pa.string(),
    "detail": pa.string(),
    # Of the file that came; `digest` by the hash function of the input, where it has hashes.
    "original_width": pa.int32(),
    "original_height": pa.int32(),
    "sha256": pa.string(),
    "digest": pa.string(),
    "phash": pa.string(),
    # What its owner and its host state.
    "opted_out": pa.string(),
    "web_statement": pa.string(),
    "usage_terms": pa.string(),
    "response": pa.struct([RESPONSES.field(at) for at in range(2, len(RESPONSES))]),
    # What models and rules say; `failed_rule` is a rule of a user.
    "unsafe_score": pa.float64(),
    "failed_rule": pa.string(),
}
# Of no file: what `examine` said of each whose file was put aside, where that is, and where its
# trimmed thumbnail is (PLANES of looks.py); its `Nearest` evaluation image.
OBJECTS = ("image", "file", "planes", "nearest")


class Spool:
    """Bytes put aside on local disk, so that a shard's images never fill the memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=1 << 22)  # few calls into the kernel
        self._size = 0
        self._lock = Lock()

    def put(self, body: bytes) -> Span:
        """Appends bytes; returns their span, to be given to `get`. For all threads."""
        with self._lock:
            self._file.write(body)
            self._size += len(body)
            return self._size - len(body), len(body)

    def get(self, span: Span) -> bytes:
        """The bytes of a span."""
        self._file.flush()
        return os.pread(self._file.fileno(), span[1], span[0])  # `put` goes on where it was

    def close(self) -> None:
        self._file.close()


class Images:
    """The m images of a shard. Threads fill the columns, each in rows of its own.

    Args:
      folder: of this attempt at the shard, for the files.
      measured: the columns of what rules of users measure.

    Attributes:
      bytes_fetched: of all files that came.
    """

    def __init__(self, size: int, folder: Path, measured: Iterable[str] = ()) -> None:
        self.types = COLUMNS | dict.fromkeys(measured, pa.float64())
        self._columns: dict[str, list[Any]] = {
            name: [None] * size for name in (*self.types, *OBJECTS)
        }
        self._size, self.spool, self.bytes_fetched = size, Spool(folder / "spool"), 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def note(self, row: int, **values: Any) -> None:
        """Writes values of an image into columns."""
        for name, value in values.items():
            self._columns[name][row] = value

    def drop(self, row: int, reason: str, detail: str | None = None) -> None:
        """Says why an image is dropped, unless that was said before."""
        if self["reason"][row] is None:
            self.note(row, reason=reason, detail=detail)

    def put(self, row: int, body: bytes, image: Image) -> None:
        """Puts the file of an image aside: as it came, or as a PNG where others may not read it
        and `image` has what is shown."""
        body, image = plain_form(body, image)
        self.note(row, image=image, phash=f"{image.phash:016x}", file=self.spool.put(body))

    def stored_file(self, row: int) -> tuple[bytes, Image]:
        """A file that was put aside, and what `examine` said of it."""
        return self.spool.get(self["file"][row]), self["image"][row]
