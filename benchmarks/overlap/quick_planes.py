"""How many copies a run misses since it looks at JPEGs small first.

  python -m benchmarks.overlap.quick_planes --packages=FOLDER [--cache=FOLDER] [--altered=100]

A run decodes a JPEG small. Only where its distance is below the threshold and `quick_error` more,
the whole picture is decoded and decides. Held-out JPEGs are altered, and looked for both ways. They
are indexed by their whole pictures, as in a run, beside the suite's other evaluation images.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_overlap import CopyMeasure
from alignset.transforms.decontamination.copy_planes import fine_planes, plane_row
from alignset.transforms.images.examine import Image, examine
from benchmarks.overlap import measured_pictures as measured
from benchmarks.overlap.alterations import ALTERATIONS
from benchmarks.overlap.pictures import held_out_pictures
from benchmarks.overlap.search import built
from benchmarks.overlap.tables import table

Planes = npt.NDArray[np.uint8]  # [6, 64, 64], a `plane_row`


def main() -> None:
    flags = read_flags()
    held_out = measured.held_out(flags.packages, flags.cache)
    evaluation = held_out.chosen(measured.is_evaluation(held_out))
    large = evaluation.chosen(evaluation.is_jpeg & (evaluation.sides_px >= measured.MIN_SIDE_PX))
    names = set(sorted(large.names.tolist(), key=measured.number_of)[: flags.altered])
    planes = dict(zip(evaluation.names.tolist(), evaluation.planes, strict=True))
    small, whole = [], []
    for name, body in held_out_pictures(flags.packages):
        if name in names and (seen := planes_of(body, in_full=True)) is not None:
            planes[name] = seen
            for file in altered(name, body):
                quick, full = planes_of(file, in_full=False), planes_of(file, in_full=True)
                if quick is not None and full is not None:
                    small.append(quick)
                    whole.append(full)
    with tempfile.TemporaryDirectory() as folder:
        index = built(np.stack([*planes.values()]), Path(folder)).index
        by_small, by_whole = (
            np.array(
                [match.distance for match in index.nearest(rows[:, 1], fine=fine_planes(rows))]
            )
            for rows in (np.stack(small), np.stack(whole))
        )
    print(missed_table(by_small, by_whole))


def read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="where packages are kept")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/alignset-overlap"))
    parser.add_argument("--altered", type=int, default=100, help="JPEGs that are altered")
    return parser.parse_args()


def altered(name: str, body: bytes) -> Iterator[bytes]:
    """The picture after each ordinary change, as a JPEG."""
    picture = measured.opened(body)
    for change in ALTERATIONS:
        if change.is_ordinary:
            yield change.file_of(picture, name)


def planes_of(body: bytes, *, in_full: bool) -> Planes | None:
    image = examine(body, in_full=in_full, keep_grey=True)
    if not isinstance(image, Image) or image.grey is None:
        return None
    return plane_row(image.grey, fine=in_full)


def missed_table(by_small: npt.NDArray[np.float64], by_whole: npt.NDArray[np.float64]) -> str:
    measure = CopyMeasure()
    far = by_small[by_whole < measure.min_distance]  # how far copies seem to be at first
    rows = [
        ["altered JPEGs", len(by_whole)],
        ["copies by their whole pictures", len(far)],
        ["of these none by small planes alone", (far >= measure.min_distance).sum()],
        ["of these missed by a run", (far >= measure.min_distance + measure.quick_error).sum()],
    ]
    return table(["what", "number"], [[what, f"{number:,}"] for what, number in rows])


if __name__ == "__main__":
    main()
