"""An index that is searched: its columns in memory, its vectors and thumbnails in mapped files."""

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.blocklist import FileMark, file_mark, taken_down_keys, taken_down_marks
from alignset.train.search.index_files import (
    DOCUMENT,
    IndexDocument,
    read_index,
    read_part,
    row_schema,
    vector_pieces,
)
from alignset.train.search.neighbours import (
    Neighbours,
    Vectors,
    make_faiss_index,
    read_faiss_index,
)
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
        self.vectors = Vectors(vector_pieces(table["vector"]), self.document.dimensions)
        if self.document.cells:
            index = read_faiss_index(folder / self.document.cells, self.vectors)
        else:
            index = make_faiss_index(self.vectors, self.document.factory)
        self.neighbours = Neighbours(self.vectors, index)
        self.phashes: np.ndarray = self.rows["phash"].to_numpy()
        self._present = _not_among(self.rows["key"], taken_down_keys(self.document.sets))
        self.pictures = len(self.rows) if self._present is None else int(self._present.sum())
        self.wanted = functools.lru_cache(_MASKS)(self._wanted)

    def changed(self) -> bool:
        """Whether the folder holds another index now, or more was taken down from its datasets;
        costs 2 microseconds, and as much a dataset."""
        marks = taken_down_marks(self.document.sets)
        return (file_mark(self.folder / DOCUMENT), marks) != self._mark

    def _wanted(self, filters: Filters) -> np.ndarray | None:
        """bool[n] of the rows that may be shown and pass the filters; None: all."""
        mask = filters.wanted(self.rows)
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
            raise SettingsError(f"the index has no picture {key[:80]!r}: give a key of a result")
        vector = self.vectors.take(np.array([row]))[0]
        return vector / np.linalg.norm(vector)

    def thumbnail(self, row: int) -> bytes:
        """The WebP of a row."""
        picture: bytes = self._thumbnails[row].as_py()
        return picture


def index_rows(folder: Path, document: IndexDocument) -> pa.Table:
    """All rows of an index, a chunk a part. Raises TrainingError where they are damaged."""
    empty = row_schema(document.dimensions).empty_table()
    parts = [read_part(folder, name)[0] for name in document.parts]
    try:
        rows = pa.concat_tables([empty, *parts])
    except pa.ArrowInvalid as error:
        raise TrainingError(
            f"a part in {str(folder)!r} has other columns: the index is damaged, make it anew"
        ) from error
    if len(rows) != document.rows:
        raise TrainingError(
            f"the parts in {str(folder)!r} hold {len(rows)} rows and not the {document.rows} of "
            "the index: it is damaged, make it anew"
        )
    return rows


def _not_among(keys: pa.ChunkedArray, gone: set[str]) -> np.ndarray | None:
    """bool[n] of the rows whose keys are not among these; None: all."""
    if not gone:
        return None
    present: np.ndarray = ~pc.is_in(keys, value_set=pa.array(gone, pa.string())).to_numpy()
    return None if present.all() else present
