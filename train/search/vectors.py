"""All embeddings of an index, in the order of its rows, mapped from the files of its parts."""

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np

from alignset.train.errors import TrainingError
from alignset.train.search.index_files import IndexDocument, part_vectors

faiss: Any = typed_faiss  # its stubs lack much of what it has
_POPULATE_READ = 22  # MADV_POPULATE_READ, which Python has no name for
_MAPPED_BYTES = 4 << 30
_LIBC = ctypes.CDLL(None)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_NOT_NEAR = 2.0  # beyond any cosine of vectors of unit length
_BLOCK = 1 << 14  # rows that are turned to float32 at once: 42 MB of 640 dimensions


class Vectors:
    """float16[n, d] in pieces, of which rows are taken as float32.

    Half the bytes of float32 cost less than 0.001 of recall@10, and are what an exact search reads.
    """

    def __init__(self, pieces: list[np.ndarray], dimensions: int):
        self._pieces, self.dimensions = pieces, dimensions
        self._bytes = [piece.data.cast("B") for piece in pieces]
        self._ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)  # int64[parts]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def map_all(self) -> None:
        """Has the system map the pieces at once, up to _MAPPED_BYTES of them: else it maps them in
        steps of 16 pages during the first hundred searches, which then take half as long again.
        """
        left = _MAPPED_BYTES
        for piece in self._pieces:
            start = piece.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
            size = piece.ctypes.data + piece.nbytes - start
            left -= size
            # mmap.madvise would keep all other threads waiting where the file has to be read.
            if left < 0 or _LIBC.madvise(start, size, _POPULATE_READ):
                return  # Linux has it from 5.14 on

    def take(self, rows: np.ndarray) -> np.ndarray:
        """int64[m] -> float32[m, d]."""
        taken = np.empty((len(rows), self.dimensions), np.float32)
        for first in range(0, len(rows), _BLOCK):
            taken[first : first + _BLOCK] = self._halves(rows[first : first + _BLOCK])
        return taken

    def nearest(self, query: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of some rows, the nearest first: cosines, float32[up to k], and rows.

        faiss compares them as they are, 400 rows of 640 dimensions in 0.05 ms; numpy would take
        0.5 ms to turn them to float32.

        A row that is damaged, since a number of it is none, is not near.

        Args:
          query: float32[d], unit length.
          rows: int64[m].
        """
        if not len(rows):
            return np.empty(0, np.float32), np.empty(0, np.int64)
        kind = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexScalarQuantizer(self.dimensions, kind, faiss.METRIC_INNER_PRODUCT)
        index.add_sa_codes(self._halves(rows).view(np.uint8))
        scores, places = index.search(query[None], min(k, len(rows)))
        is_near = np.abs(scores[0]) < _NOT_NEAR
        ordered = best(scores[:, is_near], rows[places[:, is_near]], k)
        return ordered[0][0], ordered[1][0]

    def _halves(self, rows: np.ndarray) -> np.ndarray:
        """int64[m] -> float16[m, d]."""
        parts = np.searchsorted(self._ends, rows, side="right")  # int64[m]
        width = 2 * self.dimensions
        ends = width * (rows - self._ends[parts])  # from the end of each piece, so below 0
        # Row by row, since the rows of a search lie in nearly as many pieces as they are. numpy
        # would take a piece's in 4 us; so each takes 0.2.
        joined = b"".join(
            [
                self._bytes[part][end : end + width or None]
                for part, end in zip(parts.tolist(), ends.tolist(), strict=True)
            ]
        )
        return np.frombuffer(joined, np.float16).reshape(len(rows), self.dimensions)

    def blocks(self, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """(its first row, float32[up to 16,384, d]) of each block of rows, from a row on."""
        for piece, end in zip(self._pieces, self._ends.tolist(), strict=True):
            start = end - len(piece)
            for at in range(max(0, first - start), len(piece), _BLOCK):
                yield start + at, piece[at : at + _BLOCK].astype(np.float32)


def open_vectors(folder: Path, document: IndexDocument) -> Vectors:
    """The vectors of an index.

    Raises:
      TrainingError: a part is damaged, or has not as many rows as the index says.
    """
    pieces = []
    for name, rows in zip(document.parts, document.rows, strict=True):
        if not rows:
            continue
        piece = part_vectors(folder, name)
        right = piece.shape == (rows, document.dimensions) and piece.dtype == np.float16
        if not right or not piece.flags.c_contiguous:
            order = "" if piece.flags.c_contiguous else " by columns"
            raise TrainingError(
                f"{folder}/parts/{name}.npy holds {piece.dtype}{list(piece.shape)}{order} and not "
                f"float16[{rows}, {document.dimensions}]: the index is damaged, make it anew"
            )
        pieces.append(piece)
    return Vectors(pieces, document.dimensions)


def nearest_of_all(vectors: Vectors, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact k nearest rows of each query: float32[q, k] of cosines, int64[q, k] of rows.

    Where there are fewer rows than k, there are as many columns as rows. Rows that tie stand in
    their order.
    """
    k = min(k, len(vectors))
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for first, block in vectors.blocks():
        here = queries @ block.T  # float32[q, m]
        numbers = np.broadcast_to(np.arange(first, first + len(block)), here.shape)
        scores, rows = best(
            np.concatenate([scores, here], axis=1), np.concatenate([rows, numbers], axis=1), k
        )
    return scores, rows


def best(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of each line, in order: float32[q, m], int64[q, m] -> the same of [q, k]."""
    if scores.shape[1] > 4 * k:  # a sort of all would take most of the time
        kept = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, rows = (np.take_along_axis(each, kept, axis=1) for each in (scores, rows))
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
