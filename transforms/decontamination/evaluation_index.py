"""One index of all evaluation images, made once for its contents and settings, used by all runs.

An index is a folder whose name tells its measure and what it was made of. It appears whole or not
at all: its description is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.decontamination.evaluation_files import contents_digest
from alignset.transforms.decontamination.overlap_measure import (
    Features,
    Nearest,
    OverlapIndex,
    OverlapMeasure,
)
from alignset.transforms.decontamination.overlap_settings import EvaluationFile, EvaluationSet
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import exists, is_local, local_copy, open_to_read, shown_path

DESCRIPTION, IMAGES = "description.json", "images.parquet"
_FORMAT = "1"  # another one makes other indexes
IMAGE_ROWS = pa.schema([("set", pa.string()), ("name", pa.string()), ("path", pa.string())])


@dataclass(frozen=True)
class IndexDescription:
    """`description.json` of an index.

    Attributes:
      measure, settings: what it was made by.
      sets: by name. unreadable: the names of images that could not be decoded, the first of them.
      sizes: bytes of each of its other files, by name.
    """

    measure: str
    settings: dict[str, str]
    sets: dict[str, EvaluationSet]
    unreadable: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)


class DigestedFile(NamedTuple):
    """An evaluation file and the digest of its contents."""

    name: str  # of the evaluation set
    path: str
    digest: str


def index_path(folder: str, measure: OverlapMeasure, files: Iterable[DigestedFile]) -> str:
    """Where in a folder the index of some contents is; where these lie decides nothing.

    Args:
      files: all evaluation files, in any order.
    """
    ordered = sorted(files)
    folders = set_folders([(file.name, file.path) for file in ordered])
    contents = [
        f"{file.name}\t{file.path.removeprefix(folders[file.name])}\t{file.digest}"
        for file in ordered
    ]
    settings = [f"{name}={value}" for name, value in sorted(measure.settings.items())]
    whole = "\n".join([_FORMAT, measure.name, *settings, *contents])
    return f"{folder}/{measure.name}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def digested(files: Iterable[EvaluationFile]) -> list[DigestedFile]:
    """The digests of the files of a part."""
    return [DigestedFile(of.name, shown_path(of.path), contents_digest(of)) for of in files]


def find_index(path: str) -> IndexDescription | None:
    """The description of an index; None where there is none, or not all of it."""
    if not exists(f"{path}/{DESCRIPTION}"):
        return None
    try:
        description = read_document(f"{path}/{DESCRIPTION}", IndexDescription)
    except DocumentError:
        return None
    for name, size in description.sizes.items():
        if _size(f"{path}/{name}") != size:
            return None
    return description


def _size(path: str) -> int:
    if not exists(path):
        return -1
    with open_to_read(path) as source:
        return source.seek(0, 2)


def set_folders(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The folder that all files of a dataset are in, with its last slash, by the dataset's name."""
    paths: dict[str, set[str]] = {}
    for name, path in files:
        paths.setdefault(name, set()).add(path)
    shared = {
        name: os.path.commonprefix([_folder(path) for path in of])  # noqa: RUF071 (cut below)
        for name, of in paths.items()
    }
    return {name: _folder(prefix) for name, prefix in shared.items()}


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]


def sets_of(place: str) -> dict[str, EvaluationSet]:
    """The evaluation sets that an index is of, by their names; none where there is none."""
    return read_document(f"{place}/{DESCRIPTION}", IndexDescription).sets if place else {}


class EvaluationIndex:
    """An index that is open, with the names of its images. For all threads.

    Args:
      folder: of the index, on this machine.
    """

    def __init__(self, measure: OverlapMeasure, folder: Path) -> None:
        self.measure = measure
        self.index: OverlapIndex = measure.open(folder)
        self._images = pq.read_table(folder / IMAGES, columns=["set", "name"], memory_map=True)

    def nearest(self, features: Features) -> Sequence[Nearest | None]:
        """As `OverlapIndex` has it."""
        return self.index.nearest(features)

    def columns(self, nearest: Sequence[Nearest | None]) -> dict[str, pa.Array]:
        """Columns about the evaluation image that is nearest to each of n images.

        Returns:
          evaluation_set, evaluation_image, evaluation_measure, evaluation_numbers (JSON):
          string[n]; evaluation_distance: float64[n]; null where there is none.
        """
        images = self.names([near and near.row for near in nearest])
        numbers = [
            json.dumps(dict(near.numbers)) if near and near.numbers else None for near in nearest
        ]
        measures = [near and self.measure.name for near in nearest]
        distances = [near and near.distance for near in nearest]
        return {
            "evaluation_set": images["set"].combine_chunks(),
            "evaluation_image": images["name"].combine_chunks(),
            "evaluation_measure": pa.array(measures, pa.string()),
            "evaluation_distance": pa.array(distances, pa.float64()),
            "evaluation_numbers": pa.array(numbers, pa.string()),
        }

    def names(self, rows: Sequence[int | None]) -> pa.Table:
        """The columns `set` and `name` of evaluation images; null where a row is None."""
        return self._images.take(pa.array(rows, pa.int64()))


@lru_cache(maxsize=2)
def open_index(place: str, measure: OverlapMeasure) -> EvaluationIndex | None:
    """Opens an index once in a process; None where there is none, as where nothing was given."""
    if not place:
        return None
    if is_local(place):
        return EvaluationIndex(measure, Path(place))
    folder = Path(tempfile.mkdtemp(prefix="alignset-index-"))
    for name in (*measure.files, IMAGES):
        os.symlink(local_copy(f"{place}/{name}"), folder / name)
    return EvaluationIndex(measure, folder)
