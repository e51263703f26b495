"""Bounds that Pillow lacks. A small file could hold it for an hour, or take all memory.

Each has a test that fails if a new version of Pillow no longer goes through it.
"""

from __future__ import annotations

import struct
from typing import IO, Any

import numpy as np
from PIL import TiffImagePlugin

# A directory of EXIF: how many entries, and of each the tag, the type, how many values of that, and
# where they are. Source: TIFF 6.0, section 2.
_ENTRY_BYTES, _LONGEST_INLINE = 12, 4
_TIMES_ITS_BYTES = 4  # an honest one takes once
_BYTES_OF_TYPE = np.zeros(1 << 16, np.int64)
_BYTES_OF_TYPE[[1, 2, 6, 7]] = 1
_BYTES_OF_TYPE[[3, 8]] = 2
_BYTES_OF_TYPE[[4, 9, 11, 13]] = 4
_BYTES_OF_TYPE[[5, 10, 12, 16]] = 8


def bound_exif() -> None:
    """Has Pillow refuse EXIF whose values together take many times the bytes that there are.

    Every value may refer to the same bytes, of which Pillow makes a copy for each: 64 KiB become
    350 MiB, and a megabyte 65 GB.
    """
    directory = TiffImagePlugin.ImageFileDirectory_v2
    load = directory.load
    if getattr(load, "bounded", False):
        return

    def bounded_load(self: Any, fp: IO[bytes]) -> None:
        begin = fp.tell()
        size = fp.seek(0, 2)
        fp.seek(begin)
        if self._bigtiff or _values_bytes(fp, self._endian, size) > _TIMES_ITS_BYTES * size:
            raise ValueError("EXIF refers to its bytes again and again")
        fp.seek(begin)
        load(self, fp)

    bounded_load.bounded = True  # type: ignore[attr-defined]
    directory.load = bounded_load  # type: ignore[method-assign]


def _values_bytes(fp: IO[bytes], order: str, most: int) -> int:
    """How many bytes the values take that are not in the entries of the directory at this place,
    each at most so many."""
    head = fp.read(2)
    count = struct.unpack(f"{order}H", head)[0] if len(head) == 2 else 0
    entries = fp.read(count * _ENTRY_BYTES)
    whole = entries[: len(entries) // _ENTRY_BYTES * _ENTRY_BYTES]
    fields = np.frombuffer(whole, np.dtype(f"{order}u2, {order}u2, {order}u4, {order}u4"))
    sizes = _BYTES_OF_TYPE[fields["f1"]] * fields["f2"].astype(np.int64)
    return int(np.minimum(sizes[sizes > _LONGEST_INLINE], most).sum())
