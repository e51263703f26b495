"""An index that is searched: its rows in memory, its vectors and thumbnails in mapped files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.filters import Filters
from alignset.train.search.index_files import (
    FORMAT,
    THUMBNAILS_PER_GROUP,
    IndexDocument,
    part_rows,
    part_thumbnails,
    read_index,
)
from alignset.train.search.neighbours import Neighbours, read_neighbours
from alignset.train.search.part_builder import key_hash
from alignset.train.search.taken_down import Mark, mark_of, marks_of, taken_keys
from alignset.train.search.vectors import open_vectors

_COLUMNS = ("key", "key_hash", "caption", "url", "host", "width", "height", "unsafe_score", "phash")
_DOCUMENT = "index.json"  # each change writes it anew
_MASKS, _FILES = 32, 64  # filters and files that are kept ready


class OpenedIndex:
    """Finds rows, and tells what they are. Several threads may use it at once.

    Attributes:
      mark: tells this state of the folder, and of what was taken down, from later ones.
      rows: a table of the columns above, n rows.
      pictures: how many of them were not taken down; of the others nothing is given out.
      phashes: uint64[n], perceptual hashes.
    """

    def __init__(self, folder: Path):
        """Raises SettingsError where there is no index, TrainingError where it is damaged."""
        of_index = mark_of(folder / _DOCUMENT)  # before it is read
        self.folder, self.document = folder, read_index(folder)
        self.mark = of_index, marks_of(self.document.sets)
        self.rows = _all_rows(folder, self.document)
        self._left = _not_taken(self.rows, taken_keys(self.document.sets))
        self.pictures = len(self.rows) if self._left is None else int(self._left.sum())
        vectors = open_vectors(folder, self.document)
        name = self.document.neighbours
        if name and self.document.format != FORMAT:
            raise SettingsError(
                f"the cells of {str(folder)!r} are of an earlier version of alignset: the command "
                "`index`, given again, makes them anew"
            )
        index = read_neighbours(folder / name, vectors, len(vectors)) if name else None
        self.neighbours = Neighbours(vectors, index, self.document.settings.get("probes", 1))
        self.vectors = vectors
        self._starts = np.cumsum([0, *self.document.rows])
        self.phashes: np.ndarray = self.rows["phash"].to_numpy()  # uint64[n]
        hashes = self.rows["key_hash"].to_numpy()
        self._by_hash = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._by_hash]
        self._masks: OrderedDict[Filters, np.ndarray | None] = OrderedDict()
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def wanted(self, filters: Filters) -> np.ndarray | None:
        """bool[n] of the rows that may be given out and the filters let through; None: all."""
        with self._lock:
            if filters in self._masks:
                self._masks.move_to_end(filters)
                return self._masks[filters]
        mask = filters.wanted(self.rows)
        if self._left is not None:
            mask = self._left if mask is None else mask & self._left
        with self._lock:
            self._masks[filters] = mask
            while len(self._masks) > _MASKS:
                self._masks.popitem(last=False)
        return mask

    def row_of(self, key: str) -> int | None:
        """The row of a key, or None where the index has no such key, or it was taken down."""
        wanted = np.uint64(key_hash(key))
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            row = int(self._by_hash[at])
            if self.rows["key"][row].as_py() == key:
                return row if self._left is None or self._left[row] else None
            at += 1
        return None

    def vector_of(self, key: str) -> np.ndarray:
        """float32[d], unit length. Raises SettingsError where the index has no such key."""
        row = self.row_of(key)
        if row is None:
            raise SettingsError(f"the index has no picture {key[:80]!r}: give a key of a result")
        vector = self.vectors.take(np.array([row]))[0]
        return vector / np.linalg.norm(vector)

    def thumbnail(self, row: int) -> bytes:
        """The WebP of a row."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        group, place = divmod(row - int(self._starts[part]), THUMBNAILS_PER_GROUP)
        with self._lock:  # a Parquet file is read by one thread at a time
            file = self._file(self.document.parts[part])
            try:
                column = file.read_row_group(group, ["thumbnail"])["thumbnail"]
            except (OSError, pa.ArrowInvalid) as error:
                raise TrainingError(f"the index is damaged ({error}): make it anew") from error
        picture: bytes = column[place].as_py()
        return picture

    def _file(self, name: str) -> pq.ParquetFile:
        if name not in self._files:
            self._files[name] = part_thumbnails(self.folder, name)
            while len(self._files) > _FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(name)
        return self._files[name]


def changed(index: OpenedIndex) -> bool:
    """Whether its folder holds another index than was opened, or more was taken down from its sets;
    costs 2 microseconds, and as much a set."""
    now: tuple[Mark, tuple[Mark, ...]] = (
        mark_of(index.folder / _DOCUMENT),
        marks_of(index.document.sets),
    )
    return now != index.mark


def _not_taken(rows: pa.Table, taken: set[str]) -> np.ndarray | None:
    """bool[n] of the rows whose keys are not among these; None: all."""
    if not taken:
        return None
    gone = pc.is_in(rows["key"], value_set=pa.array(taken, pa.string()))
    left: np.ndarray = ~gone.to_numpy()
    return None if left.all() else left


def _all_rows(folder: Path, document: IndexDocument) -> pa.Table:
    tables = []
    for name, rows in zip(document.parts, document.rows, strict=True):
        table = part_rows(folder, name, list(_COLUMNS))
        if len(table) != rows:
            raise TrainingError(
                f"{folder}/parts/{name}.parquet has {len(table)} rows and not {rows}: the index "
                "is damaged, make it anew"
            )
        tables.append(table)
    # In one piece: a row of many pieces is looked for piece by piece.
    return pa.concat_tables(tables).combine_chunks()
