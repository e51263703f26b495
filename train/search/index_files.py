"""Files of an index's folder.

    rows.parquet         texts, sizes, thumbnails and embeddings; its metadata is the document
    vectors-HASH.faiss   faiss's index of all rows, named by a hash of the vectors

`rows.parquet` appears whole, when faiss's file is there. A command that was killed leaves the
former index, and perhaps a file that the next command deletes.

Up to EXACT_ROWS all rows are compared. Beyond, faiss sorts rows into cells (an inverted file), and
compares a query with the rows of the nearest cells. Both hold vectors in half precision.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError

FORMAT = 7
ROWS = "rows.parquet"
OLDER = "index.json"  # of an index of an older version, beside its folder "parts"
DOCUMENT = b"index"  # of the metadata
faiss: Any = typed_faiss  # its stubs lack much of what it has
EXACT_ROWS = 50_000  # 7 CPU-ms of 640 dimensions
_ROWS_A_CELL = 40  # to train a cell on; faiss warns below 39
_ROWS_ADDED = 1 << 14  # at once, since faiss takes them in single precision
CELL_SHARE = 1 / 10  # of the cells are searched for a query
_QUERIES = 200  # that recall is measured by


def row_schema(dimensions: int) -> pa.Schema:
    """The columns of the rows."""
    columns = {
        "key": pa.string(),
        "caption": pa.string(),
        "url": pa.string(),  # empty: unknown
        "host": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "unsafe_score": pa.float32(),  # null: not scored
        "phash": pa.uint64(),
        "in_sidecar": pa.bool_(),  # whether the table beside its shard named it
        "thumbnail": pa.binary(),  # WebP
        "vector": pa.list_(pa.float16(), dimensions),  # of unit length
    }
    return pa.schema(
        [pa.field(name, kind, nullable=name == "unsafe_score") for name, kind in columns.items()]
    )


@dataclass(frozen=True)
class IndexDocument:
    """Facts about an index.

    Attributes:
      model, digest: the name it was given by, and the hash of its weights and preprocessing.
      dimensions: of its embeddings.
      sources: how many rows there are of each shard, or of a folder of images (with a slash at its
        end), in the order of the rows.
      manifests: SHA-256 of the manifest of each folder of shards or images, as it was read; empty
        where there was none.
      vectors: the name of faiss's file.
      factory: what faiss's index_factory makes the search of.
      recall: recall@10 of images of the index against a search of all rows.
    """

    format: int
    model: str
    digest: str
    dimensions: int
    sources: dict[str, int]
    manifests: dict[str, str]
    vectors: str
    factory: str
    recall: float

    @property
    def rows(self) -> int:
        return sum(self.sources.values())

    @property
    def kind(self) -> str:
        """ "exact", or "cells" where only the nearest cells of many are searched."""
        return "cells" if self.factory.startswith("IVF") else "exact"


def open_rows(folder: Path) -> tuple[pq.ParquetFile, IndexDocument]:
    """The rows of the index in a folder, whose columns are read later.

    Raises:
      SettingsError: there is no index, or another version made it.
      TrainingError: it is damaged.
    """
    path = folder / ROWS
    if not path.exists():
        older = (folder / OLDER).exists()
        has = "an index of an older version: make it anew" if older else "no index: make one"
        raise SettingsError(
            f"{str(folder)!r} holds {has}, as by alignset search index --model=RUN/model "
            f"--data=OUT/shards --index={folder}"
        )
    try:
        file = pq.ParquetFile(path)
        fields: dict[str, Any] = json.loads(file.metadata.metadata[DOCUMENT])
        if fields["format"] != FORMAT:
            raise SettingsError(f"{path} is of another version of alignset: make the index anew")
        document = IndexDocument(**fields)
        if not file.schema_arrow.equals(row_schema(document.dimensions)):
            raise ValueError("it has other columns")
        if file.metadata.num_rows != document.rows:
            raise ValueError(f"it does not hold the {document.rows} rows of the index")
    except (OSError, ValueError, TypeError, KeyError) as error:  # as Arrow's are, too
        raise damaged(path, error) from error
    return file, document


def damaged(path: Path, error: Exception) -> TrainingError:
    reason = str(error).strip().partition("\n")[0]
    return TrainingError(
        f"{path} cannot be read ({reason:.150}): the index is damaged, make it anew"
    )


def factory_for(rows: int) -> str:
    """faiss's name of the index that so many rows get."""
    if rows <= EXACT_ROWS:
        return "SQfp16"
    cells = min(1 << round(math.log2(4 * math.sqrt(rows))), max(1, rows // _ROWS_A_CELL))
    return f"IVF{cells},SQfp16"


def make_faiss_index(vectors: np.ndarray, factory: str) -> Any:
    """faiss's index of all rows.

    Args:
      vectors: float16[n, d].
    """
    count, dimensions = vectors.shape
    index = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.by_residual = False  # half precision of the vectors themselves, as in the rows
        step = max(1, count // (_ROWS_A_CELL * index.nlist))
        index.train(vectors[::step].astype(np.float32))
    for first in range(0, count, _ROWS_ADDED):
        index.add(vectors[first : first + _ROWS_ADDED].astype(np.float32))
    return index


class Neighbours:
    """Finds the nearest rows of a query. Several threads may use it at once."""

    def __init__(self, index: Any, cell_share: float = CELL_SHARE):
        self._index, self._cell_share = index, cell_share
        self._cells: int = getattr(index, "nlist", 0)  # 0: all rows are compared
        if self._cells:
            index.make_direct_map()  # of rows to their cells, for `vectors_of`

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """int64[m] -> float32[m, d]."""
        vectors: np.ndarray = self._index.reconstruct_batch(rows)
        return vectors

    def nearest(
        self, query: np.ndarray, k: int, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows, the nearest first; fewer where fewer may be found.

        Args:
          query: float32[d], unit length.
          mask: bool[n], the rows that may be found; None: all.

        Returns:
          float32[m] of cosines and int64[m] of rows.
        """
        total = fitting = len(self)
        options: dict[str, Any] = {}
        if mask is not None:
            fitting = int(np.count_nonzero(mask))
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        k = min(k, fitting)
        if not k:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        # Fewer rows of each cell may be found: more cells are searched.
        probes = min(self._cells, math.ceil(self._cells * self._cell_share * total / fitting))
        for nprobe in (probes, self._cells):
            parameters = faiss.SearchParameters(**options)
            if self._cells:
                parameters = faiss.SearchParametersIVF(nprobe=nprobe, **options)
            scores, rows = (of[0] for of in self._index.search(query[None], k, params=parameters))
            # What passes a filter may lie far off all together: then all cells are searched.
            if (rows >= 0).all():
                break
        order = np.lexsort((rows, -scores))
        return scores[order], rows[order]


def measured_recall(index: Any) -> float:
    """The share of the ten nearest of all cells that a search finds, for rows of the index."""
    some, every = Neighbours(index), Neighbours(index, cell_share=1.0)
    sample = np.linspace(0, len(some) - 1, min(_QUERIES, len(some))).astype(np.int64)
    near = [(some.nearest(q, 10)[1], every.nearest(q, 10)[1]) for q in some.vectors_of(sample)]
    return sum(len(np.intersect1d(*pair)) for pair in near) / sum(len(of) for _, of in near)


def write_faiss_index(path: Path, index: Any) -> None:
    write_whole(path, lambda file: faiss.write_index(index, faiss.PyCallbackIOWriter(file.write)))


def read_faiss_index(path: Path, document: IndexDocument) -> Any:
    """The index in a file. Raises TrainingError where it is not one of the document's rows."""
    try:
        index = faiss.read_index(str(path))
        if (index.ntotal, index.d) != (document.rows, document.dimensions):
            raise ValueError(f"it does not hold the {document.rows} rows of the index")
    except (RuntimeError, ValueError) as error:
        raise damaged(path, Exception(str(error).rpartition(": ")[2])) from error
    return index
