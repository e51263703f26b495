"""Images in a folder for each class, cropped as in ALIGN's paper.

root/class_name/anything.jpg
"""

import math
import os
import random
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from alignset.train.classify.settings import ClassifySettings
from alignset.train.data.images import class_folders, decode_image, not_longer
from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.errors import SettingsError, TrainingError

_CROP_ASPECT = 4 / 3  # of Inception's crop (Szegedy et al., 2015), which the paper takes (5.3)
# What is left of the shorter side for evaluation (section 5.3).
CENTRAL_RATIO = 0.875


@dataclass(frozen=True)
class LabelledImages:
    paths: list[str]
    labels: list[int]  # of each path: an index of classes
    classes: list[str]

    def part(self, first: int, every: int) -> "LabelledImages":
        return LabelledImages(self.paths[first::every], self.labels[first::every], self.classes)


def find_images(root: str, classes: list[str] | None = None) -> LabelledImages:
    """The images of `root`, with the classes in order of their names or as given.

    Raises:
      SettingsError: there is no folder of a class, one is empty, or one is not in `classes`.
    """
    folders = class_folders(Path(root))
    classes = classes or [*folders]
    unknown = sorted(folders.keys() - set(classes))
    if unknown:
        raise SettingsError(
            f"{root!r} has {unknown[0]!r}, which is not a class of the training images: take it out"
        )
    paths = [os.path.join(root, file) for files in folders.values() for file in files]
    labels = [classes.index(name) for name, files in folders.items() for _ in files]
    return LabelledImages(paths, labels, classes)


def random_box(
    width: int, height: int, min_area: float, rng: random.Random
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of min_area to all of the area, with sides of 3:4 to 4:3."""
    for _ in range(10):
        area = width * height * rng.uniform(min_area, 1)
        aspect = math.exp(rng.uniform(-math.log(_CROP_ASPECT), math.log(_CROP_ASPECT)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def training_pixels(
    path: str, px: int, settings: ClassifySettings, rng: random.Random
) -> np.ndarray:
    """uint8[px, px, 3]: a random box of the image, half of them mirrored if the settings say so."""
    image = _open(path)
    box = random_box(*image.size, settings.min_area, rng)
    pixels = np.asarray(image.resize((px, px), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if settings.horizontal_flip and rng.random() < 0.5 else pixels


def evaluation_pixels(path: str, px: int) -> np.ndarray:
    """uint8[px, px, 3]: of an image whose shorter side is 8/7 of px, the central square."""
    image = not_longer(_open(path))
    side, shorter = round(px / CENTRAL_RATIO), min(image.size)
    width, height = (int(side * old / shorter) for old in image.size)
    left, top = round((width - px) / 2), round((height - px) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.crop((left, top, left + px, top + px)))


def _open(path: str) -> Image.Image:
    try:
        with open(path, "rb") as file:
            return decode_image(file.read(LONGEST_IMAGE + 1))  # which refuses so many
    except Exception as error:  # Pillow raises many kinds
        raise TrainingError(
            f"{path} can't be decoded ({error!r:.80}): replace it, or take it out"
        ) from error


def evaluation_batches(
    images: LabelledImages, px: int, batch_size: int, threads: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """uint8[b, px, px, 3] and int64[b] of all images, in order; the last batch may be smaller."""
    with ThreadPoolExecutor(threads) as pool:
        for i in range(0, len(images.paths), batch_size):
            paths = images.paths[i : i + batch_size]
            pixels = pool.map(lambda path: evaluation_pixels(path, px), paths)
            yield np.stack(list(pixels)), np.array(images.labels[i : i + batch_size])


@dataclass(frozen=True)
class TrainingBatches:
    """One process's share of every batch: order, boxes and mirroring follow from seed and step."""

    images: LabelledImages
    settings: ClassifySettings
    px: int
    rank: int = 0
    processes: int = 1

    def after(self, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """uint8[b, px, px, 3] and int64[b] of each step behind the `last` one, for ever."""
        pending: deque[tuple[list[Future[np.ndarray]], np.ndarray]] = deque()
        with ThreadPoolExecutor(self.settings.decode_threads) as pool:
            try:
                for step in count(last + 1):
                    numbers = self._numbers(step)
                    futures = [pool.submit(self._pixels, step, i) for i in numbers]
                    pending.append((futures, np.array([self.images.labels[i] for i in numbers])))
                    if len(pending) > 1:  # the next one decodes while this one is learned from
                        futures, labels = pending.popleft()
                        yield np.stack([future.result() for future in futures]), labels
            finally:
                pool.shutdown(cancel_futures=True)

    def _numbers(self, step: int) -> list[int]:
        """This process's images of a step; an epoch ends with its last full batch."""
        number, size = len(self.images.paths), self.settings.batch_size
        epoch, place = divmod(step - 1, number // size)
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(number)
        return order[place * size : (place + 1) * size][self.rank :: self.processes].tolist()

    def _pixels(self, step: int, image: int) -> np.ndarray:
        rng = random.Random(f"{self.settings.seed} {step} {image}")
        return training_pixels(self.images.paths[image], self.px, self.settings, rng)
