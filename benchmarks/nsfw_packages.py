"""Pictures out of packages, as open_nsfw is shown them: some to set the ranges of its integers."""

from __future__ import annotations

import hashlib
from pathlib import Path

from alignset.transforms.images.decode import Pixels
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.safety.classifier import model_pixels
from alignset.transforms.safety.model_files import OPEN_NSFW
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
_OTHER_PACKAGES = (
    Package("ardentryst", "1.71-9", "GPL-3+ and CC-BY-SA-3.0", "paintings, sprites"),
    Package("boswars-data", "2.7+svn160110-5", "GPL-2+", "rendered scenes, sprites"),
    Package("fillets-ng-data", "1.0.1-1.1", "GPL-2+", "paintings"),
    Package("freeciv-data", "3.0.6-1+deb12u1", "GPL-2+", "paintings, sprites"),
    Package(
        "gcompris-qt-data",
        "3.1-2",
        "GPL-3+, CC-BY-SA-3.0 and public domain",
        "photographs, drawings",
    ),
    Package("hedgewars-data", "1.0.2-6", "GPL-2", "drawings, sprites"),
    Package("krita-data", "1:5.1.5+dfsg-2+deb12u1", "GPL-2+", "textures, brushes"),
    Package("ktuberling-data", "4:22.12.3-1", "GPL-2+", "drawings"),
    Package("lincity-ng-data", "2.9~git20150314-5", "GPL-2+", "rendered buildings"),
    Package("pingus-data", "0.7.6-5.1", "GPL-2+", "drawings"),
    Package("pysiogame", "4.20.01-1", "GPL-3+ and CC-BY-3.0", "drawings"),
)
MEASURED_PACKAGES = TRAINING_PACKAGES + HELD_OUT_PACKAGES + _OTHER_PACKAGES
MIN_SIDE_PX, MAX_ASPECT = 140, 3
MAX_BYTES, MAX_PIXELS = 8_000_000, 30_000_000


def some_pictures(package: Package, folder: Path, count: int) -> list[Pixels]:
    """So many of a package's images, or all where it has fewer: the first by their SHA-256.

    Raises:
      RuntimeError: the package cannot be downloaded.
    """
    bodies = sorted(
        (body for _, body in pictures_of(package, folder) if len(body) <= MAX_BYTES),
        key=lambda body: hashlib.sha256(body).digest(),
    )
    pictures: list[Pixels] = []
    for body in bodies:
        image = examine(body, keep_picture=True)
        if len(pictures) < count and isinstance(image, Image) and _is_usual(image):
            pictures.append(model_pixels(image.picture, OPEN_NSFW.wanted))
    return pictures


def _is_usual(image: Image) -> bool:
    shorter, longer = sorted((image.width, image.height))
    return (
        shorter >= MIN_SIDE_PX and longer <= MAX_ASPECT * shorter and shorter * longer <= MAX_PIXELS
    )
