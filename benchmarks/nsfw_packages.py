"""Pictures out of packages, as open_nsfw is shown them: some to set the ranges of its integers."""

from __future__ import annotations

import hashlib
from pathlib import Path

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.safety.model_files import OPEN_NSFW
from alignset.transforms.safety.model_pixels import model_pixels
from benchmarks.overlap.packages import HELD_OUT_PACKAGES, TRAINING_PACKAGES, Package
from benchmarks.overlap.pictures import pictures_of

CALIBRATION_PACKAGES = (
    "tuxpaint-stamps-default",
    "opencv-doc",
    "gnome-backgrounds",
    "wesnoth-1.16-data",
    "endless-sky-data",
    "kstars-data",
    "labelme-examples",
    "renpy-demo",
    "torcs-data",
    "povray-doc",
    "kgeography-data",
    "marble-data",
    "mandelbulber2-data",
    "cimg-doc",
)
MEASURED_PACKAGES = TRAINING_PACKAGES + HELD_OUT_PACKAGES
MIN_SIDE_PX, MAX_ASPECT = 140, 3
MAX_BYTES, MAX_PIXELS = 8_000_000, 30_000_000


def some_pictures(package: Package, folder: Path, count: int) -> list[Pixels]:
    """So many of a package's pictures, or all where it has fewer: the first by their SHA-256.

    Raises:
      RuntimeError: the package cannot be downloaded.
    """
    bodies = sorted(
        (body for _, body in pictures_of(package, folder) if len(body) <= MAX_BYTES),
        key=lambda body: hashlib.sha256(body).digest(),
    )
    pictures: list[Pixels] = []
    for body in bodies:
        image = examine(body)
        if len(pictures) < count and isinstance(image, Image) and _is_usual(image):
            pictures.append(model_pixels(body, image, OPEN_NSFW.wanted))
    return pictures


def _is_usual(image: Image) -> bool:
    shorter, longer = sorted((image.width, image.height))
    return (
        shorter >= MIN_SIDE_PX and longer <= MAX_ASPECT * shorter and shorter * longer <= MAX_PIXELS
    )
