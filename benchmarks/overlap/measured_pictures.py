"""The images that the suite measures with, as thumbnails and hashes: held out, altered, indexed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.images.decode import displayed_picture
from alignset.transforms.images.examine import Image, examine
from benchmarks.overlap.alterations import ALTERATIONS, Picture
from benchmarks.overlap.packages import HELD_OUT_PACKAGES
from benchmarks.overlap.pictures import held_out_pictures
from benchmarks.overlap.tiles import distractor_planes, training_tiles

LONGEST_PX = 1000  # of an image before it is altered
MIN_SIDE_PX = 200  # of an image that is altered, as of one that a run keeps
EVALUATION_SHARE = 5  # one held-out image in so many is indexed
_AT_ONCE = 64


@dataclass(frozen=True)
class Pictures:
    """Images by rows.

    Attributes:
      names: of n images.
      planes: uint8[n, 2, 64, 64], the whole and the trimmed thumbnail of each.
      phashes: uint64[n].
      is_jpeg: bool[n]. JPEGs are photographs mostly; the others are drawings, charts, screenshots.
      sides_px: int32[n], of the shorter side.
    """

    names: npt.NDArray[np.str_]
    planes: npt.NDArray[np.uint8]
    phashes: npt.NDArray[np.uint64]
    is_jpeg: npt.NDArray[np.bool_]
    sides_px: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, rows: npt.NDArray[Any]) -> Pictures:
        return Pictures(*(value[rows] for value in vars(self).values()))


Row = tuple[str, npt.NDArray[np.uint8], int, bool, int]


def number_of(name: str) -> int:
    """A number that is even for half of all names, and so on, whatever the order."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def held_out(packages: Path, cache: Path) -> Pictures:
    """Every held-out image that a run could read."""
    return _kept(cache / "held_out.npz", lambda: held_out_pictures(packages), _rows_of_file)


def distractors(packages: Path, count: int) -> npt.NDArray[np.uint8]:
    """Planes of up to so many parts of training images: uint8[n, 2, 64, 64]."""
    planes = distractor_planes(training_tiles(packages), count)
    return np.repeat(planes[:, np.newaxis], 2, axis=1)


def is_evaluation(pictures: Pictures) -> npt.NDArray[np.bool_]:
    """bool[n]: which held-out images are indexed; the others are different from all of these."""
    return np.array([number_of(name) % EVALUATION_SHARE == 0 for name in pictures.names])


def is_of_held_out_package(pictures: Pictures) -> npt.NDArray[np.bool_]:
    """bool[n]: which are of a package that no other image comes from than held-out ones."""
    packages = tuple(f"{package.name}/" for package in HELD_OUT_PACKAGES)
    return np.array([name.startswith(packages) for name in pictures.names.tolist()])


def to_alter(pictures: Pictures, count: int) -> Pictures:
    """Evaluation images that are altered: JPEGs where there are enough, and as many others."""
    large = is_evaluation(pictures) & (pictures.sides_px >= MIN_SIDE_PX)
    chosen: list[int] = []
    for of_kind in (large & pictures.is_jpeg, large & ~pictures.is_jpeg):
        rows = np.flatnonzero(of_kind).tolist()
        chosen += sorted(rows, key=lambda row: number_of(f"altered {pictures.names[row]}"))[
            : count // 2
        ]
    return pictures.chosen(np.array(chosen))


def altered(packages: Path, cache: Path, names: Iterable[str]) -> Pictures:
    """All alterations of some held-out images, in their order: n times as many rows."""
    wanted = set(names)

    def bodies() -> Iterator[tuple[str, bytes]]:
        return (item for item in held_out_pictures(packages) if item[0] in wanted)

    return _kept(cache / f"altered_{len(wanted)}.npz", bodies, _rows_of_alterations)


def _kept(
    path: Path,
    bodies: Callable[[], Iterator[tuple[str, bytes]]],
    rows_of: Callable[[tuple[str, bytes]], list[Row]],
) -> Pictures:
    """Arrays from an earlier run's file, or made now."""
    if not path.exists():
        rows: list[Row] = []
        with ProcessPoolExecutor() as pool:
            source = bodies()
            while some := list(islice(source, _AT_ONCE)):
                for made in pool.map(rows_of, some):
                    rows += made
        names, planes, phashes, is_jpeg, sides_px = zip(*rows, strict=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            names=np.array(names),
            planes=np.stack(planes),
            phashes=np.array(phashes, np.uint64),
            is_jpeg=np.array(is_jpeg),
            sides_px=np.array(sides_px, np.int32),
        )
    with np.load(path) as kept:
        return Pictures(**kept)


def _rows_of_file(item: tuple[str, bytes]) -> list[Row]:
    name, body = item
    image = examine(body, keep_grey=True)
    if not isinstance(image, Image):
        return []
    side_px = min(image.width, image.height)
    return [(name, stack_thumbnails([image])[0], image.phash, image.format == "jpeg", side_px)]


def _rows_of_alterations(item: tuple[str, bytes]) -> list[Row]:
    name, body = item
    picture = opened(body)
    rows = []
    for alteration in ALTERATIONS:
        image = examine(alteration.file_of(picture, name), keep_grey=True)
        assert isinstance(image, Image)  # Pillow wrote it just now
        is_jpeg = body.startswith(b"\xff\xd8")
        of_name = f"{name}: {alteration.name}"
        rows.append((of_name, stack_thumbnails([image])[0], image.phash, is_jpeg, 0))
    return rows


def opened(body: bytes) -> Picture:
    """The image in a file as it is altered: as displayed, and no larger than LONGEST_PX."""
    picture = displayed_picture(PillowImage.open(io.BytesIO(body))).convert("RGB")
    picture.thumbnail((LONGEST_PX, LONGEST_PX))
    return picture
