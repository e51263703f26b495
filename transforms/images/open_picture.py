"""Image files as Pillow opens them, with bounds that it lacks: a small file could hold it for a
minute, or take all memory."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import IO, Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from alignset.transforms.images.file_formats import gif_without_comments, png_of_one_profile

# Opened by their own classes: `PIL.Image.open` would try others, and warn of large images itself.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
_CLEANERS = {"gif": gif_without_comments, "png": png_of_one_profile}
_MAX_OVERLAP = 1 << 16  # bytes that the values of EXIF may have beside twice its own


def open_picture(body: bytes, name: str) -> ImageFile.ImageFile:
    """The image in a file, not decoded yet; `name` is its format."""
    return _OPENERS[name](io.BytesIO(without_repeats(body, name)))


def without_repeats(body: bytes, name: str) -> bytes:
    """A file without what Pillow reads again and again: comments of a GIF, profiles of a PNG."""
    return _CLEANERS[name](body) if name in _CLEANERS else body


class _Metered:
    """A file that is read at most twice over and a little."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        begin = file.tell()
        self._budget = 2 * file.seek(0, 2) + _MAX_OVERLAP
        file.seek(begin)

    def read(self, count: int) -> bytes:
        self._budget -= count
        if self._budget < 0:
            raise OSError("the values of EXIF lie over each other")
        return self._read(count)


def bound_exif() -> None:
    """Has Pillow take what it has read of EXIF by then for all of it.

    Every value may refer to the same bytes, of which Pillow makes a copy for each: 64 KiB become
    350 MiB, and a megabyte 65 GB.
    """
    directory = TiffImagePlugin.ImageFileDirectory_v2
    load = directory.load
    if hasattr(load, "__wrapped__"):
        return

    @functools.wraps(load)
    def metered(self: Any, file: IO[bytes]) -> None:
        load(self, _Metered(file))  # type: ignore[arg-type]

    directory.load = metered  # type: ignore[assignment, method-assign]


bound_exif()
