"""Boxes of images, such as faces, blurred as img2dataset's `--bbox_col` does.

A box is [x_min, y_min, x_max, y_max] in parts of the width and height, as DataComp's `face_bboxes`
has it; a detector may put an edge a little outside of the image.

Source: `blurrer.py` of img2dataset 1.47, which follows the obfuscation of ImageNet's faces (Yang et
al., 2022, "A Study of Face Obfuscation in ImageNet").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.records import Ints
from alignset.transforms.images.decode import Pixels

Boxes = npt.NDArray[np.float64]  # [n, 4]
BAD_BOXES = "bad_boxes"
_LEAST, _MOST = -1.0, 2.0  # of an edge: what is further out was not measured in parts of the image
_MOST_KERNEL = 255  # px; wider ones work on a smaller copy, so that a pixel's cost has a bound
_LEAST_CELL = 64  # px; boxes in neighbouring cells are blurred together
_MARGIN = 0.1  # of a box's longer side, around it; and the blur's sigma by the longest such side


def read_boxes(column: pa.Array) -> tuple[list[Boxes | None], Bools]:
    """The boxes of n rows, None where there are none; and whose cannot be used: bool[n].

    Args:
      column: lists of lists of numbers.
    """
    lists: list[Boxes | None] = []
    is_bad = np.zeros(len(column), np.bool_)
    for row, values in enumerate(column.to_pylist()):
        lists.append(None)
        if values:
            try:
                boxes = np.array(values, np.float64) + 0.0  # not -0.0
                within = boxes.shape[1:] == (4,) and ((boxes >= _LEAST) & (boxes <= _MOST)).all()
            except (TypeError, ValueError):  # lists of several lengths, or null
                within = False
            if within and (boxes[:, :2] <= boxes[:, 2:]).all():
                lists[row] = boxes
            else:
                is_bad[row] = True
    return lists, is_bad


def joined_boxes(lists: Sequence[Boxes]) -> Boxes:
    """All boxes of some lists, each once, in one order."""
    return np.unique(np.concatenate(lists), axis=0)


def boxes_hash(boxes: Boxes | None) -> str | None:
    """Names boxes in a ledger: 16 hex digits; None where there are none."""
    return None if boxes is None else hashlib.sha256(boxes.tobytes()).hexdigest()[:16]


def turned_boxes(boxes: Boxes, orientation: int) -> Boxes:
    """Boxes of an image that a viewer turns: turned with the file, and as they are, since no table
    says whether its boxes are of the file or of the image as displayed.

    Args:
      orientation: EXIF's, 1 to 8.
    """
    if orientation == 1:
        return boxes
    corners = boxes.reshape(-1, 2, 2)[:, :, :: -1 if orientation > 4 else 1]
    is_flipped = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    corners = np.where(is_flipped, 1 - corners, corners)
    turned = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return np.concatenate([boxes, turned])


def blurred(pixels: Pixels, boxes: Boxes) -> Pixels:
    """The image with its boxes blurred, to the last bit as img2dataset does, if no box with a side
    of more than 1,265 px is in it.

    Args:
      pixels: uint8[height, width] or uint8[height, width, channels].
      boxes: at least one. Time grows with the pixels around groups of near boxes, and with boxes,
        not with their product.
    """
    height, width = pixels.shape[:2]
    edges = np.trunc(boxes * (width, height, width, height))
    sides = (edges[:, 2:] - edges[:, :2]).max(axis=1)
    edges = np.trunc(edges + (_MARGIN * sides)[:, None] * (-1, -1, 1, 1))
    edges = edges.clip(0, (width - 1, height - 1) * 2).astype(np.int64)
    kernel = max(3, 2 * int(np.ceil(_MARGIN * sides.max())) + 1)
    # A blurred pixel is within reach of a box, and needs what is within its own reach.
    reach = 2 * (kernel // 2)
    result = (np.arange(256, dtype=np.float32) / 255 * 255).astype(np.uint8)[pixels]
    groups = _groups(edges, reach)
    areas = [np.prod(of[:, 2:].max(axis=0) - of[:, :2].min(axis=0) + 2 * reach) for of in groups]
    # Diagonals within diagonals have regions that are larger together than the image.
    for group in groups if sum(areas) <= width * height else [edges]:
        left, top = np.maximum(group[:, :2].min(axis=0) - reach, 0)
        right, bottom = group[:, 2:].max(axis=0) + reach
        region, blurred_region = (of[top:bottom, left:right] for of in (pixels, result))
        covered = _covered(group - (left, top, left, top), region.shape[:2])
        weights = _gaussian(covered.astype(np.float32), kernel)
        for channel in np.ndindex(region.shape[2:]):  # one by one, for the memory
            samples = region[(..., *channel)].astype(np.float32) / np.float32(255)
            mixed = samples * (1 - weights) + _gaussian(samples, kernel) * weights
            whole = (mixed * 255).astype(np.uint8)
            # Another group may be in the region, and has weights of its own.
            np.copyto(blurred_region[(..., *channel)], whole, where=weights > 0)
    return result


def _groups(edges: Ints, reach: int) -> list[Ints]:
    """Boxes in groups that are not within reach of each other: int64[n, 4] each, in px."""
    cell = max(reach, _LEAST_CELL)
    cells = np.concatenate([edges[:, :2] - reach, edges[:, 2:] + reach], axis=1) // cell
    cells -= np.tile(cells[:, :2].min(axis=0), 2)
    cells[:, 2:] += 1
    width, height = cells[:, 2:].max(axis=0)
    _, labels = cv2.connectedComponents(_covered(cells, (height, width)).astype(np.uint8))
    of_boxes = labels[cells[:, 1], cells[:, 0]]
    order = np.argsort(of_boxes, kind="stable")
    return np.split(edges[order], np.flatnonzero(np.diff(of_boxes[order])) + 1)


def _covered(edges: Ints, size: tuple[int, ...]) -> Bools:
    """Which places of a grid are in a box: bool[height, width].

    Args:
      edges: int64[n, 4]; the greatest ones are outside of a box.
    """
    marks = np.zeros((size[0] + 1, size[1] + 1), np.int32)
    x_min, y_min, x_max, y_max = edges.T
    for rows, columns, sign in (
        *((y_min, x_min, 1), (y_max, x_max, 1)),
        *((y_min, x_max, -1), (y_max, x_min, -1)),
    ):
        np.add.at(marks, (rows, columns), sign)
    for axis in (0, 1):
        np.add.accumulate(marks, axis, np.int32, marks)
    return marks[:-1, :-1] > 0


def _gaussian(values: npt.NDArray[np.float32], kernel: int) -> npt.NDArray[np.float32]:
    factor = -(-kernel // _MOST_KERNEL)
    if factor == 1:
        return np.asarray(cv2.GaussianBlur(values, (kernel, kernel), 0), np.float32)
    height, width = values.shape
    size = -(-width // factor), -(-height // factor)
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (kernel // factor | 1,) * 2, 0)
    return np.asarray(cv2.resize(small, (width, height)), np.float32)
