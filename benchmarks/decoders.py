"""What it costs to look at image files and to resize them, beside Pillow and img2dataset's Resizer.

  python benchmarks/decoders.py [--pictures=FOLDER ...] [--repeats=3]

CPU milliseconds a file on one thread, by format: to decode it as this project does and as Pillow
does (the pixels are compared), and all that is said of it (`examine_all`, in groups as a worker has
them). The files are the mix of formats and sizes of web_pictures.py, and those of the folders.
Photographs of 640x480 are resized in each mode by this project and by img2dataset's own code, with
the peak signal-to-noise ratio of the one beside the other.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from photo_server import make_photos
from PIL import Image as PillowImage
from results import print_results, print_table
from web_pictures import make_pictures

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from transforms.images.displayed import displayed
from transforms.images.examine import Image, examine, examine_all, open_picture
from transforms.images.fast_decode import fast_pixels
from transforms.images.resize import Encoder, ResizeSettings
from transforms.shards.measure_images import IMAGES_AT_ONCE

MODES = ("border", "keep_ratio", "keep_ratio_largest", "center_crop")
PACKAGES = ("pillow", "kornia-rs", "opencv-python-headless", "simplejpeg", "img2dataset")


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


def looked_at(source: str, folders: Sequence[Path], repeats: int) -> list[dict[str, object]]:
    """A row for each format of what is in some folders."""
    rows = []
    for name, bodies in files_of(folders).items():
        fast = [body for body in bodies if fast_pixels(body, name) is not None]
        for body in fast:
            if not np.array_equal(fast_pixels(body, name), by_pillow(body, name)):
                raise RuntimeError(f"a {name} of {source} has other pixels than Pillow's")
        groups = [bodies[at : at + IMAGES_AT_ONCE] for at in range(0, len(bodies), IMAGES_AT_ONCE)]
        whole = cost_ms(examine_all, groups, repeats) * len(groups) / len(bodies)
        ours = (
            cost_ms(lambda body, name=name: fast_pixels(body, name), fast, repeats) if fast else 0
        )
        theirs = (
            cost_ms(lambda body, name=name: by_pillow(body, name), fast, repeats) if fast else 0
        )
        rows.append(
            {
                "files": f"{name} of {source}",
                "number": len(bodies),
                "decoded fast": len(fast),
                "ms fast": ours,
                "ms Pillow": theirs,
                "ms in all": whole,
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
