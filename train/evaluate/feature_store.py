"""Embeddings on disk, by what they are of: a run that was cut off, and the next task, find them.

A store is a folder named by a model's digest, with two files that only grow: `keys`, a SHA-256 for
each row, and `rows`, float32. A row counts when both have it; what a kill left beyond is cut off.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from alignset.train.errors import SettingsError, TrainingError

KEY_BYTES = 32
NOT_FINITE = "the model's embeddings are not all finite numbers: it diverged, take an earlier one"
_PARTS = 1 << 14  # rows that are read at once where all are gone through


class FeatureStore:
    """The rows of one model and one kind, such as images.

    Several processes may write to a store at once; each sees what there was when it began, and what
    it added.

    Args:
      folder: of this model and kind; made where it is not there.
      width: of a row.

    Raises:
      SettingsError: the folder can't be written to.
    """

    def __init__(self, folder: Path, width: int):
        self.width, self._row_bytes = width, 4 * width
        self._keys, self._rows = folder / "keys", folder / "rows"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in (self._keys, self._rows):
                path.touch()
        except OSError as error:
            raise SettingsError(
                f"embeddings can't be kept in {folder} ({error.strerror}): name a folder that can "
                "be written to with --cache"
            ) from error
        with self._lock():
            count = self._cut()
        # The first 8 bytes of each key: of a million, two are equal once in 37 million stores.
        with self._keys.open("rb") as file:
            keys = (file.read(KEY_BYTES)[:8] for _ in range(count))
            self._row_of = {key: row for row, key in enumerate(keys)}

    def find(self, keys: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """int64[n]: the row of each key, -1 where it is not there."""
        return np.array([self._row_of.get(key[:8], -1) for key in keys], np.int64)

    def add(self, keys: Sequence[bytes], rows: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """int64[n]: the rows that these have from now on.

        Args:
          rows: float32[n, width].

        Raises:
          TrainingError: a number of them is not finite.
        """
        if not np.isfinite(rows).all():
            raise TrainingError(NOT_FINITE)
        with self._lock():
            count = self._cut()
            # Rows first: where a kill comes between, they count for nothing.
            for path, data in ((self._rows, rows.tobytes()), (self._keys, b"".join(keys))):
                with path.open("ab") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
        numbers = np.arange(count, count + len(keys))
        self._row_of |= {key[:8]: row for key, row in zip(keys, numbers.tolist(), strict=True)}
        return numbers

    def rows(self, numbers: npt.NDArray[np.int64]) -> "Features":
        """The embeddings of these rows, on disk."""
        return Features(self._rows, numbers, self.width)

    @contextmanager
    def _lock(self) -> Iterator[BinaryIO]:
        with self._keys.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _cut(self) -> int:
        """How many rows are whole, with nothing behind them. Only while it is locked."""
        count = min(
            self._keys.stat().st_size // KEY_BYTES, self._rows.stat().st_size // self._row_bytes
        )
        for path, size in ((self._keys, KEY_BYTES), (self._rows, self._row_bytes)):
            if path.stat().st_size > count * size:
                os.truncate(path, count * size)
        return count


class Features:
    """float32[n, width] that stay on disk; what is asked for is read.

    Attributes:
      numbers: int64[n], the row of the file that each is.
    """

    def __init__(self, path: Path, numbers: npt.NDArray[np.int64], width: int):
        self.numbers, self.width = numbers, width
        count = path.stat().st_size // (4 * width)
        self._path = path
        self._all = np.memmap(path, np.float32, "r", shape=(count, width)) if count else None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        numbers = self.numbers[rows]
        if self._all is None:
            return np.zeros((len(numbers), self.width), np.float32)
        return np.asarray(self._all[numbers])

    def take(self, rows: npt.NDArray[np.int64]) -> "Features":
        """Those of them, still on disk."""
        return Features(self._path, self.numbers[rows], self.width)

    def parts(self, size: int = _PARTS) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(first, float32[m, width]) of all, `size` at a time."""
        for first in range(0, len(self), size):
            yield first, self[first : first + size]
