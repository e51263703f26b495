"""What an index's folder holds: `index.json`, and the files that it names.

    index.json        the model, the parts, and how they are searched; written last
    parts/NAME.arrow  rows of one source, with their thumbnails and embeddings
    cells-N.faiss     faiss's index of all rows, where there are many
    blocklist.txt     what `remove` took out, and what never comes in again

Each file appears whole or not at all. A file that `index.json` does not name is left of a command
that was killed: the same command takes it up or deletes it.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from alignset.train.errors import SettingsError, TrainingError

FORMAT = 3
DOCUMENT = "index.json"
_PROGRESS = b"alignset"  # the key of a part's own document in its schema's metadata


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
        "md5": pa.binary(16),
        "sha1": pa.binary(20),
        "sha256": pa.binary(32),
        "thumbnail": pa.binary(),  # WebP
        "vector": pa.list_(pa.float16(), dimensions),  # of unit length
    }
    return pa.schema(
        [pa.field(name, kind, nullable=name == "unsafe_score") for name, kind in columns.items()]
    )


@dataclass(frozen=True)
class PartProgress:
    """How far a source is read at the end of a part.

    Attributes:
      samples: how many samples of the source come before the part's end.
      last: whether the source ends with it.
      left_out: how many of the part's samples are no rows, by reason.
    """

    samples: int
    last: bool
    left_out: dict[str, int]


@dataclass(frozen=True)
class IndexDocument:
    """What an index is made of.

    Attributes:
      model, digest: the name it was given by, and the hash of its weights and preprocessing.
      dimensions: of its embeddings.
      parts: names, in the order of the rows.
      rows: of all parts.
      factory: what faiss's index_factory makes the search of.
      cells: the file of faiss's index; empty where it is made when the index is opened.
      recall: recall@10 of pictures of the index against the exact search.
      sets: folders of the local datasets that its shards belong to.
    """

    format: int
    model: str
    digest: str
    dimensions: int
    parts: list[str]
    rows: int
    factory: str
    cells: str
    recall: float
    sets: list[str]

    @property
    def kind(self) -> str:
        """ "exact", or "cells" where only the nearest cells of many are searched."""
        return "cells" if self.cells else "exact"


def publish(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Has `write` fill a file beside `path`, which then gets its name, whole."""
    aside = path.with_name(f"{path.name}.tmp")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_index(folder: Path, document: IndexDocument) -> None:
    text = json.dumps(dataclasses.asdict(document), indent=1) + "\n"
    publish(folder / DOCUMENT, lambda file: file.write(text.encode()))


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


def write_part(folder: Path, name: str, rows: pa.Table, progress: PartProgress) -> None:
    """Writes a part of rows in the schema above."""
    text = json.dumps(dataclasses.asdict(progress))
    rows = rows.replace_schema_metadata({_PROGRESS: text})

    def write(file: IO[bytes]) -> None:
        with pa.ipc.new_file(file, rows.schema) as writer:
            writer.write_table(rows)

    (folder / "parts").mkdir(parents=True, exist_ok=True)
    publish(part_path(folder, name), write)


def read_part(folder: Path, name: str) -> tuple[pa.Table, PartProgress]:
    """The rows of a part, mapped from its file, and how far its source is read.

    Raises:
      TrainingError: it is gone or damaged.
    """
    path = part_path(folder, name)
    try:
        rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        rows.validate(full=True)
        progress = PartProgress(**json.loads(rows.schema.metadata[_PROGRESS]))
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"{path} cannot be read ({reason:.150}): the index is damaged, make it anew"
        ) from error
    return rows, progress


def vector_column(vectors: np.ndarray) -> pa.Array:
    """float16[n, d] as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def vector_pieces(column: pa.ChunkedArray) -> list[np.ndarray]:
    """The float16[n, d] of each chunk of a column; no copies."""
    width = column.type.list_size
    return [chunk.flatten().to_numpy().reshape(-1, width) for chunk in column.chunks if len(chunk)]
