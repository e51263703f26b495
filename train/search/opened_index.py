"""An index that is searched: its columns and vectors in memory, its thumbnails in mapped files."""

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.train.errors import SettingsError
from alignset.train.search.blocklist import FileMark, file_mark, taken_down_keys, taken_down_marks
from alignset.train.search.index_files import DOCUMENT, index_rows, read_index
from alignset.train.search.neighbours import Neighbours, read_faiss_index
from alignset.train.search.query import Filters

_MASKS = 32  # filters whose rows are kept ready
_COLUMNS = ("key", "caption", "url", "host", "width", "height", "unsafe_score", "phash")
IndexMark = tuple[FileMark, tuple[FileMark, ...]]


class OpenedIndex:
    """Finds rows and shows what they hold. Several threads may use it at once.

    Attributes:
      rows: a table of the columns above, n rows.
      pictures: how many of them were not taken down; the others are never shown.
      phashes: uint64[n], perceptual hashes.
    """

    def __init__(self, folder: Path):
        """Raises SettingsError where there is no index, TrainingError where it is damaged."""
        of_document = file_mark(folder / DOCUMENT)  # before it is read
        self.folder, self.document = folder, read_index(folder)
        self._mark: IndexMark = of_document, taken_down_marks(self.document.sets)
        table = index_rows(folder, self.document)
        # In one piece: strings of many pieces are copied together for each search.
        self.rows = table.select(_COLUMNS).combine_chunks()
        self._thumbnails = table["thumbnail"]
        path = self.document.vectors_path(folder)
        self.neighbours = Neighbours(read_faiss_index(path, self.document))
        self.phashes: np.ndarray = self.rows["phash"].to_numpy()
        self._present = _not_among(self.rows["key"], taken_down_keys(self.document.sets))
        self.pictures = len(self.rows) if self._present is None else int(self._present.sum())
        self.row_mask = functools.lru_cache(_MASKS)(self._row_mask)

    def has_changed(self) -> bool:
        """Whether the folder holds another index now, or more was taken down from its datasets;
        costs 2 microseconds, and as much a dataset."""
        marks = taken_down_marks(self.document.sets)
        return (file_mark(self.folder / DOCUMENT), marks) != self._mark

    def _row_mask(self, filters: Filters) -> np.ndarray | None:
        """bool[n] of the rows that may be shown and pass the filters; None: all."""
        mask = filters.row_mask(self.rows)
        if mask is None or self._present is None:
            return self._present if mask is None else mask
        return mask & self._present

    def row_of(self, key: str) -> int | None:
        """The row of a key; None where the index has none, or it was taken down."""
        row = int(pc.index(self.rows["key"], key).as_py())  # 3 ms of a million
        present = row >= 0 and (self._present is None or self._present[row])
        return row if present else None

    def vector_of(self, key: str) -> np.ndarray:
        """float32[d], unit length. Raises SettingsError where the index has no such key."""
        row = self.row_of(key)
        if row is None:
            raise SettingsError(f"the index has no image {key[:80]!r}: give a key of a result")
        vector = self.neighbours.vectors_of(np.array([row]))[0]
        return vector / np.linalg.norm(vector)

    def thumbnail(self, row: int) -> bytes:
        """The WebP of a row."""
        picture: bytes = self._thumbnails[row].as_py()
        return picture


def _not_among(keys: pa.ChunkedArray, removed_keys: set[str]) -> np.ndarray | None:
    """bool[n] of the rows whose keys are not among these; None: all."""
    if not removed_keys:
        return None
    present: np.ndarray = ~pc.is_in(keys, value_set=pa.array(removed_keys, pa.string())).to_numpy()
    return None if present.all() else present
