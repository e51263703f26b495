"""The copy descriptor: 64 numbers of a small grey thumbnail, near the numbers of its altered
copies.

docs/overlap_descriptor.md says how and from what the network's file was made. A descriptor's last
bits depend on the machine, and its bytes hardly do. Sums of the bytes' products are whole numbers,
which no order of adding changes.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_thumbnails import SIDE_PX
from alignset.transforms.decontamination.overlap_settings import DESCRIPTOR_SHA256
from alignset.transforms.images.onnx_networks import open_session

Vectors = npt.NDArray[np.int8]

WIDTH = 64
MODEL_PATH = Path(__file__).with_name("copy_descriptor.onnx")
# Of unit vectors of 64 nearly even numbers, 1 in 15,000 is beyond 0.5. Cosines of bytes are mostly
# within 0.004 of the descriptors' cosines, and at worst 0.01.
_SCALE = 254.0
# As many thumbnails are described at once whatever the batch, since how the network multiplies, and
# so its last bits, may depend on how many there are. With 128 they would leave the cache.
_AT_ONCE = 16
# A flat image has nothing by which it could be told to be a copy.
_LEAST_CONTRAST = 1.0  # grey levels, standard deviation


@lru_cache(maxsize=1)
def _descriptor(path: Path) -> Any:
    body = path.read_bytes()
    if (sha256 := hashlib.sha256(body).hexdigest()) != DESCRIPTOR_SHA256:
        raise ValueError(
            f"{path} has the SHA-256 {sha256}, not {DESCRIPTOR_SHA256} as shipped, and an index "
            "would mean other things: install alignset again"
        )
    return open_session(body)


def descriptors(thumbnails: npt.NDArray[np.uint8]) -> Vectors:
    """int8[n, 64], near each other by cosine for copies of one image; 0 of flat thumbnails, by
    which nothing is told.

    A thumbnail's descriptor depends on its own thumbnail alone. Any thread may call this; the file
    is opened once a process, at the first call.

    Args:
      thumbnails: uint8[n, 64, 64], images squashed to squares.

    Raises:
      ValueError: the file is not the one shipped.
    """
    made = np.zeros((len(thumbnails), WIDTH), np.int8)
    # An eighth of the time of numpy's `std`: 1 us a thumbnail.
    contrasts = [float(cv2.meanStdDev(thumbnail)[1][0, 0]) for thumbnail in thumbnails]
    textured = np.flatnonzero(np.array(contrasts) >= _LEAST_CONTRAST)
    for first in range(0, len(textured), _AT_ONCE):
        some = textured[first : first + _AT_ONCE]
        batch = np.zeros((_AT_ONCE, SIDE_PX, SIDE_PX), np.uint8)
        batch[: len(some)] = thumbnails[some]
        floats = _descriptor(MODEL_PATH).run(None, {"planes": batch})[0][: len(some)]
        made[some] = np.clip(np.rint(floats * _SCALE), -127, 127)
    return made


def as_unit(vectors: Vectors) -> npt.NDArray[np.float32]:
    """float32[n, 64] of length 1, or 0 where a vector is zero."""
    floats = vectors.astype(np.float32)
    lengths = np.sqrt((floats * floats).sum(1, keepdims=True))  # of whole numbers, exact
    unit: npt.NDArray[np.float32] = floats / np.maximum(lengths, np.float32(1))
    return unit


def cosines(
    queries: Vectors, vectors: Vectors, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """float64[n, k], rounded to 4 decimals: of queries int8[n, 64] with k rows of vectors each;
    -2 where a row is negative."""
    own, near = queries.astype(np.int32), vectors[np.maximum(rows, 0)].astype(np.int32)
    shared = np.einsum("nw,nkw->nk", own, near)
    squares = np.einsum("nw,nw->n", own, own)[:, None] * np.einsum(
        "nkw,nkw->nk", near, near, dtype=np.float64
    )
    made: npt.NDArray[np.float64] = np.rint(shared / np.sqrt(np.maximum(squares, 1)) * 1e4) / 1e4
    return np.where(rows < 0, -2.0, made)
