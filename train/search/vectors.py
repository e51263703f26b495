"""All embeddings of an index, in the order of its rows, mapped from the files of its parts."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from train.errors import TrainingError
from train.search.index_files import IndexDocument, part_vectors

_BLOCK = 1 << 14  # rows that are turned to float32 at once: 42 MB of 640 dimensions


class Vectors:
    """float16[n, d] in pieces, of which rows are taken as float32.

    Half the bytes of float32 cost less than 0.001 of recall@10, and are what an exact search reads.
    """

    def __init__(self, pieces: list[np.ndarray], dimensions: int):
        # As plain arrays, still mapped: numpy takes rows of its class for maps in twice the time.
        self._pieces, self.dimensions = [np.asarray(piece) for piece in pieces], dimensions
        self._ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)  # int64[parts]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, rows: np.ndarray) -> np.ndarray:
        """int64[m] -> float32[m, d]."""
        taken = np.empty((len(rows), self.dimensions), np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        parts = np.searchsorted(self._ends, ordered, side="right")  # int64[m]
        bounds = np.flatnonzero(np.diff(parts, prepend=-1, append=len(self._ends))).tolist()
        for first, end in pairwise(bounds):
            part = parts[first]
            piece = self._pieces[part]
            taken[order[first:end]] = piece[ordered[first:end] - (self._ends[part] - len(piece))]
        return taken

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
        if piece.shape != (rows, document.dimensions) or piece.dtype != np.float16:
            raise TrainingError(
                f"{folder}/parts/{name}.npy holds {piece.dtype}{list(piece.shape)} and not "
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
