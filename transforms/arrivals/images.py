"""The images of one shard as columns: which pairs share them, what each step finds of each, and its
file on local disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.records import RESPONSE
from alignset.transforms.images.examine import Image
from alignset.transforms.images.resize import plain_form
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.columns import HASHES


class SharedImages(NamedTuple):
    """The m images of n pairs.

    Fields:
      rows: int64[m], ascending: the pair by which each image is asked for, its first.
      of_pairs: int64[n], the image of each pair; null where none is asked for.
    """

    rows: npt.NDArray[np.int64]
    of_pairs: pa.Int64Array


def shared_images(pairs: pa.Table, to_fetch: Bools) -> SharedImages:
    """Which pairs share an image: those whose URLs have one identity.

    An image that is stored is its pair's own, since other tools store one for each. A pair without
    one shares the first that is stored for its URL, so that it is not fetched again.

    Args:
      pairs: columns url, and perhaps source_path and source_size: where a stored image is.
      to_fetch: bool[n], the pairs whose images are asked for.

    >>> pairs = pa.table({"url": ["http://a/1", "http://a/2", "HTTP://A/1#x"]})
    >>> images = shared_images(pairs, np.ones(3, np.bool_))
    >>> images.rows.tolist(), images.of_pairs.to_pylist()
    ([0, 1], [0, 1, 0])
    """
    identities = url_hashes(pairs["url"].combine_chunks())[0] if len(pairs) else np.zeros(0)
    of_pairs = np.full(len(pairs), -1, np.int64)
    stored = stored_rows(pairs)
    alone, sharing = (np.flatnonzero(to_fetch & mask) for mask in (stored, ~stored))
    # An image without bytes is missing in its shard, and no other pair is to suffer for it.
    with_bytes = alone[pairs["source_size"].to_numpy()[alone] > 0] if len(alone) else alone
    candidates = np.concatenate([with_bytes, sharing])
    _, first, image = np.unique(identities[candidates], return_index=True, return_inverse=True)
    homes = candidates[first][image[len(with_bytes) :]]
    rows = np.union1d(alone, homes)
    of_pairs[alone] = np.searchsorted(rows, alone)
    of_pairs[sharing] = np.searchsorted(rows, homes)
    return SharedImages(rows, pa.array(of_pairs, mask=of_pairs < 0))


def stored_rows(pairs: pa.Table) -> Bools:
    """Which pairs have a place of an image in a shard of the input: bool[n]."""
    if "source_path" not in pairs.column_names:
        return np.zeros(len(pairs), np.bool_)
    return pairs["source_path"].is_valid().to_numpy()


def input_hashes(pairs: pa.Table, verified: tuple[str, str] | None) -> pa.StringArray:
    """The hash that the file of each pair should have, in hex; null where the input has none:
    string[n]. Images that are stored in shards of the input may be resized, and have none.

    Args:
      verified: the hash function, and the carried column of the hashes; None compares nothing.
    """
    if not verified or CARRIED + verified[1] not in pairs.column_names:
        return pa.nulls(len(pairs), pa.string())
    texts = pairs[CARRIED + verified[1]].combine_chunks()
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    has_none = pc.or_(pc.equal(texts, "").fill_null(True), pa.array(stored_rows(pairs)))
    return pc.if_else(has_none, pa.scalar(None, pa.string()), texts)


def bad_hashes(hashes: pa.StringArray, verified: tuple[str, str] | None) -> pa.BooleanArray:
    """Which of some hashes cannot be: bool[n]."""
    pattern = f"^[0-9a-f]{{{HASHES[verified[0]] if verified else 0}}}$"
    return pc.invert(pc.match_substring_regex(hashes, pattern)).fill_null(False)


Span = tuple[int, int]  # where bytes begin in a spool, and how many there are

COLUMNS = {
    # Why it is dropped; nothing but `drop` writes these.
    "reason": pa.string(),
    "detail": pa.string(),
    # Facts of the file that came; `digest` by the input's hash function, where it has hashes.
    "original_width": pa.int32(),
    "original_height": pa.int32(),
    "sha256": pa.string(),
    "digest": pa.string(),
    "phash": pa.string(),
    # What its owner and its host state.
    "opted_out": pa.string(),
    "web_statement": pa.string(),
    "usage_terms": pa.string(),
    "opt_out_headers": pa.string(),
    "response": pa.struct(list(RESPONSE)),
    # What models and rules say; `failed_rule` is a rule of a user.
    "unsafe_score": pa.float64(),
    "failed_rule": pa.string(),
}
# Columns that do not go to pairs: the bytes and the format of the file that came; what `examine`
# said of a file that was put aside, where that is, and where its trimmed thumbnail is (THUMBNAILS
# of image_looks.py); its `Nearest` evaluation image; what another dataset knows of it (KnownImage),
# where that holds; how its file is encoded, where it is put aside as a shard keeps it; the boxes to
# be blurred; and the lines of its record of licence files that its pages name.
OBJECTS = (
    *("bytes", "format", "image", "file", "thumbnails", "nearest", "known", "encoded", "boxes"),
    "pages",
)


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
    """

    def __init__(self, size: int, folder: Path, measured: Iterable[str] = ()) -> None:
        self.types = COLUMNS | dict.fromkeys(measured, pa.float64())
        self._columns: dict[str, list[Any]] = {
            name: [None] * size for name in (*self.types, *OBJECTS)
        }
        self._size, self.spool = size, Spool(folder / "spool")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    @property
    def bytes_fetched(self) -> int:
        """Sum over all files that came."""
        return sum(filter(None, self["bytes"]))

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
        self.note(row, image=image, file=self.spool.put(body))

    def stored_file(self, row: int) -> tuple[bytes, Image]:
        """A file that was put aside, and what `examine` said of it."""
        return self.spool.get(self["file"][row]), self["image"][row]
