"""The images of one shard: what is known of each, by its row, and its file on local disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa

from alignset.transforms.images.examine import Image
from alignset.transforms.images.resize import plain_form
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.verdicts import numbers_of, size_rows
from alignset.transforms.shards.shard_settings import ShardSettings

Place = tuple[int, int]  # where bytes begin in a spool, and how many there are
Size = tuple[int, int]  # px, width and height


class Spool:
    """Bytes put aside on local disk, so that a shard's images never fill the memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=1 << 22)  # few calls into the kernel
        self._size = 0
        self._lock = Lock()

    def put(self, body: bytes) -> Place:
        """Appends bytes; returns their place, to be given to `get`. For all threads."""
        with self._lock:
            self._file.write(body)
            self._size += len(body)
            return self._size - len(body), len(body)

    def get(self, place: Place) -> bytes:
        """The bytes at a place."""
        self._file.flush()
        return os.pread(self._file.fileno(), place[1], place[0])  # `put` goes on where it was

    def close(self) -> None:
        self._file.close()


class Verdicts:
    """Why each of n rows is dropped. Nothing but `drop` writes that.

    Attributes:
      reasons, details: of each row, None where there is none.
    """

    def __init__(self, size: int) -> None:
        self.reasons: list[str | None] = [None] * size
        self.details: list[str | None] = [None] * size

    def drop(self, row: int, reason: str, detail: str | None = None) -> None:
        """Says why a row is dropped, unless that was said before."""
        if self.reasons[row] is None:
            self.reasons[row], self.details[row] = reason, detail


class ShardImages(Verdicts):
    """State of the n images of a shard. Threads fill it, each in rows of its own.

    Args:
      folder: of this attempt at the shard, for the files.

    Attributes:
      settings: how they are judged.
      sizes: of each that is an image, as its file has it.
      looks: what `examine` said of each whose file was put aside; None of others.
      places: of these files.
      sha256: of each file that came, in hex; digests: by another hash function, where the input
        has such hashes.
      bytes_fetched: of all files that came.
      planes: places of the trimmed thumbnails by row, where descriptors are wanted.
    """

    def __init__(self, size: int, settings: ShardSettings, folder: Path) -> None:
        super().__init__(size)
        self.settings, self.spool = settings, Spool(folder / "spool")
        self.sizes: list[Size | None] = [None] * size
        self.looks: list[Image | None] = [None] * size
        self.places: list[Place] = [(0, 0)] * size
        self.sha256: list[str | None] = [None] * size
        self.digests: list[str | None] = [None] * size
        self.bytes_fetched = 0
        self.planes: dict[int, Place] = {}

    def __len__(self) -> int:
        return len(self.looks)

    def note_digest(self, row: int, body: bytes) -> bytes:
        """Notes what a file that came hashes to; returns its SHA-256."""
        digest = hashlib.sha256(body)
        self.sha256[row] = self.digests[row] = digest.hexdigest()
        input_hash = self.settings.rules.verified
        if input_hash and input_hash[0] != "sha256":
            self.digests[row] = hashlib.new(input_hash[0], body, usedforsecurity=False).hexdigest()
        return digest.digest()

    def put(self, row: int, body: bytes, image: Image) -> None:
        """Puts the file of an image aside: as it came, or as a PNG where others may not read it
        and `image` has what is shown."""
        body, self.looks[row] = plain_form(body, image)
        self.places[row] = self.spool.put(body)

    def stored_file(self, row: int) -> tuple[bytes, Image]:
        """A file that was put aside, and what `examine` said of it."""
        image = self.looks[row]
        assert image is not None
        return self.spool.get(self.places[row]), image


def rule_rows(
    sizes: Sequence[Size | None], measures: Mapping[str, pa.Array], columns: Sequence[str]
) -> Rows:
    """Values of n images, or of their pairs, that the rules of images judge.

    Args:
      measures: what was measured, by column. columns: of rules of users.
    """
    rows = size_rows([size and size[0] for size in sizes], [size and size[1] for size in sizes])
    for name in ("unsafe_score", "evaluation_distance", *columns):
        column = measures.get(name)
        rows[name] = np.full(len(sizes), np.nan) if column is None else numbers_of(column)
    return rows
