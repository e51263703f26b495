"""The files of an index of evaluation images, and how they are made out of their thumbnails.

    planes.u8      uint8[m, 64, 64]: each image's whole thumbnail, and its trimmed one if different
    rows.i4        int32[n, 2]: which of these are the whole and the trimmed thumbnail of an image
    entries.i4     int32[e, 2]: the row of an image, and which of its 28 or 30 variants
    vectors.i8     int8[e, 64]: the descriptors of these
    search.faiss   by which the nearest of these are found

An image takes 2 KB of vectors, 0.9 KB of entries and codes, and 4 or 8 KB of thumbnails: 100,000
images take 0.7 to 1.1 GB of disk. All of it is mapped, so that the processes of a machine share
what is read of it.

An entry is a variant of an image: whole, cropped or mirrored. A crop moves too much for a
descriptor that tells a hundred thousand images apart, so a copy needs to be near one variant only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import faiss
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_thumbnails import SIDE_PX, Thumbnail
from alignset.transforms.decontamination.copy_vectors import WIDTH, as_unit, descriptors

THUMBNAILS, ROWS = "planes.u8", "rows.i4"
ENTRIES, VECTORS, SEARCH = "entries.i4", "vectors.i8", "search.faiss"
FILES = (THUMBNAILS, ROWS, ENTRIES, VECTORS, SEARCH)

# Up to as many entries each is compared with the query, in 0.1 ms: of 350 images.
MOST_COMPARED = 10_000
# Beyond, entries are kept in lists of about 600 around centres, of which the nearest are searched.
# More centres than the most take too long to find: 16,384 serve a million images.
_ENTRIES_A_LIST, _FEWEST_LISTS, _MOST_LISTS = 600, 16, 1 << 14
_SAMPLES_A_LIST = 40  # what the centres are found from; faiss asks for 39
_CODES = "PQ32x4fs"  # 32 numbers of 4 bits, 16 bytes an entry, compared by look-ups in registers
_ADDED_AT_ONCE = 1 << 16
_DESCRIBED_AT_ONCE = 8  # images, so that what is made of them is in the processor's cache


def build_copy_index(thumbnails: Iterable[npt.NDArray[np.uint8]], folder: Path) -> int:
    """Builds the index of evaluation images in an existing folder of this machine.

    The same thumbnails give the same bytes, however they are divided into arrays. It takes 3 ms of
    CPU an image, on one thread, and memory for the search's codes: 0.7 KB an image, and 60 MB.

    Args:
      thumbnails: arrays uint8[k, 2, 64, 64] of k images each, as `stack_thumbnails` makes them. An
        image's row counts from the first array on.

    Returns:
      How many images there are.

    Raises:
      ValueError: an array has another shape or another type.
    """
    images = thumbnails_written = 0
    with (
        open(folder / THUMBNAILS, "wb") as thumbnail_file,
        open(folder / ROWS, "wb") as row_file,
        open(folder / ENTRIES, "wb") as entry_file,
        open(folder / VECTORS, "wb") as vector_file,
    ):
        for pairs in _evenly(thumbnails):
            thumbnails_written += _write_thumbnails(
                pairs, thumbnails_written, thumbnail_file, row_file
            )
            variants = [variants_of(pair) for pair in pairs]
            for row, (numbers, _) in enumerate(variants, images):
                entry = np.stack([np.full_like(numbers, row), numbers], axis=1)
                entry_file.write(entry.astype("<i4").tobytes())
            vectors = descriptors(np.concatenate([made for _, made in variants]))
            vector_file.write(vectors.tobytes())
            images += len(pairs)
    if images:
        vectors = np.memmap(folder / VECTORS, np.int8, "r").reshape(-1, WIDTH)
        faiss.write_index(_search_of(vectors), str(folder / SEARCH))
    return images


def _evenly(arrays: Iterable[npt.NDArray[np.uint8]]) -> Iterable[npt.NDArray[np.uint8]]:
    """The same images, some at once."""
    waiting = np.empty((0, 2, SIDE_PX, SIDE_PX), np.uint8)
    for array in arrays:
        if array.dtype != np.uint8 or array.shape[1:] != waiting.shape[1:]:
            raise ValueError(
                f"planes to index must be uint8[k, 2, 64, 64]; got {array.dtype}{array.shape}"
            )
        for first in range(0, len(array), _DESCRIBED_AT_ONCE):
            waiting = np.concatenate([waiting, array[first : first + _DESCRIBED_AT_ONCE]])
            if len(waiting) >= _DESCRIBED_AT_ONCE:
                yield waiting[:_DESCRIBED_AT_ONCE]
                waiting = waiting[_DESCRIBED_AT_ONCE:]
    if len(waiting):
        yield waiting


def _write_thumbnails(
    pairs: npt.NDArray[np.uint8], earlier: int, thumbnail_file: BinaryIO, row_file: BinaryIO
) -> int:
    """Writes the thumbnails of some images, and where they stand; returns how many there are."""
    is_trimmed = (pairs[:, 0] != pairs[:, 1]).any(axis=(1, 2))
    counts = 1 + is_trimmed
    rows = np.empty((len(pairs), 2), "<i4")
    rows[:, 0] = earlier + np.cumsum(counts) - counts
    rows[:, 1] = rows[:, 0] + is_trimmed
    for (whole, trimmed), differs in zip(pairs, is_trimmed, strict=True):
        thumbnail_file.write(whole.tobytes())
        if differs:
            thumbnail_file.write(trimmed.tobytes())
    row_file.write(rows.tobytes())
    return int(counts.sum())


def _search_of(vectors: npt.NDArray[np.int8]) -> Any:
    """A faiss index that finds the vectors with the largest cosines: exact for few entries."""
    faiss.omp_set_num_threads(1)  # sums of several threads differ in their last bits
    entries = len(vectors)
    if entries <= MOST_COMPARED:
        search: Any = faiss.IndexFlatIP(WIDTH)
    else:
        lists = lists_for(entries)
        search = faiss.index_factory(WIDTH, f"IVF{lists},{_CODES}", faiss.METRIC_INNER_PRODUCT)
        search.cp.niter = 8  # its seed is fixed by faiss
        search.cp.max_points_per_centroid = _SAMPLES_A_LIST
        chosen = np.linspace(0, entries - 1, min(entries, lists * _SAMPLES_A_LIST)).astype(np.int64)
        search.train(as_unit(vectors[chosen]))
    for first in range(0, entries, _ADDED_AT_ONCE):
        search.add(as_unit(vectors[first : first + _ADDED_AT_ONCE]))
    return search


def lists_for(entries: int) -> int:
    """The power of two nearest to as many as give lists of about 600."""
    wanted = 1 << round(np.log2(entries / _ENTRIES_A_LIST))
    return int(np.clip(wanted, _FEWEST_LISTS, _MOST_LISTS))


class Variant(NamedTuple):
    """A part of an evaluation image.

    Attributes:
      name: for people, as in "crop_75_top_left_mirrored".
      of_trimmed: whether it is of the trimmed thumbnail.
      size: of its sides, as a share of the thumbnail's.
      x_px, y_px: its left upper corner in the thumbnail.
      is_mirrored: whether it is then flipped left to right.
    """

    name: str
    of_trimmed: bool
    size: float
    x_px: int
    y_px: int
    is_mirrored: bool

    @property
    def start_px(self) -> tuple[float, int]:
        """Where its left upper corner is in the thumbnail, flipped where the variant is."""
        left = SIDE_PX * (1 - self.size) - self.x_px if self.is_mirrored else self.x_px
        return left, self.y_px


def _crops(side_px: int, down: dict[str, int], across: dict[str, int]) -> list[Variant]:
    size = side_px / SIDE_PX
    return [
        Variant(f"crop_{round(100 * size)}_{y_name}_{x_name}", True, size, x, y, False)
        for y_name, y in down.items()
        for x_name, x in across.items()
    ]


def _all_variants() -> tuple[Variant, ...]:
    upright = [
        Variant("whole", False, 1.0, 0, 0, False),
        Variant("trimmed", True, 1.0, 0, 0, False),
        *_crops(56, {"top": 0, "bottom": 8}, {"left": 0, "right": 8}),
        *_crops(48, {"top": 0, "middle": 8, "bottom": 16}, {"left": 0, "centre": 8, "right": 16}),
    ]
    mirrored = [v._replace(name=f"{v.name}_mirrored", is_mirrored=True) for v in upright]
    return *upright, *mirrored


VARIANTS = _all_variants()


def variants_of(
    pair: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The variants of an image, and their thumbnails.

    Args:
      pair: uint8[2, 64, 64], its whole and its trimmed thumbnail.

    Returns:
      int32[m], their numbers in `VARIANTS`, and uint8[m, 64, 64]. m is 30, and 28 where nothing was
      trimmed and both thumbnails are the same. Takes 0.1 ms.
    """
    is_trimmed = bool((pair[0] != pair[1]).any())
    numbers = [n for n, v in enumerate(VARIANTS) if is_trimmed or v.size < 1 or not v.of_trimmed]
    half = len(numbers) // 2
    made = np.empty((len(numbers), SIDE_PX, SIDE_PX), np.uint8)
    for at, number in enumerate(numbers[:half]):
        made[at] = _cut(pair[int(VARIANTS[number].of_trimmed)], VARIANTS[number])
    made[half:] = made[:half, :, ::-1]
    return np.array(numbers, np.int32), made


def _cut(thumbnail: Thumbnail, variant: Variant) -> Thumbnail:
    if variant.size == 1:
        return thumbnail
    side = round(SIDE_PX * variant.size)
    x, y = variant.x_px, variant.y_px
    part = thumbnail[y : y + side, x : x + side]
    whole = cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole, np.uint8)
