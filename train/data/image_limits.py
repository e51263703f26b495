"""Which files decoders are given, and what an image may cost.

All beside an image's pixels has to be linear in its file, in time and in memory. Pillow's readers
are not: 62 KB of EXIF whose fields lie over each other take 72 s and 1 MB many GB, a GIF's comment
and a JPEG's EXIF in many pieces a minute for 20 MB.
"""

import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from alignset.train.data.samples import LONGEST_IMAGE

_MAX_GIF_BYTES = 1 << 22  # its comment takes 2.5 s then, and time grows with the square
# Of a JPEG, each a pass over all pixels, in ten bytes: 100, or fewer of many pixels. 2^30 take 5 s.
_USUAL_SCANS, _MAX_SCANS, _MAX_SCANNED = 12, 100, 1 << 30
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # of a JPEG, but those that stand in a scan
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
# Baseline, extended, progressive. libjpeg ignores the scale of a decode of a lossless frame, and
# writes the whole image into memory that simplejpeg, or Pillow, has for a part of it.
_DCT_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_OTHER_FRAME = re.compile(b"[%b]" % bytes(sorted(_FRAMES - _DCT_FRAMES)))
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_EXIF, _MAX_EXIF_PIECES = b"Exif\0\0", 64
_MAX_OVERLAP = 1 << 16  # bytes that the fields of an EXIF block have beside twice its own


def check_decodable(data: bytes) -> None:
    """Refuse a file that decoders must not be given.

    Raises:
      DecompressionBombError: it would take long for what it is.
      ValueError: a JPEG that is lossless, hierarchical or arithmetic-coded.
    """
    if len(data) > LONGEST_IMAGE:
        raise Image.DecompressionBombError(f"{len(data)} bytes")
    if data.startswith(b"GIF8") and len(data) > _MAX_GIF_BYTES:
        raise Image.DecompressionBombError(f"a GIF of {len(data)} bytes")
    if data.startswith(b"\xff\xd8"):
        codes = np.frombuffer(data, np.uint8)
        # 8 us for 40 KB, where bytes.count takes 60
        markers = codes[1:][codes[:-1] == 0xFF].tobytes()
        if markers.count(0xE1) > _MAX_EXIF_PIECES < data.count(_EXIF):
            raise Image.DecompressionBombError("EXIF of too many pieces")
        # So often it may stand in a film behind the image; then each marker is looked at.
        if markers.count(_SOS) > _USUAL_SCANS and _has_too_many_scans(data):
            raise Image.DecompressionBombError("a JPEG of too many scans")
        if _OTHER_FRAME.search(markers) and _first_frame(data) not in _DCT_FRAMES:
            raise ValueError("the JPEG is lossless, or of another rare coding")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment of a JPEG, and where its length stands."""
    at = 2
    while match := _MARKER.search(data, at):
        marker, at = data[match.start() + 1], match.end()
        yield marker, at
        at += int.from_bytes(data[at : at + 2]) if marker != _SOI else 0


def _first_frame(data: bytes) -> int:
    """Return the marker of the frame that decoders meet: they refuse a file that has another."""
    return next((marker for marker, _ in _segments(data) if marker in _FRAMES), 0)


def _has_too_many_scans(data: bytes) -> bool:
    scans, most = 0, _MAX_SCANS
    for marker, at in _segments(data):
        if marker == _EOI or scans > most:
            break
        if marker in _FRAMES:  # its height and width
            height, width = (int.from_bytes(data[at + n : at + n + 2]) for n in (3, 5))
            most = min(most, max(_USUAL_SCANS, _MAX_SCANNED // max(1, height * width)))
        scans += marker == _SOS
    return scans > most


class _Metered:
    """A file that is read at most twice over and a little."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        here = file.tell()
        self._left = 2 * file.seek(0, os.SEEK_END) + _MAX_OVERLAP
        file.seek(here)

    def read(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise OSError("its fields lie over each other")
        return self._read(count)


def _limit_exif() -> None:
    """Has Pillow take what it has read of an EXIF block by then for all of it."""
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    if not hasattr(load, "__wrapped__"):
        # Pillow has no limit of its own that could be set.
        TiffImagePlugin.ImageFileDirectory_v2.load = _metered(load)  # type: ignore[method-assign]


def _metered(load: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(load)
    def metered(directory: TiffImagePlugin.ImageFileDirectory_v2, file: BinaryIO) -> None:
        load(directory, _Metered(file))

    return metered


_limit_exif()
