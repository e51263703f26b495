"""The images of a made web: photographs of one size, or the formats and sizes that the web has."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from photo_server import make_photos
from PIL import Image

COUNT = 400
# As image lists have them, by bytes lognormal: half of the files have less than the median.
FORMATS = {"jpg": 0.62, "webp": 0.18, "png": 0.14, "gif": 0.03, "avif": 0.03}
MEDIAN_BYTES, SIGMA, MOST_BYTES = 60_000, 1.1, 5_000_000
# Bytes a pixel of a photograph in each format, which a size in pixels follows from.
_BYTES_A_PIXEL = {"jpg": 0.19, "webp": 0.15, "png": 2.2, "gif": 0.8, "avif": 0.12}


class Pictures(NamedTuple):
    """A folder of images and their names."""

    folder: Path
    names: list[str]


def make_pictures(folder: Path, *, uniform: bool) -> Pictures:
    """Makes the images where the folder lacks them, the same each time.

    Args:
      uniform: photographs of 57 KB alone; else the mix of formats and sizes.
    """
    photos = folder if uniform else folder.with_name("photos")
    make_photos(photos, COUNT)
    if not uniform and not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        for number in range(COUNT):
            _make(number, photos, unfinished)
        unfinished.rename(folder)
    return Pictures(folder, sorted(path.name for path in folder.iterdir()))


def _make(number: int, photos: Path, folder: Path) -> None:
    random = np.random.default_rng(number)
    extension = str(random.choice([*FORMATS], p=[*FORMATS.values()]))
    wanted = min(MOST_BYTES, random.lognormal(np.log(MEDIAN_BYTES), SIGMA))
    height = int(np.sqrt(wanted / _BYTES_A_PIXEL[extension] * 0.75))
    height = min(4000, max(210, height))
    photo = Image.open(photos / f"{number}.jpg").convert("RGB")
    picture = photo.resize((height * 4 // 3, height), Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    kind = "JPEG" if extension == "jpg" else extension.upper()
    picture.save(sink, kind)
    (folder / f"{number}.{extension}").write_bytes(sink.getvalue())
