"""What it costs to look at image files and to resize them, beside Pillow and img2dataset's Resizer.

  python benchmarks/decoders.py [--pictures=FOLDER ...] [--repeats=3]

CPU milliseconds a file on one thread, by format: to decode it as Pillow does and as this project
does (where both decode, the pixels are compared); the sums of its bytes and chunks, and its wishes;
its perceptual hash, from the grey plane; to write as PNG what is no JPEG, PNG or WebP (which is
compared, too); and all of that together, as it is done to files that arrive. The files are the mix
of formats and sizes of web_pictures.py, and those of the folders.
Photographs of 640x480 are resized in each mode by this project and by img2dataset's own code, with
the peak signal-to-noise ratio of the one beside the other.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import simplejpeg
from photo_server import make_photos
from PIL import Image as PillowImage
from results import print_results, print_table
from web_pictures import make_pictures

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from alignset.train.runs.allocator import keep_freed_memory
from alignset.transforms.images.displayed import displayed
from alignset.transforms.images.examine import Image, examine, examine_each, open_picture
from alignset.transforms.images.fast_decode import fast_pixels
from alignset.transforms.images.file_formats import file_fault
from alignset.transforms.images.jpeg_dc import dc_planes
from alignset.transforms.images.perceptual_hash import grey_hash
from alignset.transforms.images.resize import Encoder, plain_form
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.shards.measure_images import IMAGES_AT_ONCE
from alignset.transforms.wishes.file_wishes import file_wishes
from alignset.transforms.wishes.wish_settings import WishSettings

MODES = ("border", "keep_ratio", "keep_ratio_largest", "center_crop")
PACKAGES = ("pillow", "deflate", "opencv-python-headless", "simplejpeg", "img2dataset")
WISHES = WishSettings()


def cost_ms(work: Callable[[Any], object], items: Sequence[Any], repeats: int) -> float:
    """CPU milliseconds an item: the best of some rounds, after one that is not counted."""
    work(items[0])
    rounds = []
    for _ in range(repeats):
        start = time.process_time()
        for item in items:
            work(item)
        rounds.append(time.process_time() - start)
    return 1000 * min(rounds) / len(items)


def by_pillow(body: bytes, name: str) -> np.ndarray:
    return np.asarray(displayed(open_picture(body, name)))


def files_of(folders: Sequence[Path]) -> dict[str, list[bytes]]:
    """The good files of some folders, by format."""
    files: dict[str, list[bytes]] = defaultdict(list)
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        body = path.read_bytes()
        image = examine(body)
        if isinstance(image, Image):
            files[image.format].append(body)
    return files


def decoded(body: bytes, name: str) -> np.ndarray:
    """What this project decodes, at the least: of a JPEG a grey plane."""
    if name == "jpeg":
        plane = dc_planes([body] * 2, 60)[0]
        if plane is not None:
            return plane
        return simplejpeg.decode_jpeg(body, "GRAY", min_height=96, min_width=96, strict=False)
    pixels = fast_pixels(body, name)
    return by_pillow(body, name) if pixels is None else pixels


def stated(body: bytes) -> object:
    return hashlib.sha256(body).digest(), file_wishes(body, WISHES)


def taken(bodies: Sequence[bytes]) -> list[bytes]:
    """All that is done to some files before they are put aside, as `measure_images` does it."""
    looks = zip(bodies, examine_each(bodies, keep_shown=True), strict=True)
    return [plain_form(body, image)[0] for body, image in looks if isinstance(image, Image)]


def check_files(bodies: Sequence[bytes], name: str) -> None:
    """
    Raises:
      RuntimeError: a file has other pixels than Pillow's, or becomes a PNG that has.
    """
    for body in bodies:
        expected, fast = by_pillow(body, name), fast_pixels(body, name)
        if fast is not None and not np.array_equal(fast, expected):
            raise RuntimeError(f"a {name} has other pixels than Pillow's")
        if name in ("gif", "bmp", "avif"):
            (png,) = taken([body])
            if not np.array_equal(by_pillow(png, "png"), expected):
                raise RuntimeError(f"a {name} becomes another picture as PNG")


def looked_at(source: str, folders: Sequence[Path], repeats: int) -> list[dict[str, object]]:
    """A row for each format of what is in some folders."""
    rows = []
    for name, bodies in files_of(folders).items():
        check_files(bodies, name)
        groups = [bodies[at : at + IMAGES_AT_ONCE] for at in range(0, len(bodies), IMAGES_AT_ONCE)]
        images = [
            image for image in examine_each(bodies, keep_shown=True) if isinstance(image, Image)
        ]
        shown = [(b"", image) for image in images if image.shown is not None]
        planes = [np.asarray(displayed(open_picture(body, name)).convert("L")) for body in bodies]
        says = cost_ms(stated, bodies, repeats)
        takes = cost_ms(taken, groups, repeats) * len(groups) / len(bodies)
        rows.append(
            {
                "files": f"{name} of {source}",
                "number": len(bodies),
                "Mpx": sum(image.width * image.height for image in images) / len(images) / 1e6,
                "Pillow decodes": cost_ms(partial(by_pillow, name=name), bodies, repeats),
                "decode": cost_ms(partial(decoded, name=name), bodies, repeats),
                "checks": says + cost_ms(partial(file_fault, name=name), bodies, repeats),
                "hash": 0.0 if name == "jpeg" else cost_ms(grey_hash, planes, repeats),
                "write": cost_ms(lambda file: plain_form(*file), shown, repeats) if shown else 0.0,
                "in all": says + takes,
            }
        )
    return rows


def psnr(a: bytes, b: bytes) -> float:
    """Decibels, of a peak of 255."""
    one, other = (
        np.asarray(PillowImage.open(BytesIO(body)).convert("RGB"), np.float64) for body in (a, b)
    )
    return 10 * np.log10(255**2 / max(float(np.square(one - other).mean()), 1e-9))


def resized(photos: Sequence[bytes], mode: str, size: int, repeats: int) -> dict[str, object]:
    how = ResizeSettings(mode, size)
    ours, theirs = Encoder(how), Encoder(replace(how, exact_resize=True))
    files = [(body, examine(body)) for body in photos]
    apart = [psnr(ours(*file).body, theirs(*file).body) for file in files]
    costs = [cost_ms(lambda file, it=it: it(*file), files, repeats) for it in (ours, theirs)]
    return {
        "resized": f"{mode} {size}",
        "ms ours": costs[0],
        "ms img2dataset": costs[1],
        "ratio": costs[1] / costs[0],
        "least PSNR": min(apart),
        "median PSNR": median(apart),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="further folders")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the pictures")
    flags = parser.parse_args()
    keep_freed_memory()  # as the command does
    rows = looked_at(
        "the mix", [make_pictures(flags.cache / "mixed", uniform=False).folder], flags.repeats
    )
    for folder in flags.pictures:
        rows += looked_at(str(folder), [folder], flags.repeats)
    make_photos(flags.cache / "photos", flags.photos)
    photos = [(flags.cache / "photos" / f"{n}.jpg").read_bytes() for n in range(flags.photos)]
    sizes = [resized(photos, mode, size, flags.repeats) for size in flags.sizes for mode in MODES]
    print_table(rows)
    print_results(sizes, {"benchmark": "decoders", "files": rows, "sizes": sizes}, PACKAGES)


if __name__ == "__main__":
    main()
