"""Whether a string begins with any of millions of prefixes: one bisection over a sorted array."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.kernels import kernel


def without_longer(
    prefixes: Iterable[bytes],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Prefixes in their order, without those that begin with another of them.

    Among the rest, only the last one that is not behind a string can be its prefix.

    Returns:
      their bytes, uint8[m], and where each ends, int64[n + 1].
    """
    roots: list[bytes] = []
    for prefix in sorted(set(prefixes)):
        if not (roots and prefix.startswith(roots[-1])):
            roots.append(prefix)
    ends = np.cumsum([0, *map(len, roots)], dtype=np.int64)
    return np.frombuffer(b"".join(roots), np.uint8), ends


@kernel
def _compare(data, start, stop, prefix, first, last):  # type: ignore[no-untyped-def]
    """-1 where the string stands before the prefix, 0 where it begins with it, else 1."""
    size = min(stop - start, last - first)
    for place in range(size):
        if data[start + place] != prefix[first + place]:
            return -1 if data[start + place] < prefix[first + place] else 1
    return 0 if size == last - first else -1


@kernel
def _mark(strings, prefixes, marks):  # type: ignore[no-untyped-def]
    data, starts, stops = strings
    prefix, ends = prefixes
    for row in range(len(marks)):
        low, high = 0, len(ends) - 1
        marks[row] = False
        while low < high:
            middle = (low + high) >> 1
            order = _compare(data, starts[row], stops[row], prefix, ends[middle], ends[middle + 1])
            if order == 0:
                marks[row] = True
                break
            if order < 0:
                high = middle
            else:
                low = middle + 1


def begins_with_any(
    strings: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]],
    prefixes: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
) -> Bools:
    """Which strings begin with one of the prefixes: bool[n].

    Args:
      strings: their bytes, uint8[m], and where each starts and stops in them, int64[n].
      prefixes: as `without_longer` gives them.
    """
    marks = np.empty(len(strings[1]), np.bool_)
    _mark(strings, prefixes, marks)
    return marks
