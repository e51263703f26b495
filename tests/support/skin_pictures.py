"""Pictures by whole numbers alone, so that every CPU has the same: ripples, coloured as skin."""

import numpy as np
import numpy.typing as npt


def skin_picture(seed: int) -> npt.NDArray[np.uint8]:
    """uint8[224, 224, 3], BGR as open_nsfw takes it; its scores are 0.0001 to 0.1."""
    y, x = np.mgrid[:224, :224]
    circles = np.random.default_rng(seed).integers(1, 224, (3, 4)).tolist()
    ripples = sum(
        ((x - cx) ** 2 * wide + (y - cy) ** 2 * high) // (50 + 40 * n)
        for n, (cx, cy, wide, high) in enumerate(circles)
    )
    shade = (ripples % 97)[..., None] * np.array([9, 8, 7]) // 10 - 40
    return np.clip(np.array([120, 150, 215]) + shade, 0, 255).astype(np.uint8)
