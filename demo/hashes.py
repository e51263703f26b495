"""Perceptual hashes: copies of evaluation images must be near them, and all else far."""

import imagehash
import numpy as np
from PIL import Image

BITS_OF_COPY = 3  # at most; the rule under test is 5
BITS_OF_OTHER = 10  # at least; leaves the decoder a bit of its own


def perceptual_hash(picture: Image.Image) -> np.uint64:
    return np.packbits(imagehash.phash(picture).hash).view(">u8").astype(np.uint64)[0]


def bits_to_nearest(perceptual: np.uint64, others: np.ndarray) -> int:
    """Differing bits between a hash and the nearest of uint64[n] others."""
    return int(np.bitwise_count(others ^ perceptual).min())
