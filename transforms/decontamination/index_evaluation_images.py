"""Files of evaluation images to the index of them, by Beam."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.decontamination.evaluation_index import (
    DESCRIPTION,
    IMAGE_ROWS,
    IMAGES,
    IndexDescription,
    digested,
    find_index,
    index_path,
    set_folders,
    sets_of,
)
from alignset.transforms.decontamination.measured_parts import (
    MeasuredPart,
    by_set,
    measure_part,
    read_features,
    shown_name,
)
from alignset.transforms.decontamination.overlap_measure import OverlapMeasure
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import write_atomically
from alignset.transforms.workers.fencing import Fence

LOG = logging.getLogger("alignset")
_NAMED = 100  # unreadable images that the description names


def write_index(place: str, measure: OverlapMeasure, parts: Iterable[MeasuredPart]) -> str:
    """Makes the index, unless it is there already; returns its place.

    Raises:
      RuntimeError: it was there when some parts were to be measured, and is no more; or no image of
        a dataset can be decoded, so that the dataset would not be kept out.
    """
    if description := find_index(place):
        _warn(description)
        return place
    ordered = sorted(parts, key=lambda part: (part.first.name, part.first.path))
    if not all(part.path for part in ordered):  # else it would lack these, in each later run
        raise RuntimeError(f"the index {place} went away while it was in use: start again")
    sets, images = by_set(ordered), image_rows(ordered)
    for set_name, counted in sets.items():
        if not counted.images:
            raise RuntimeError(
                f"evaluation images: none of the {counted.unreadable} of {set_name} can be "
                "decoded, so its images would not be kept out: look at its files"
            )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features = (rows for part in ordered for rows in read_features(part, measure))
        measure.build(features, len(images), folder)
        pq.write_table(images, folder / IMAGES, compression="zstd")
        sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        for file in sizes:
            _bring(folder / file, f"{place}/{file}")
    unreadable = [f"{of}: {shown}" for part in ordered for of, shown in part.unreadable][:_NAMED]
    description = IndexDescription(measure.name, measure.settings, sets, unreadable, sizes)
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


def _bring(local: Path, path: str) -> None:
    with local.open("rb") as source:
        write_atomically(
            path, lambda sink: sink.writelines(iter(lambda: source.read(1 << 20), b""))
        )


def image_rows(parts: Iterable[MeasuredPart]) -> pa.Table:
    """The set, name and file of each image; names begin below the folder that all of a dataset are
    in."""
    rows = [row for part in parts for row in part.rows]
    folders = set_folders([(of, path) for of, _, path in rows])
    names = [shown_name(path.removeprefix(folders[of]), name) for of, name, path in rows]
    columns = [[of for of, _, _ in rows], names, [path for _, _, path in rows]]
    return pa.table(columns, schema=IMAGE_ROWS)


@dataclass(eq=False)
class IndexEvaluationImages(beam.PTransform):
    """Parts of evaluation files (`parts_of`) to one index of their images, if it is not there.

    Args:
      folder: of indexes. work: a folder for what is measured on the way. fence: of this start of
        the command.

    Outputs, singletons: `place` of the index; and `sets`, a dict of `EvaluationSet` by name.
    """

    measure: OverlapMeasure
    folder: str
    work: str
    fence: Fence

    def expand(self, parts: beam.PCollection) -> dict[str, beam.PCollection]:
        measure, folder, work, fence = self.measure, self.folder, self.work, self.fence
        spread = parts | beam.Reshuffle()
        digests = spread | "Digest" >> beam.FlatMap(digested)
        start = parts.pipeline | "Once" >> beam.Create([None])
        place = start | "Name" >> beam.Map(
            lambda _, digests: index_path(folder, measure, digests), beam.pvalue.AsIter(digests)
        )
        measured = spread | "Measure" >> beam.Map(
            measure_part, beam.pvalue.AsSingleton(place), measure, work, fence
        )
        written = place | "WriteIndex" >> beam.Map(
            lambda place, parts: write_index(place, measure, parts), beam.pvalue.AsIter(measured)
        )
        return {"place": written, "sets": written | "Sets" >> beam.Map(sets_of)}
