"""Made grey images with detail of all sizes, and others that have next to none."""

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]


def grey_photograph(seed: int, width: int = 160, height: int = 120) -> Grey:
    """Clouds of several sizes, which are the same at any width and height."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for side, share in ((3, 0.5), (7, 0.4), (15, 0.3), (31, 0.2)):
        cloud = random.normal(0, 70 * share, (side, side)).astype(np.float32)
        total += cv2.resize(cloud, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def degenerate_thumbnails() -> Iterator[tuple[str, Grey]]:
    """Planes that give a comparison nothing to hold on to, by name: uint8[64, 64]."""
    y, x = np.mgrid[:64, :64]
    yield "black", np.zeros((64, 64), np.uint8)
    yield "white", np.full((64, 64), 255, np.uint8)
    yield "nearly black", (np.random.default_rng(0).random((64, 64)) < 0.02).astype(np.uint8)
    yield "noise", np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    yield "gradient", (4 * x).astype(np.uint8)
    yield "round gradient", np.clip(255 - 5 * np.hypot(x - 32, y - 32), 0, 255).astype(np.uint8)
    yield "one pixel", np.where((x == 32) & (y == 32), 255, 0).astype(np.uint8)
    yield "half", np.where(x < 32, 0, 255).astype(np.uint8)
    yield "disc on white", np.where(np.hypot(x - 32, y - 32) < 20, 90, 255).astype(np.uint8)
    yield "checks", (255 * ((x + y) % 2)).astype(np.uint8)
    yield "stripes", (255 * (x % 2)).astype(np.uint8)
