"""The nearest rows of a query, by what faiss's index_factory makes.

Up to EXACT_ROWS all rows are compared. Of more, faiss sorts rows into cells (an inverted file) with
a byte a dimension, and compares those of the nearest cells. The best candidates are compared once
more by their vectors in half precision, which are mapped from the index's files.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np

from alignset.train.errors import TrainingError
from alignset.train.search.index_files import publish

faiss: Any = typed_faiss  # its stubs lack much of what it has
EXACT_ROWS = 50_000  # 7 CPU-ms of 640 dimensions
_ROWS_A_CELL = 40  # to train a cell on; faiss warns below 39
CELL_SHARE = 1 / 16  # of the cells are searched for a query
_MORE = 2  # candidates a result, whose bytes are then compared by their vectors
_BLOCK = 1 << 14  # rows that are turned to float32 at once: 42 MB of 640 dimensions
_QUERIES = 200  # that recall is measured by


class Vectors:
    """float16[n, d] in pieces, of which rows are taken as float32."""

    def __init__(self, pieces: list[np.ndarray], dimensions: int):
        self._pieces, self.dimensions = pieces, dimensions
        self._ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)  # int64[pieces]

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, rows: np.ndarray) -> np.ndarray:
        """int64[m] -> float32[m, d]."""
        vectors = np.empty((len(rows), self.dimensions), np.float32)
        pieces = np.searchsorted(self._ends, rows, side="right")  # int64[m]
        for number in np.unique(pieces).tolist():
            piece, here = self._pieces[number], pieces == number
            vectors[here] = piece[rows[here] - (self._ends[number] - len(piece))]
        return vectors

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in their order, as float32[up to 16,384, d]."""
        for piece in self._pieces:
            for first in range(0, len(piece), _BLOCK):
                yield piece[first : first + _BLOCK].astype(np.float32)


def factory_for(rows: int) -> str:
    """faiss's name of the index that so many rows get."""
    if rows <= EXACT_ROWS:
        return "SQfp16"
    cells = min(1 << round(math.log2(4 * math.sqrt(rows))), max(1, rows // _ROWS_A_CELL))
    return f"IVF{cells},SQ8"


def make_faiss_index(vectors: Vectors, factory: str) -> Any:
    """faiss's index of all rows."""
    index = faiss.index_factory(vectors.dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        count = min(len(vectors), _ROWS_A_CELL * index.nlist)
        sample = np.random.default_rng(0).choice(len(vectors), count, replace=False)
        index.train(vectors.take(np.sort(sample)))
    for block in vectors.blocks():
        index.add(block)
    return index


class Neighbours:
    """Finds the nearest rows of a query. Several threads may use it at once."""

    def __init__(self, vectors: Vectors, index: Any, cell_share: float = CELL_SHARE):
        self._vectors, self._index, self._cell_share = vectors, index, cell_share
        self._cells: int = getattr(index, "nlist", 0)  # 0: all rows are compared

    def nearest(
        self, query: np.ndarray, k: int, wanted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows, the nearest first; fewer where fewer may be found.

        Args:
          query: float32[d], unit length.
          wanted: bool[n], the rows that may be found; None: all.

        Returns:
          float32[m] of cosines and int64[m] of rows.
        """
        total = fitting = len(self._vectors)
        options: dict[str, Any] = {}
        if wanted is not None:
            fitting = int(np.count_nonzero(wanted))
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(wanted, bitorder="little"))
        k = min(k, fitting)
        if not k:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        # Fewer rows of each cell are wanted: more cells are searched.
        probes = min(self._cells, math.ceil(self._cells * self._cell_share * total / fitting))
        for nprobe in (probes, self._cells):
            parameters = faiss.SearchParameters(**options)
            if self._cells:
                parameters = faiss.SearchParametersIVF(nprobe=nprobe, **options)
            candidates = self._index.search(query[None], _MORE * k, params=parameters)[1][0]
            candidates = candidates[(candidates >= 0) & (candidates < total)]
            # What passes a filter may lie far off all together: then all cells are searched.
            if len(candidates) >= k:
                break
        scores = self._vectors.take(candidates) @ query
        order = np.lexsort((candidates, -scores))[:k]
        return scores[order], candidates[order]


def measured_recall(vectors: Vectors, index: Any) -> float:
    """The share of the ten nearest of all cells that a search finds, for rows of the index."""
    random = np.random.default_rng(0)
    sample = random.choice(len(vectors), min(_QUERIES, len(vectors)), replace=False)
    some, every = Neighbours(vectors, index), Neighbours(vectors, index, cell_share=1.0)
    near = [(some.nearest(q, 10)[1], every.nearest(q, 10)[1]) for q in vectors.take(sample)]
    return sum(len(np.intersect1d(*pair)) for pair in near) / sum(len(of) for _, of in near)


def write_faiss_index(path: Path, index: Any) -> None:
    publish(path, lambda file: faiss.write_index(index, faiss.PyCallbackIOWriter(file.write)))


def read_faiss_index(path: Path, vectors: Vectors) -> Any:
    """The index in a file. Raises TrainingError where it is not one of these vectors."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2].strip()
        raise TrainingError(
            f"{path} cannot be read ({reason:.120}): the index is damaged, make it anew"
        ) from error
    if (index.ntotal, index.d) != (len(vectors), vectors.dimensions):
        raise TrainingError(
            f"{path} does not hold the {len(vectors)} rows of the index: it is damaged, make it "
            "anew"
        )
    return index
