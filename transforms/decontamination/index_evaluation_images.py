"""Files of evaluation images to the index of them, described in parts, then put together; and
images of a PCollection to the evaluation image that each is nearest to."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.decontamination.copy_index import build_copy_index
from alignset.transforms.decontamination.copy_thumbnails import SIDE_PX, stack_thumbnails
from alignset.transforms.decontamination.evaluation_files import (
    NamedImage,
    named_images,
    set_folders,
)
from alignset.transforms.decontamination.evaluation_index import (
    DESCRIPTION,
    IMAGE_ROWS,
    IMAGES,
    IndexDescription,
    find_index,
    open_index,
    sets_of,
)
from alignset.transforms.decontamination.overlap_settings import (
    INDEX_SETTINGS,
    EvaluationFile,
    EvaluationSet,
)
from alignset.transforms.images.examine import CRASHED_DECODER, Image, Unusable, examine
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.images.try_decoders import crashes
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import (
    local_copy,
    open_to_read,
    publish,
    shown_path,
    write_atomically,
)
from alignset.transforms.storage.tar_members import BrokenTar
from alignset.transforms.workers.attempts import ATTEMPTS, Attempt
from alignset.transforms.workers.limited_process import CHECKED
from alignset.transforms.workers.threads import map_in_threads

LOG = logging.getLogger("alignset")
THUMBNAILS = "evaluation-"  # how the names of files of thumbnails begin, and of attempts at them
BYTES_AT_ONCE = 1 << 24  # of the files of images described together, about
_DESCRIBED_AT_ONCE = 64
_NAMED = 100  # unreadable images that the description names


class DescribedPart(NamedTuple):
    """The images of some evaluation files.

    Attributes:
      first: the part's first file; parts are put in the order of these.
      path: of a file of the images' thumbnails; empty where the index was there already.
      rows: set, name and file of each image.
      unreadable: set and name of each that cannot be decoded.
    """

    first: EvaluationFile
    path: str
    rows: list[tuple[str, str, str]]
    unreadable: list[tuple[str, str]]


def digested(files: Iterable[EvaluationFile]) -> list[tuple[str, str, str]]:
    """The set, the path and the SHA-256 of the contents of each file."""
    made = []
    for file in files:
        digest = hashlib.sha256()
        with open_to_read(file.path) as source:
            while piece := source.read(1 << 20):
                digest.update(piece)
        made.append((file.name, shown_path(file.path), digest.hexdigest()))
    return made


def index_path(folder: str, files: Iterable[tuple[str, str, str]]) -> str:
    """Where in a folder the index of some contents is; where these lie decides nothing.

    Args:
      files: all evaluation files as `digested` gives them, in any order.
    """
    ordered = sorted(files)
    folders = set_folders((name, path) for name, path, _ in ordered)
    contents = [
        f"{name}\t{path.removeprefix(folders[name])}\t{digest}" for name, path, digest in ordered
    ]
    settings = [f"{name}={value}" for name, value in sorted(INDEX_SETTINGS.items())]
    whole = "\n".join([*settings, *contents])
    return f"{folder}/{INDEX_SETTINGS['measure']}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def describe_part(files: tuple[EvaluationFile, ...], place: str, work: str) -> DescribedPart:
    """The thumbnails of the images in some files; nothing is read where the index is there already.

    Args:
      place: of the index. work: the run's folder, for thumbnails and attempts.

    Raises:
      RuntimeError: a file cannot be read to its end.
    """
    part = DescribedPart(files[0], "", [], [])
    if find_index(place) is not None:
        return part
    names = "\n".join([place, *(shown_path(file.path) for file in files)])
    name = f"{THUMBNAILS}{hashlib.sha256(names.encode()).hexdigest()[:16]}"
    path = f"{work}/{name}.rows"
    with Attempt(f"{work}/{ATTEMPTS}", name, {}) as attempt:
        rows = attempt.folder / "rows"
        try:
            with rows.open("wb") as sink:
                _write_thumbnails(files, part, sink, attempt.is_suspect)
        finally:
            CHECKED.end_idle()
        publish(rows, path)  # another attempt's are the same
    return part._replace(path=path)


def _write_thumbnails(
    files: Iterable[EvaluationFile], part: DescribedPart, sink: BinaryIO, is_suspect: bool
) -> None:
    """Writes the thumbnails of all images, and notes in the part what each of them is."""
    for file in files:
        looks: list[Image] = []
        bytes_held = 0
        path = shown_path(file.path)
        for named, image in _looked_at(file, is_suspect):
            if not isinstance(image, Image):
                part.unreadable.append((file.name, shown_name(path, named.name)))
                continue
            part.rows.append((file.name, named.name, path))
            looks.append(image)
            bytes_held += len(named.body)
            if len(looks) == _DESCRIBED_AT_ONCE or bytes_held > BYTES_AT_ONCE:
                sink.write(stack_thumbnails(looks).tobytes())
                looks, bytes_held = [], 0
        sink.write(stack_thumbnails(looks).tobytes())


def _looked_at(
    file: EvaluationFile, is_suspect: bool
) -> Iterator[tuple[NamedImage, Image | Unusable]]:
    def look(named: NamedImage) -> tuple[NamedImage, Image | Unusable]:
        if is_suspect and crashes(named.body, ResizeSettings()):
            return named, Unusable("undecodable", CRASHED_DECODER)
        return named, examine(named.body, keep_grey=True)

    try:
        yield from map_in_threads(look, named_images(file.path), chunk=4)
    except (OSError, EOFError, BrokenTar, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise RuntimeError(
            f"evaluation images: cannot read {file.path} to its end: {reason}; replace the file"
        ) from error


def shown_name(path: str, name: str) -> str:
    """The name of an image among all; that within a file follows the file's own."""
    return f"{path}/{name}" if name else path


def write_index(place: str, parts: Iterable[DescribedPart]) -> str:
    """Makes the index, unless it is there already; returns its place.

    Raises:
      RuntimeError: it was there when some parts were to be described, and is no more; or no image
        of a dataset can be decoded, so that the dataset would not be kept out.
    """
    if description := find_index(place):
        _warn(description)
        return place
    ordered = sorted(parts, key=lambda part: (part.first.name, part.first.path))
    if not all(part.path for part in ordered):  # else it would lack these, in each later run
        raise RuntimeError(f"the index {place} went away while it was in use: start again")
    rows = [row for part in ordered for row in part.rows]
    images = Counter(of for of, _, _ in rows)
    unreadable = Counter(of for part in ordered for of, _ in part.unreadable)
    names = sorted(images.keys() | unreadable.keys())
    sets = {name: EvaluationSet(images[name], unreadable[name]) for name in names}
    for set_name, counted in sets.items():
        if not counted.images:
            raise RuntimeError(
                f"evaluation images: none of the {counted.unreadable} of {set_name} can be "
                "decoded, so its images would not be kept out: look at its files"
            )
    folders = set_folders((of, path) for of, _, path in rows)
    shown = [shown_name(path.removeprefix(folders[of]), name) for of, name, path in rows]
    columns = [[of for of, _, _ in rows], shown, [path for _, _, path in rows]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = (local_copy(part.path) for part in ordered if part.rows)
        thumbnails = (np.memmap(file, np.uint8, "r").view(np.ndarray) for file in files)
        build_copy_index((of.reshape(-1, 2, SIDE_PX, SIDE_PX) for of in thumbnails), folder)
        pq.write_table(pa.table(columns, schema=IMAGE_ROWS), folder / IMAGES, compression="zstd")
        sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        for file in sizes:
            with (folder / file).open("rb") as source:
                copy = partial(shutil.copyfileobj, source)
                write_atomically(f"{place}/{file}", copy)
    faulty = [f"{of}: {name}" for part in ordered for of, name in part.unreadable][:_NAMED]
    description = IndexDescription(INDEX_SETTINGS, sets, faulty, sizes)
    _warn(description)
    write_document(f"{place}/{DESCRIPTION}", description)
    return place


def _warn(description: IndexDescription) -> None:
    if description.unreadable:
        count = sum(one.unreadable for one in description.sets.values())
        LOG.warning(
            "%d of the evaluation images cannot be decoded, so copies are not found: %s%s",
            count,
            ", ".join(description.unreadable[:3]),
            " …" if count > 3 else "",
        )


@dataclass(eq=False)
class IndexEvaluationImages(beam.PTransform):
    """Parts of evaluation files (`parts_of`) to one index of their images, if it is not there.

    Args:
      folder: of indexes. work: the run's folder, for thumbnails on the way.

    Outputs, singletons: `place` of the index; and `sets`, a dict of `EvaluationSet` by name.
    """

    folder: str
    work: str

    def expand(self, parts: beam.PCollection) -> dict[str, beam.PCollection]:
        folder, work = self.folder, self.work
        spread = parts | beam.Reshuffle()
        digests = spread | "Digest" >> beam.FlatMap(digested)
        start = parts.pipeline | "Once" >> beam.Create([None])
        place = start | "Name" >> beam.Map(
            lambda _, digests: index_path(folder, digests), beam.pvalue.AsIter(digests)
        )
        described = spread | "Describe" >> beam.Map(
            describe_part, beam.pvalue.AsSingleton(place), work
        )
        written = place | "WriteIndex" >> beam.Map(write_index, beam.pvalue.AsIter(described))
        return {"place": written, "sets": written | "Sets" >> beam.Map(sets_of)}


_IMAGES_AT_ONCE, _BYTES_AT_ONCE = 64, 1 << 25


class NearestImage(NamedTuple):
    """The evaluation image that an image is nearest to.

    Fields:
      is_copy: whether it is nearer than the least distance that is kept.
      evaluation_set, evaluation_image: their names; None where no image is near enough to compare.
      distance: 0 to 2; None there, too.
      fault: why the image cannot be decoded, as "undecodable: truncated"; None where it can.
    """

    is_copy: bool = False
    evaluation_set: str | None = None
    evaluation_image: str | None = None
    distance: float | None = None
    fault: str | None = None


def _compared(
    images: list[tuple[Any, bytes]], place: str, min_distance: float
) -> Iterator[tuple[Any, NearestImage]]:
    if not (index := open_index(place)):
        return
    looks = [examine(body, keep_grey=True) for _, body in images]
    found = iter(
        index.nearest(stack_thumbnails([look for look in looks if isinstance(look, Image)]))
    )
    nearest = [next(found) if isinstance(look, Image) else None for look in looks]
    named = index.names([near and near.row for near in nearest]).to_pylist()
    for (key, _), look, near, name in zip(images, looks, nearest, named, strict=True):
        if isinstance(look, Unusable):
            yield key, NearestImage(fault=f"{look.reason}: {look.detail}")
        elif near is None:
            yield key, NearestImage()
        else:
            is_copy = near.distance < min_distance
            yield key, NearestImage(is_copy, name["set"], name["name"], near.distance)


def _weight(image: tuple[Any, bytes]) -> int:
    return max(len(image[1]), _BYTES_AT_ONCE // _IMAGES_AT_ONCE)


@dataclass(eq=False)
class CompareImages(beam.PTransform):
    """(key, bytes of an image file) to (key, `NearestImage`).

    Args:
      place: a singleton, where the index of evaluation images is.
      min_distance: what is nearer is a copy.
    """

    place: beam.PCollection
    min_distance: float

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        some = beam.BatchElements(_BYTES_AT_ONCE, _BYTES_AT_ONCE, element_size_fn=_weight)
        place = beam.pvalue.AsSingleton(self.place)
        return images | some | beam.FlatMap(_compared, place, self.min_distance)
