"""What the quick look at unsafe images loses: its scores beside the whole model's.

`unsafe.py --quick FOLDER` prints the table of docs/safety.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.safety.classifier import BATCH
from alignset.transforms.safety.model_files import OPEN_NSFW, QuickLook
from alignset.transforms.safety.unsafe_score import unsafe_scores
from benchmarks.overlap.packages import HELD_OUT_PACKAGES, TRAINING_PACKAGES, Package
from benchmarks.overlap.pictures import pictures_of

MIN_SIDE_PX, MAX_ASPECT = 150, 3
MOST_JPEGS, MOST_OTHERS = 600, 200  # of a package, the first by the hash of their bytes
SIZES = (128, 160)
BELOW = (0.003, 0.005, 0.01, 0.02)
WHOLE = (0.1, 0.2, 0.3, 0.5)

Scores = npt.NDArray[np.float64]


def chosen(package: Package, folder: Path) -> Iterator[tuple[bytes, Image]]:
    """The pictures of a package that are scored."""
    files = sorted(
        (hashlib.sha256(body).digest(), body) for _, body in pictures_of(package, folder)
    )
    left = {True: MOST_JPEGS, False: MOST_OTHERS}
    for _, body in files:
        image = examine(body)
        if not isinstance(image, Image):
            continue
        shorter, longer = sorted((image.width, image.height))
        jpeg = image.format == "jpeg"
        if shorter > MIN_SIDE_PX and longer <= MAX_ASPECT * shorter and left[jpeg]:
            left[jpeg] -= 1
            yield body, image


def compared_scores(
    folder: Path, packages: tuple[Package, ...] = HELD_OUT_PACKAGES + TRAINING_PACKAGES
) -> dict[str, Scores]:
    """Of each picture whether it is a JPEG, the whole score, and the quick one of each size."""
    looks = [QuickLook(size=size, settles_below=2) for size in SIZES]  # which settle everything
    models = [OPEN_NSFW, *(replace(OPEN_NSFW, quick_look=look) for look in looks)]
    columns: list[list[float | None]] = [[] for _ in ("jpeg", *models)]
    for package in packages:
        images = list(chosen(package, folder))
        columns[0] += [image.format == "jpeg" for _, image in images]
        for column, model in zip(columns[1:], models, strict=True):
            for first in range(0, len(images), BATCH):
                column += unsafe_scores(images[first : first + BATCH], model)
    names = ("jpeg", "whole", *map(str, SIZES))
    return {name: np.array(of, np.float64) for name, of in zip(names, columns, strict=True)}


def loss_rows(scores: dict[str, Scores]) -> list[dict[str, object]]:
    """For each size and threshold: what is settled, and what of it has a higher whole score."""
    jpeg, whole = scores["jpeg"] == 1, scores["whole"]
    rows: list[dict[str, object]] = [
        {"size": "", "settles below": "all pictures", "settled": len(whole), "JPEGs": jpeg.sum()}
        | {f"whole > {at}": (whole > at).sum() for at in WHOLE}
    ]
    for size in map(str, SIZES):
        for below in BELOW:
            settled = scores[size] < below
            rows.append(
                {"size": size, "settles below": below}
                | {"settled": settled.mean(), "JPEGs": settled[jpeg].mean()}
                | {f"whole > {at}": (settled & (whole > at)).sum() for at in WHOLE}
            )
    for size in map(str, SIZES):
        lowest = {f"whole > {at}": scores[size][whole > at].min(initial=1) for at in WHOLE}
        rows.append(
            {"size": size, "settles below": "lowest quick score", "settled": "", "JPEGs": ""}
            | lowest
        )
    return rows
