"""Contents of an index's folder: `index.json`, and the files that it names.

    index.json        the model, the parts, and how they are searched; written last
    parts/NAME.arrow  rows of one source, with their thumbnails and embeddings
    vectors-N.faiss   faiss's index of all rows

Each file appears whole or not at all. A file that `index.json` does not name is left of a command
that was killed: the same command uses or deletes it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError

FORMAT = 5
DOCUMENT = "index.json"


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
      parts: names, in the order of the rows, and the shard of each (empty: a folder of images).
      rows: of all parts.
      factory: what faiss's index_factory makes the search of.
      recall: recall@10 of images of the index against a search of all rows.
      manifests: SHA-256 of the manifest of each local folder of shards, as it was read; empty
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
