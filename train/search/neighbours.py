"""The nearest rows of a query, without looking at all of them: faiss's inverted file of cells.

A query is compared with the centres of all cells, and then with the rows of the nearest ones
(`probes`), of which faiss holds a bit a dimension and two numbers (RaBitQ: Gao and Long, SIGMOD
2024, arXiv 2405.12497), or more bits where there are few dimensions. The best of these are compared
once more by their float16 vectors, which are mapped from the index's files.

All vectors are turned by one random rotation first. RaBitQ's bound on its error needs it: where the
axes are unequal, as those of trained towers are, fewer of the ten nearest are found without it.
"""

import math
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np

from alignset.train.errors import TrainingError
from alignset.train.search.index_files import publish
from alignset.train.search.vectors import Vectors, best, nearest_of_all

faiss: Any = typed_faiss  # its stubs lack much of what it has
Index = typed_faiss.IndexPreTransform
EXACT_ROWS = 20_000  # up to which all are looked at: 5 ms of 640 dimensions on one core
# Comparing a row by its own vector costs 1.1 us: as much as comparing so many rows of cells.
_ROWS_OF_CELLS = 24
_BLOCK_ROWS = 32  # that faiss compares at once
PROBES = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512)
RECALL = 0.96  # for which probes are chosen: the goal is 0.95, and a sample errs by 0.01
_TRAINING_ROWS_A_CELL = 40  # of a sample; faiss warns below 39
# Candidates a result, which are compared once more, and how many at least: of the ten nearest, 40
# candidates lost 0.01 of recall@10 and 100 lost 0.001.
_MORE, _LEAST = 3, 100


def kind_for(rows: int) -> str:
    """Which search so many rows get: "exact" or "cells"."""
    return "exact" if rows <= EXACT_ROWS else "cells"


def cells_for(rows: int) -> int:
    """How many cells: a power of two near 4 sqrt(rows), and rows enough to train them on."""
    most = max(1, rows // _TRAINING_ROWS_A_CELL)
    return min(1 << round(math.log2(4 * math.sqrt(rows))), 1 << int(math.log2(most)), 1 << 16)


def bits_for(dimensions: int) -> int:
    """Bits that a dimension of a row is held as, 1 to 8: a row has 256 bits at least, by which 100
    candidates hold the ten nearest. Of 64 dimensions one bit each found 0.68 of them."""
    return min(8, max(1, round(256 / dimensions)))


def train_cells(vectors: Vectors, seed: int = 0) -> Index:
    """An empty index whose cells are made of a sample of the rows."""
    d, rows = vectors.dimensions, len(vectors)
    cells = cells_for(rows)
    rotation, centres = faiss.RandomRotationMatrix(d, d), faiss.IndexFlatIP(d)
    rotation.init(1234 + seed)
    inverted = faiss.IndexIVFRaBitQFastScan(
        *(centres, d, cells, faiss.METRIC_INNER_PRODUCT, _BLOCK_ROWS, True, bits_for(d))
    )
    inverted.cp.niter, inverted.cp.seed = 8, 1234 + seed
    index = faiss.IndexPreTransform(rotation, inverted)
    count = min(rows, max(_TRAINING_ROWS_A_CELL * cells, 10_000))
    sample = np.random.default_rng(seed).choice(rows, count, replace=False)
    index.train(vectors.take(np.sort(sample)))
    # Python would free the parts, which the whole is told to own.
    for part, owner in ((centres, inverted), (inverted, index), (rotation, index)):
        part.this.disown()
        owner.own_fields = True
    return index


def add_rows(index: Index, vectors: Vectors) -> None:
    """Adds the rows that an index does not have yet."""
    for _, block in vectors.blocks(index.ntotal):
        index.add(block)


class Neighbours:
    """The nearest rows of a query, exactly or by an inverted file."""

    def __init__(self, vectors: Vectors, index: Index | None, probes: int = PROBES[0]):
        self.vectors, self.index, self.probes = vectors, index, probes
        self._cells = 0 if index is None else faiss.extract_index_ivf(index).nlist
        # All of a small index, since taking them from their files for each query would take longer.
        self._all = None if index is not None else _all_of(vectors)  # float32[n, d]

    def nearest(
        self, query: np.ndarray, k: int, wanted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows, the nearest first.

        Args:
          query: float32[d], unit length.
          wanted: bool[n], the rows that may be found; None: all.

        Returns:
          float32[m] of cosines and int64[m] of rows, m <= k.
        """
        if self.index is None:
            return self._among(query, k, None if wanted is None else np.flatnonzero(wanted))
        probes, fitting, parameters = self.probes, len(self.vectors), {}
        if wanted is not None:
            fitting = int(np.count_nonzero(wanted))
            # Fewer rows of each cell are wanted: more cells are looked into, all for few rows.
            probes = min(self._cells, math.ceil(probes * len(wanted) / max(1, fitting)))
            in_cells = len(wanted) * probes / self._cells
            if fitting <= EXACT_ROWS and _ROWS_OF_CELLS * fitting <= in_cells:
                return self._among(query, k, np.flatnonzero(wanted))
            bits = np.packbits(wanted, bitorder="little")
            parameters["sel"] = faiss.IDSelectorBitmap(bits)
        # Those behind the first hundred lie in cells further off.
        probes = max(probes, math.ceil(probes * math.sqrt(k / 100)))
        count = max(_MORE * k, _LEAST)
        # What passes a filter may lie far off all together: then all cells are looked into.
        for nprobe in (probes, self._cells):
            cells = faiss.SearchParametersIVF(nprobe=min(nprobe, self._cells), **parameters)
            search = faiss.SearchParametersPreTransform(index_params=cells)
            candidates = self.index.search(query[None], count, params=search)[1][0]
            candidates = candidates[(candidates >= 0) & (candidates < len(self.vectors))]
            if len(candidates) >= min(k, fitting):
                break
        return self._among(query, k, candidates)

    def _among(
        self, query: np.ndarray, k: int, rows: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same of some rows, by their own vectors; None: of all, which are in memory."""
        if self._all is None:
            assert rows is not None
            return self.vectors.nearest(query, rows, k)
        scores = self._all @ query
        if rows is None:
            rows = np.arange(len(scores))
        else:
            scores = scores[rows]
        if not len(rows):
            return scores, rows
        ordered = best(scores[None], rows[None], min(k, len(rows)))
        return ordered[0][0], ordered[1][0]


def _all_of(vectors: Vectors) -> np.ndarray:
    """float32[n, d]."""
    return np.concatenate(
        [np.empty((0, vectors.dimensions), np.float32), *(block for _, block in vectors.blocks())]
    )


def choose_probes(vectors: Vectors, index: Index, queries: np.ndarray) -> tuple[int, float]:
    """The fewest probes with a recall@10 of RECALL, or the most, and their recall@10.

    Args:
      queries: float32[q, d], unit length.
    """
    right = nearest_of_all(vectors, queries, 10)[1]
    recall, probes = 0.0, 0
    for probes in PROBES:
        recall = recall_at_10(Neighbours(vectors, index, probes), queries, right)
        if recall >= RECALL:
            break
    return probes, recall


def recall_at_10(neighbours: Neighbours, queries: np.ndarray, right: np.ndarray) -> float:
    """How many of the exact ten nearest are among the ten found, 0 to 1, over all queries.

    Args:
      queries: float32[q, d]. right: int64[q, up to 10].
    """
    hits = sum(
        len(np.intersect1d(neighbours.nearest(query, 10)[1], rows))
        for query, rows in zip(queries, right, strict=True)
    )
    return hits / right.size


def write_neighbours(path: Path, index: Index) -> None:
    publish(path, lambda file: faiss.write_index(index, faiss.PyCallbackIOWriter(file.write)))


def read_neighbours(path: Path, vectors: Vectors, rows: int) -> Index:
    """The index in a file. Raises TrainingError where it is not one of so many rows.

    Args:
      vectors: of its rows, and maybe of more.
    """
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2].strip()
        raise TrainingError(
            f"{path} cannot be read ({reason:.120}): the index is damaged, make it anew"
        ) from error
    inner = faiss.downcast_index(index.index) if isinstance(index, Index) else None
    is_whole = isinstance(inner, faiss.IndexIVFRaBitQFastScan) and inner.ntotal == rows
    if not is_whole or index.d != vectors.dimensions:
        raise TrainingError(
            f"{path} does not hold the {rows} rows of the index: it is damaged, make it anew"
        )
    return index
