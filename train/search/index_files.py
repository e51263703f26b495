"""Contents of an index's folder: `index.json`, and the files that it names.

    index.json        the model, the parts, and how they are searched; written last
    parts/NAME.arrow  rows of one source, with their thumbnails and embeddings
    vectors-N.faiss   faiss's index of all rows

Each file appears whole or not at all. A file that `index.json` does not name is left of a command
that was killed: the same command uses or deletes it.

Up to EXACT_ROWS all rows are compared. Beyond, faiss sorts rows into cells (an inverted file), and
compares a query with the rows of the nearest cells. Both hold vectors in half precision.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np
import pyarrow as pa

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError

FORMAT = 6
DOCUMENT = "index.json"
faiss: Any = typed_faiss  # its stubs lack much of what it has
EXACT_ROWS = 50_000  # 7 CPU-ms of 640 dimensions
_ROWS_A_CELL = 40  # to train a cell on; faiss warns below 39
CELL_SHARE = 1 / 10  # of the cells are searched for a query
_QUERIES = 200  # that recall is measured by


def row_schema(dimensions: int) -> pa.Schema:
    """The columns of a part."""
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
    """Sources of an index.

    Attributes:
      generation: how often it was changed.
      model, digest: the name it was given by, and the hash of its weights and preprocessing.
      dimensions: of its embeddings.
      parts: names, in the order of the rows, and the shard of each, or its folder of images (with a
        slash at its end).
      rows: of all parts.
      factory: what faiss's index_factory makes the search of.
      recall: recall@10 of images of the index against a search of all rows.
      manifests: SHA-256 of the manifest of each folder of shards or images, as it was read; empty
        where there was none.
    """

    format: int
    generation: int
    model: str
    digest: str
    dimensions: int
    parts: dict[str, str]
    rows: int
    factory: str
    recall: float
    manifests: dict[str, str]

    @property
    def kind(self) -> str:
        """ "exact", or "cells" where only the nearest cells of many are searched."""
        return "cells" if self.factory.startswith("IVF") else "exact"

    def vectors_path(self, folder: Path) -> Path:
        return folder / f"vectors-{self.generation}.faiss"


def write_index(folder: Path, document: IndexDocument) -> None:
    text = json.dumps(dataclasses.asdict(document), indent=1) + "\n"
    write_whole(folder / DOCUMENT, text)


def read_index(folder: Path) -> IndexDocument:
    """The index in a folder.

    Raises:
      SettingsError: there is none, or another version made it.
    """
    path = folder / DOCUMENT
    if not path.exists():
        raise SettingsError(
            f"{str(folder)!r} holds no index: make one, as by alignset search index "
            f"--model=RUN/model --data=OUT/shards --index={folder}"
        )
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        if fields["format"] == FORMAT:
            return IndexDocument(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            f"{path} cannot be read ({str(error)[:100]}): make the index anew in another folder"
        ) from error
    raise SettingsError(
        f"{path} is of another version of alignset: make the index anew in another folder"
    )


def part_path(folder: Path, name: str) -> Path:
    return folder / "parts" / f"{name}.arrow"


def read_part(folder: Path, name: str) -> pa.Table:
    """The rows of a part, mapped from its file.

    Raises:
      TrainingError: it is gone or damaged.
    """
    path = part_path(folder, name)
    try:
        rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        rows.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"{path} cannot be read ({reason:.150}): the index is damaged, make it anew"
        ) from error
    return rows


def read_parts(folder: Path, document: IndexDocument) -> list[pa.Table]:
    """The rows of an index, in their order. Raises TrainingError where they are damaged."""
    empty = row_schema(document.dimensions).empty_table()
    parts = [read_part(folder, name) for name in document.parts]
    rows = sum(map(len, parts))
    if rows != document.rows or not all(part.schema.equals(empty.schema) for part in parts):
        raise TrainingError(
            f"the parts in {str(folder)!r} hold {rows} rows of other columns, or not the "
            f"{document.rows} of the index: it is damaged, make it anew"
        )
    return parts or [empty]


def vector_column(vectors: np.ndarray) -> pa.Array:
    """float16[n, d] as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def column_vectors(column: pa.ChunkedArray) -> list[np.ndarray]:
    """The float16[n, d] of each chunk of a column; no copies."""
    width = column.type.list_size
    return [chunk.flatten().to_numpy().reshape(-1, width) for chunk in column.chunks if len(chunk)]


def factory_for(rows: int) -> str:
    """faiss's name of the index that so many rows get."""
    if rows <= EXACT_ROWS:
        return "SQfp16"
    cells = min(1 << round(math.log2(4 * math.sqrt(rows))), max(1, rows // _ROWS_A_CELL))
    return f"IVF{cells},SQfp16"


def make_faiss_index(pieces: list[np.ndarray], dimensions: int, factory: str) -> Any:
    """faiss's index of all rows.

    Args:
      pieces: float16[n, d], in the order of the rows.
    """
    index = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.by_residual = False  # half precision of the vectors themselves, as in the parts
        step = max(1, sum(map(len, pieces)) // (_ROWS_A_CELL * index.nlist))
        index.train(np.concatenate([piece[::step] for piece in pieces]).astype(np.float32))
    for piece in pieces:
        index.add(piece.astype(np.float32))
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
    except RuntimeError as error:
        reason = str(error).rpartition(": ")[2].strip()
        raise TrainingError(
            f"{path} cannot be read ({reason:.120}): the index is damaged, make it anew"
        ) from error
    if (index.ntotal, index.d) != (document.rows, document.dimensions):
        raise TrainingError(
            f"{path} does not hold the {document.rows} rows of the index: it is damaged, make it "
            "anew"
        )
    return index
