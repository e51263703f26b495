"""Descriptors of planes as vectors of bytes, and the cosine between two of them.

A descriptor's last bits depend on the machine, and bytes hardly do. Sums of their products are
whole numbers, which no order of adding changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import allocating_kernel
from alignset.transforms.decontamination.copy_descriptor import describe
from alignset.transforms.decontamination.copy_planes import SIDE_PX

Vectors = npt.NDArray[np.int8]

WIDTH = 64
# Of unit vectors of 64 nearly even numbers, 1 in 15,000 is beyond 0.5. Cosines of bytes are mostly
# within 0.004 of those of the descriptors, and at worst 0.01.
_SCALE = 254.0
# As many planes are described at once whatever the batch, since how the network multiplies, and so
# its last bits, may depend on how many there are.
_AT_ONCE = 16


def vectors_of(planes: npt.NDArray[np.uint8]) -> Vectors:
    """int8[n, 64] of planes uint8[n, 64, 64]; each depends on its own plane alone."""
    vectors = np.empty((len(planes), WIDTH), np.int8)
    for first in range(0, len(planes), _AT_ONCE):
        some = planes[first : first + _AT_ONCE]
        count = len(some)
        if count < _AT_ONCE:
            filled = np.zeros((_AT_ONCE, SIDE_PX, SIDE_PX), np.uint8)
            filled[:count] = some
            some = filled
        rounded = np.rint(describe(some)[:count] * _SCALE)
        vectors[first : first + count] = np.clip(rounded, -127, 127)
    return vectors


def as_unit(vectors: Vectors) -> npt.NDArray[np.float32]:
    """float32[n, 64] of length 1, or 0 where a vector is zero."""
    floats = vectors.astype(np.float32)
    lengths = np.sqrt((floats * floats).sum(1, keepdims=True))  # of whole numbers, exact
    unit: npt.NDArray[np.float32] = floats / np.maximum(lengths, np.float32(1))
    return unit


@allocating_kernel
def cosines(
    query: Vectors, vectors: Vectors, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """float64[n], rounded to 4 decimals: of the query int8[64] with each of n rows of vectors."""
    made = np.empty(len(rows), np.float64)
    for at in range(len(rows)):
        shared = own = other = np.int32(0)
        for number in range(WIDTH):
            one, two = np.int32(query[number]), np.int32(vectors[rows[at], number])
            shared += one * two
            own += one * one
            other += two * two
        cosine = shared / max(np.sqrt(np.float64(own) * np.float64(other)), 1.0)
        made[at] = np.rint(cosine * 1e4) / 1e4
    return made
