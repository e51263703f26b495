"""What an index's folder holds: `index.json`, which names all else, and the files of its parts.

    index.json                    which parts there are, of which model; written last
    parts/NAME.json               a part: its source, how many samples were read, how many kept
    parts/NAME.parquet            its rows: keys, captions, URLs, sizes, hashes
    parts/NAME.thumbnails.parquet the same rows' thumbnails, in row groups of 64
    parts/NAME.begun.*            the same of a part that is being made
    parts/NAME.npy                float16[rows, d]: their embeddings, unit length
    neighbours-N.faiss            what finds the nearest of many rows; small indexes have none
    blocklist.txt                 what `remove` took out, and what never comes in again

Each file appears whole or not at all. A file that `index.json` does not lead to is the rest of a
command that was killed: the same command takes it up or clears it away.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.train.errors import SettingsError, TrainingError

FORMAT = 2
_FORMATS = (1, FORMAT)  # that are read; the first differs in its cells alone
ROWS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("key_hash", pa.uint64(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),  # empty: not known
        pa.field("host", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("unsafe_score", pa.float32()),  # null: not scored
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("md5", pa.binary(16), nullable=False),
        pa.field("sha1", pa.binary(20), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
    ]
)
THUMBNAILS_PER_GROUP = 64
Document = TypeVar("Document", "IndexDocument", "PartDocument")


@dataclass(frozen=True)
class PartDocument:
    """Some rows of one source.

    Attributes:
      source: what tells the source from others wherever it lies.
      samples: how many samples of the source were read before it and in it.
      rows: how many of them it keeps; the others are counted in `left_out` by their reason.
      last: whether the source ends with it.
    """

    source: str
    samples: int
    rows: int
    last: bool
    left_out: dict[str, int]


@dataclass(frozen=True)
class IndexDocument:
    """What an index is made of.

    Attributes:
      model, digest: by which name it was given, and what tells it from all others.
      dimensions: of its embeddings.
      parts, rows: names in the order of the rows, and how many rows each has.
      kind: "exact" or "cells".
      neighbours: the file's name; empty where the kind is exact.
      trained_rows: of how many rows the cells of `neighbours` were made.
      settings: of the search in `neighbours`, as "probes".
      recall: recall@10 against the exact search, as it was measured; 1 where the kind is exact.
      sets: folders of the local sets that its shards are of.
    """

    format: int
    model: str
    digest: str
    dimensions: int
    parts: list[str]
    rows: list[int]
    kind: str
    neighbours: str
    trained_rows: int
    settings: dict[str, int]
    recall: float
    sets: list[str] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.rows)


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


def write_document(path: Path, document: IndexDocument | PartDocument) -> None:
    text = json.dumps(dataclasses.asdict(document), indent=1) + "\n"
    publish(path, lambda file: file.write(text.encode()))


def read_index(folder: Path) -> IndexDocument:
    """The index in a folder.

    Raises:
      SettingsError: there is none, or another version made it.
    """
    path = folder / "index.json"
    if not path.exists():
        raise SettingsError(
            f"{str(folder)!r} holds no index: make one, as by alignset search index "
            f"--model=RUN/model --data=OUT/shards --index={folder}"
        )
    document = _read(path, IndexDocument)
    if document.format not in _FORMATS or len(document.parts) != len(document.rows):
        raise SettingsError(
            f"{path} is of another version of alignset: make the index anew in another folder"
        )
    return document


def read_part(folder: Path, name: str) -> PartDocument | None:
    """A part's document, or None where the part is not there, or not whole."""
    path = folder / "parts" / f"{name}.json"
    return _read(path, PartDocument) if path.exists() else None


def _read(path: Path, kind: type[Document]) -> Document:
    try:
        fields: dict[str, Any] = json.loads(path.read_bytes())
        return kind(**fields)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{path} cannot be read ({str(error)[:100]}): make the index anew in another folder"
        ) from error


def write_part(
    folder: Path, name: str, document: PartDocument, files: tuple[pa.Table, list[bytes], np.ndarray]
) -> None:
    """Writes a part, its document last.

    Args:
      files: the rows in the schema ROWS, their thumbnails, and float16[rows, d].
    """
    rows, thumbnails, vectors = files
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    publish(parts / f"{name}.parquet", lambda file: pq.write_table(rows, file, compression="zstd"))
    pictures = pa.table({"thumbnail": pa.array(thumbnails, pa.binary())})
    publish(
        parts / f"{name}.thumbnails.parquet",
        lambda file: pq.write_table(
            pictures, file, compression="none", row_group_size=THUMBNAILS_PER_GROUP
        ),
    )
    publish(parts / f"{name}.npy", lambda file: np.save(file, vectors))
    write_document(parts / f"{name}.json", document)


def remove_part(folder: Path, name: str) -> None:
    """Deletes a part's files, its document first."""
    for suffix in (".json", ".npy", ".thumbnails.parquet", ".parquet"):
        (folder / "parts" / f"{name}{suffix}").unlink(missing_ok=True)


def part_rows(folder: Path, name: str, columns: list[str] | None = None) -> pa.Table:
    """The rows of a part. Raises TrainingError where they cannot be read."""
    path = folder / "parts" / f"{name}.parquet"
    try:
        return pq.read_table(path, columns=columns, memory_map=True, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise _damaged(path, error) from error


def part_thumbnails(folder: Path, name: str) -> pq.ParquetFile:
    path = folder / "parts" / f"{name}.thumbnails.parquet"
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise _damaged(path, error) from error


def part_vectors(folder: Path, name: str) -> np.ndarray:
    """float16[rows, d], mapped from the file."""
    path = folder / "parts" / f"{name}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> TrainingError:
    reason = str(error).strip().partition("\n")[0]
    return TrainingError(
        f"{path} cannot be read ({reason:.150}): the index is damaged, make it anew"
    )
