"""An index that is searched: its columns and vectors in memory, its thumbnails in mapped files."""

import functools
import os
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.train.errors import SettingsError, counted
from alignset.train.search.index_files import DOCUMENT, read_index, read_parts
from alignset.train.search.neighbours import Neighbours, read_faiss_index
from alignset.train.search.pictures import dataset_keys, manifest_hash, manifest_of
from alignset.train.search.query import Filters

_MASKS = 32  # filters whose rows are kept ready
_COLUMNS = ("key", "caption", "url", "host", "width", "height", "unsafe_score", "phash")
FileMark = tuple[int, int, int] | None


class OpenedIndex:
    """Finds rows and shows what they hold. Several threads may use it at once.

    Attributes:
      rows: a table of the columns above, n rows.
      pictures: how many of them their datasets still have; the others are never shown.
      phashes: uint64[n], perceptual hashes.
      notes: lines on datasets that have changed since, or cannot be read here.
    """

    def __init__(self, folder: Path):
        """Raises SettingsError where there is no index, TrainingError where it is damaged."""
        of_document = _mark(folder / DOCUMENT)  # before it is read
        self.folder, self.document = folder, read_index(folder)
        self._marks = of_document, self._dataset_marks()
        parts = read_parts(folder, self.document)
        table = pa.concat_tables(parts)
        # In one piece: strings of many pieces are copied together for each search.
        self.rows = table.select(_COLUMNS).combine_chunks()
        self._thumbnails = table["thumbnail"]
        path = self.document.vectors_path(folder)
        self.neighbours = Neighbours(read_faiss_index(path, self.document))
        self.phashes: np.ndarray = self.rows["phash"].to_numpy()
        present, self.notes = self._present_rows(parts)
        self.pictures = int(present.sum())
        self._present = present if self.pictures < len(present) else None
        self.row_mask = functools.lru_cache(_MASKS)(self._row_mask)

    def has_changed(self) -> bool:
        """Whether the folder holds another index now, or a dataset of it has changed; costs 2
        microseconds, and as much a dataset."""
        return (_mark(self.folder / DOCUMENT), self._dataset_marks()) != self._marks

    def _dataset_marks(self) -> list[FileMark]:
        """A dataset's manifest is written last. Other tools' folders of shards have none."""
        return [_mark(manifest_of(of)) or _mark(Path(of)) for of in self.document.manifests]

    def _present_rows(self, parts: list[pa.Table]) -> tuple[np.ndarray, list[str]]:
        """bool[n], whether the sidecars of a row's dataset still have it; and the notes."""
        present = [np.ones(len(part), bool) for part in parts]
        notes = []
        folders = [os.path.dirname(place) for place in self.document.parts.values()]
        for folder in dict.fromkeys(filter(None, folders)):
            keys, gone = dataset_keys(folder), 0
            for number in [n for n, of in enumerate(folders) if of == folder and keys is not None]:
                part = parts[number]
                names = pc.replace_substring_regex(part["key"], "(?s)^.*/", "")
                is_gone = pc.and_not(part["in_sidecar"], pc.is_in(names, value_set=keys))
                present[number] = ~is_gone.to_numpy()
                gone += len(part) - int(present[number].sum())
            again = (
                f"alignset search index --model={shlex.quote(self.document.model)} "
                f"--data={shlex.quote(folder)} --index={shlex.quote(str(self.folder))}"
            )
            if keys is None:
                notes.append(
                    f"{folder}, which the index was made of, is not there: what was taken out of "
                    "it since is not left out"
                )
            elif gone or manifest_hash(folder) != self.document.manifests[folder]:
                left_out = f" ({counted(gone, 'image')} left out)" if gone else ""
                notes.append(f"the index is older than {folder}{left_out}: make it again: {again}")
        return np.concatenate(present), notes

    def _row_mask(self, filters: Filters) -> np.ndarray | None:
        """bool[n] of the rows that may be shown and pass the filters; None: all."""
        mask = filters.row_mask(self.rows)
        if mask is None or self._present is None:
            return self._present if mask is None else mask
        return mask & self._present

    def row_of(self, key: str) -> int | None:
        """The row of a key; None where the index has none, or its dataset no longer has it."""
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


def _mark(path: Path) -> FileMark:
    """Another one for each state of a file that is replaced as a whole; None: it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
