"""One index of all evaluation images, made once for its contents, used by all runs.

An index is a folder whose name tells what it was made of. It appears whole or not at all: its
description is written last.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.decontamination.copy_index import FILES, CopyIndex, Nearest
from alignset.transforms.decontamination.overlap_settings import EvaluationSet
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists, is_local, local_copy, open_to_read

DESCRIPTION, IMAGES = "description.json", "images.parquet"
IMAGE_ROWS = pa.schema([("set", pa.string()), ("name", pa.string()), ("path", pa.string())])


@dataclass(frozen=True)
class IndexDescription:
    """`description.json` of an index.

    Attributes:
      settings: what it was made by.
      sets: by name. unreadable: the names of images that could not be decoded, the first of them.
      sizes: bytes of each of its other files, by name.
    """

    settings: dict[str, str]
    sets: dict[str, EvaluationSet]
    unreadable: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


def find_index(path: str) -> IndexDescription | None:
    """The description of an index; None where there is none, or not all of it."""
    if not exists(f"{path}/{DESCRIPTION}"):
        return None
    try:
        description = read_document(f"{path}/{DESCRIPTION}", IndexDescription)
    except DocumentError:
        return None
    for name, size in description.sizes.items():
        if not exists(f"{path}/{name}"):
            return None
        with open_to_read(f"{path}/{name}") as source:
            if source.seek(0, 2) != size:
                return None
    return description


def sets_of(place: str) -> dict[str, EvaluationSet]:
    """The evaluation sets that an index is of, by their names; none where there is none."""
    return read_document(f"{place}/{DESCRIPTION}", IndexDescription).sets if place else {}


class EvaluationIndex(CopyIndex):
    """An index that is open, with the names of its images. For all threads.

    Args:
      folder: of the index, on this machine. name: which tells what it was made of.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        super().__init__(folder)
        self.name = name
        self._images = pq.read_table(folder / IMAGES, columns=["set", "name"], memory_map=True)

    def columns(self, nearest: Sequence[Nearest | None]) -> dict[str, pa.Array]:
        """Columns about the evaluation image that is nearest to each of n images.

        Returns:
          evaluation_set, evaluation_image, evaluation_numbers (JSON): string[n];
          evaluation_distance: float64[n]; null where there is none.
        """
        images = self.names([near and near.row for near in nearest])
        numbers = [near and json.dumps(dict(near.numbers)) for near in nearest]
        return {
            "evaluation_set": images["set"].combine_chunks(),
            "evaluation_image": images["name"].combine_chunks(),
            "evaluation_distance": pa.array(
                [near and near.distance for near in nearest], pa.float64()
            ),
            "evaluation_numbers": pa.array(numbers, pa.string()),
        }

    def names(self, rows: Sequence[int | None]) -> pa.Table:
        """The columns `set` and `name` of evaluation images; null where a row is None."""
        return self._images.take(pa.array(rows, pa.int64()))


@lru_cache(maxsize=2)
def open_index(place: str) -> EvaluationIndex | None:
    """Opens an index once in a process; None where there is none, as where nothing was given."""
    if not place:
        return None
    name = place.rstrip("/").rpartition("/")[2]
    if is_local(place):
        return EvaluationIndex(Path(place), name)
    folder = Path(tempfile.mkdtemp(prefix="alignset-index-"))
    for name in (*FILES, IMAGES):
        os.symlink(local_copy(f"{place}/{name}"), folder / name)
    return EvaluationIndex(folder, name)
