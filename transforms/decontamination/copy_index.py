"""The evaluation image that each image is nearest to a copy of, by an index on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import faiss
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_check import (
    LEAST_CORNERS,
    PairCheck,
    Query,
    placement_of,
)
from alignset.transforms.decontamination.copy_thumbnails import (
    SIDE_PX,
    WIDTH,
    Thumbnail,
    Vectors,
    cosines,
    descriptors,
    unit_vectors,
)
from alignset.transforms.images.perceptual_hash import thumbnail_hash

THUMBNAILS, ROWS = "planes.u8", "rows.i4"
ENTRIES, VECTORS, SEARCH = "entries.i4", "vectors.i8", "search.faiss"
FILES = (THUMBNAILS, ROWS, ENTRIES, VECTORS, SEARCH)

# Up to as many entries each is compared with the query, in 0.1 ms: of 350 images.
MOST_COMPARED = 10_000
# Beyond, entries are kept in lists of about 600 around centres; the nearest lists are searched.
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
            is_trimmed = (pairs[:, 0] != pairs[:, 1]).any(axis=(1, 2))
            ends = thumbnails_written + np.cumsum(1 + is_trimmed)
            thumbnails_written = int(ends[-1])
            places = np.stack([ends - 1 - is_trimmed, ends - 1], axis=1)
            row_file.write(places.astype("<i4").tobytes())
            is_stored = np.stack([np.ones_like(is_trimmed), is_trimmed], axis=1)
            thumbnail_file.write(pairs[is_stored].tobytes())
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
                f"thumbnails to index must be uint8[k, 2, 64, 64]; got {array.dtype}{array.shape}"
            )
        for first in range(0, len(array), _DESCRIBED_AT_ONCE):
            waiting = np.concatenate([waiting, array[first : first + _DESCRIBED_AT_ONCE]])
            if len(waiting) >= _DESCRIBED_AT_ONCE:
                yield waiting[:_DESCRIBED_AT_ONCE]
                waiting = waiting[_DESCRIBED_AT_ONCE:]
    if len(waiting):
        yield waiting


def _search_of(vectors: npt.NDArray[np.int8]) -> Any:
    """A faiss index that finds the vectors with the largest cosines: exact for few entries."""
    faiss.omp_set_num_threads(1)  # sums of several threads differ in their last bits
    entries = len(vectors)
    if entries <= MOST_COMPARED:
        search: Any = faiss.IndexFlatIP(WIDTH)
    else:
        # The power of two nearest to as many as give lists of about 600.
        wanted = 1 << round(np.log2(entries / _ENTRIES_A_LIST))
        lists = int(np.clip(wanted, _FEWEST_LISTS, _MOST_LISTS))
        search = faiss.index_factory(WIDTH, f"IVF{lists},{_CODES}", faiss.METRIC_INNER_PRODUCT)
        search.cp.niter = 8  # its seed is fixed by faiss
        search.cp.max_points_per_centroid = _SAMPLES_A_LIST
        chosen = np.linspace(0, entries - 1, min(entries, lists * _SAMPLES_A_LIST)).astype(np.int64)
        search.train(unit_vectors(vectors[chosen]))
    for first in range(0, entries, _ADDED_AT_ONCE):
        search.add(unit_vectors(vectors[first : first + _ADDED_AT_ONCE]))
    return search


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


def _all_variants() -> tuple[Variant, ...]:
    upright = [
        Variant("whole", False, 1.0, 0, 0, False),
        Variant("trimmed", True, 1.0, 0, 0, False),
    ]
    for side, rows, columns in (
        (56, ("top", "bottom"), ("left", "right")),
        (48, ("top", "middle", "bottom"), ("left", "centre", "right")),
    ):
        size = side / SIDE_PX
        upright += [
            Variant(f"crop_{round(100 * size)}_{row}_{column}", True, size, 8 * x, 8 * y, False)
            for y, row in enumerate(rows)
            for x, column in enumerate(columns)
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


_LISTS_SEARCHED = 32
_NEAREST = 16  # entries whose cosines are computed exactly
# Together these take half the time. From 20 on faiss multiplies by BLAS, whose last bits differ.
_SEARCHED_AT_ONCE = 16
_LEAST_COSINE, _MOST_CHECKED = 0.7, 4  # of what is checked, and how many evaluation images
_LEAST_TEXTURED = 0.1  # of the fine band; of less the correlations are chance
# What has few corners is compared as a whole: the bits of a perceptual hash, each of which counts
# as so much distance, and the correlation.
_BIT_DISTANCE, _LEAST_CORRELATION = 0.1, 0.7
# Shares of one tone from which, and up to which, a disagreement counts more, and how much at most.
_PLAIN, _PLAIN_WEIGHT = (0.3, 0.5), 2.2
_FARTHEST_CHECKED = 0.999


class Nearest(NamedTuple):
    """The nearest evaluation image of an image.

    Attributes:
      row: its number in the index. distance: 0 to 2.
      numbers: what was found on the way, by name: the cosine, the variant, and a `PairCheck`.
    """

    row: int
    distance: float
    numbers: Mapping[str, float | str]


class CopyIndex:
    """An index of evaluation images, mapped. Several threads may search it at once."""

    def __init__(self, place: Path) -> None:
        """Opens the index that `build_copy_index` made in a folder.

        Raises:
          ValueError: files of it are missing, cut or damaged.
        """
        try:
            self._vectors: Vectors = _mapped(place / VECTORS, "i1", WIDTH)
            self._entries = _mapped(place / ENTRIES, "<i4", 2)
            self._rows = _mapped(place / ROWS, "<i4", 2)
            self._thumbnails = _mapped(place / THUMBNAILS, "u1", SIDE_PX, SIDE_PX)
            if len(self._vectors) != len(self._entries):
                raise OSError("files of it have not the same length")
            _check_range(ENTRIES, self._entries[:, 0], len(self._rows))
            _check_range(ENTRIES, self._entries[:, 1], len(VARIANTS))
            _check_range(ROWS, self._rows, len(self._thumbnails))
            entries = len(self._entries)
            self._search: Any = _opened_search(place / SEARCH, entries) if entries else None
        except (OSError, RuntimeError, ValueError) as error:  # faiss raises RuntimeError
            fault = str(error).partition("\n")[0]
            raise ValueError(
                f"the index of evaluation images in {place} cannot be read: {fault}; remove the "
                "folder, and it is made anew"
            ) from error

    def __len__(self) -> int:
        """How many evaluation images it has."""
        return len(self._rows)

    def nearest(self, thumbnails: npt.NDArray[np.uint8]) -> list[Nearest | None]:
        """For each image the evaluation image that it is nearest to a copy of.

        A distance is 0 to 2, in thousandths. Below 1 the thumbnails were compared place by place: 0
        is agreement everywhere, and the numbers are a `PairCheck`'s, too. From 1 on they were
        not: it is 2 less the cosine of the descriptors.

        An image's match depends on that image alone, to the last bit: not on the others of the
        batch, nor on how many threads there are.

        Args:
          thumbnails: uint8[n, 2, 64, 64], as `stack_thumbnails` makes them.
        """
        nearest = self.candidates(thumbnails, _MOST_CHECKED)
        return [min(of, key=lambda near: near.distance) if of else None for of in nearest]

    def candidates(self, thumbnails: npt.NDArray[np.uint8], most: int) -> list[list[Nearest]]:
        """The same of several evaluation images for each image: of those that are checked, so many
        at most, or else of the nearest one."""
        matches: list[list[Nearest]] = [[] for _ in thumbnails]
        if not len(self):
            return matches
        vectors = descriptors(thumbnails[:, 1])
        rows = np.flatnonzero(vectors.any(axis=1))
        for row, near in zip(rows.tolist(), self._nearest_images(vectors[rows]), strict=True):
            matches[row] = self._match(thumbnails[row], near, most)
        return matches

    def may_match(self, vectors: Vectors, least_cosine: float) -> list[int]:
        """Which of some images, by their descriptors alone, may be near an evaluation image.

        Args:
          vectors: int8[n, 64], as `descriptors` gives them.
        """
        if not len(self):
            return []
        near = self._nearest_images(vectors)
        return [at for at, of in enumerate(near) if of and of[0][0] >= least_cosine]

    def _match(
        self, thumbnails: npt.NDArray[np.uint8], near: list[tuple[float, int]], most: int
    ) -> list[Nearest]:
        if near and near[0][0] <= _LEAST_COSINE:
            cosine, entry = near[0]
            row, variant = self._entries[entry].tolist()
            numbers = {"cosine": round(cosine, 3), "variant": VARIANTS[variant].name}
            return [Nearest(row, round(2 - cosine, 3), numbers)]
        query = Query(thumbnails[1])
        return [self._checked(query, cosine, entry) for cosine, entry in near[:most]]

    def _nearest_images(self, vectors: Vectors) -> list[list[tuple[float, int]]]:
        """For each descriptor the cosine and the entry of the nearest variant of each evaluation
        image that is to be checked, best first; of the nearest one where none is."""
        faiss.omp_set_num_threads(1)  # of this thread alone
        units, found = unit_vectors(vectors), np.empty((len(vectors), _NEAREST), np.int64)
        for first in range(0, len(units), _SEARCHED_AT_ONCE):
            some = slice(first, first + _SEARCHED_AT_ONCE)
            found[some] = self._search.search(units[some], _NEAREST)[1]
        found.sort(axis=1)
        found[found >= len(self._entries)] = -1  # which a damaged file may tell of
        exact = cosines(vectors, self._vectors, found)
        order = np.argsort(-exact, axis=1, kind="stable")
        ranked = (np.take_along_axis(of, order, axis=1).tolist() for of in (exact, found))
        nearest = []
        for pairs in map(zip, *ranked):
            best: dict[int, tuple[float, int]] = {}
            for cosine, entry in pairs:
                if entry < 0 or (best and cosine <= _LEAST_COSINE):
                    break
                best.setdefault(int(self._entries[entry, 0]), (cosine, entry))
            nearest.append([*best.values()])
        return nearest

    def _checked(self, query: Query, cosine: float, entry: int) -> Nearest:
        row, number = self._entries[entry].tolist()
        variant = VARIANTS[number]
        thumbnail = self._thumbnails[self._rows[row, int(variant.of_trimmed)]]
        if variant.is_mirrored:
            thumbnail = np.ascontiguousarray(thumbnail[:, ::-1])
        check = query.check(thumbnail, placement_of(variant.size, *variant.start_px))
        distance = distance_of(check)
        if check.corners < LEAST_CORNERS:  # whichever part is nearest, both are compared whole
            distance = distance_of_smooth(query.thumbnail, thumbnail)
        numbers: dict[str, float | str] = {"cosine": round(cosine, 3), "variant": variant.name}
        numbers |= {name: round(float(n), 3) for name, n in check._asdict().items()}
        return Nearest(row, distance, numbers)


def thumbnail_distance(thumbnail: Thumbnail, other: Thumbnail) -> float:
    """The distance of two thumbnails that may lie on each other as they are."""
    check = Query(thumbnail).check(other, placement_of(1.0, 0, 0))
    smooth = check.corners < LEAST_CORNERS
    return distance_of_smooth(thumbnail, other) if smooth else distance_of(check)


def distance_of(check: PairCheck) -> float:
    """0 where two thumbnails agree everywhere, up to 0.999 where they don't, in thousandths.

    It is the disagreement of the fine detail and half the coarse one's, and more where one tone
    fills much of a thumbnail: drawings, charts and windows of one program agree in many places, and
    photographs don't.
    """
    if check.fine_textured <= _LEAST_TEXTURED:
        return _FARTHEST_CHECKED
    coarse = (check.coarse_correlation + check.coarse_agreeing) / 2
    disagreement = 1 - check.fine_correlation + (1 - coarse) / 2
    plain = np.interp(check.plain, _PLAIN, (1.0, _PLAIN_WEIGHT))
    return min(round(max(disagreement * float(plain), 0.0), 3), _FARTHEST_CHECKED)


def distance_of_smooth(thumbnail: Thumbnail, evaluation: Thumbnail) -> float:
    """The same of thumbnails that have hardly any corners, and lie on each other as they are: a
    tenth for each bit in which their perceptual hashes differ."""
    ours, theirs = (each.astype(np.float32) - each.mean() for each in (thumbnail, evaluation))
    lengths = np.sqrt((ours * ours).sum() * (theirs * theirs).sum())
    if not (ours * theirs).sum() > _LEAST_CORRELATION * lengths:
        return _FARTHEST_CHECKED
    bits = (thumbnail_hash(thumbnail) ^ thumbnail_hash(evaluation)).bit_count()
    return min(round(bits * _BIT_DISTANCE, 3), _FARTHEST_CHECKED)


def _check_range(name: str, numbers: npt.NDArray[np.int32], end: int) -> None:
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < end):
        raise OSError(f"{name} tells of what is not there")


def _opened_search(path: Path, entries: int) -> Any:
    # Unlike IO_FLAG_MMAP this maps the codes of fast-scan lists too.
    search = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    if search.ntotal != entries:
        raise OSError(f"{path.name} has {search.ntotal} entries, and not {entries}")
    if hasattr(search, "nprobe"):
        search.nprobe = _LISTS_SEARCHED
    return search


def _mapped(path: Path, kind: str, *shape: int) -> npt.NDArray[Any]:
    rows, rest = divmod(os.path.getsize(path), math.prod(shape) * np.dtype(kind).itemsize)
    if rest:
        raise OSError(f"{path.name} is cut")
    if not rows:
        return np.zeros((0, *shape), kind)  # nothing cannot be mapped
    return np.memmap(path, kind, "r", shape=(rows, *shape)).view(np.ndarray)
