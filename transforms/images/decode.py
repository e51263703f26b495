"""Images decoded, as a viewer shows them: here, or in a child process that is ended where it takes
too much.

JPEGs, PNGs and GIFs are decoded here: their decoders take time and memory by the pixels alone, once
`FileLook.refusal` has passed them. Others are not so well known. Pillow opens files with bounds
that it lacks: a small file could hold it for a minute, or take all memory. libjpeg-turbo decodes
JPEGs at an eighth of their size, a quarter, a half or whole; it gets no frame that
`JpegHeader.error` names.
"""

from __future__ import annotations

import functools
import io
import os
import re
import struct
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import simplejpeg
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
from PIL import Image as PillowImage

from alignset.transforms.images.file_formats import (
    FileLook,
    gif_without_comments,
    png_lacks_pixels,
    png_of_one_profile,
    signature_format,
)
from alignset.transforms.images.headers import JpegHeader
from alignset.transforms.workers.limited_process import (
    CostlyError,
    Function,
    Limits,
    RaisedError,
    call_limited,
)

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
    return _OPENERS[name](io.BytesIO(remove_repeats(body, name)))


def remove_repeats(body: bytes, name: str) -> bytes:
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

    Every value may refer to the same bytes, and Pillow copies them for each: 64 KiB become
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


Pixels = npt.NDArray[np.uint8]  # [height, width] of grey, or [height, width, 3] of RGB

_ORIENTATION = 0x0112
# Where Pillow keeps what its `getexif` reads; asking costs 40 µs even where there is nothing.
_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
# Least shorter side of an image in grey: twice the side at which copies are compared.
_GREY_PX = 128
# Both sides of an image in grey are below: 80 million px of a strip are a file of 10 KB.
_MOST_GREY_PX = 1 << 13
# By EXIF's orientation.
TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


def orientation(picture: PillowImage.Image) -> int:
    """EXIF's 1 to 8; 1, upright, where there is none that can be read."""
    if picture.format in ("GIF", "BMP"):
        return 1
    try:
        if not any(key in picture.info for key in _EXIF_KEYS):
            return 1
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block does not make the image bad
        return 1
    return value if value in range(1, 9) else 1


def displayed_picture(picture: PillowImage.Image) -> PillowImage.Image:
    """The image as a viewer shows it: 8 bits a sample, first frame, upright, over white.

    Returns:
      An image in mode "L" or "RGB". CMYK is converted without its colour profile.
    """
    picture.load()
    turn = TURNS.get(orientation(picture))
    if picture.mode.startswith("I"):
        # Only PNG's 16-bit grey comes so. Pillow's `convert` would clip it, not scale it.
        picture = PillowImage.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.has_transparency_data:
        over = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        picture = PillowImage.new("RGB", over.size, "white")
        picture.paste(over, mask=over.getchannel("A"))
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return picture.transpose(turn) if turn is not None else picture


def rgb_pixels(picture: PillowImage.Image) -> Pixels:
    """uint8[height, width, 3] of a displayed image in any mode."""
    return np.asarray(picture.convert("RGB"))


def small_grey(grey: PillowImage.Image) -> Pixels:
    """uint8[h, w]: a displayed image in mode "L", its shorter side from 128 to 255 px if it had as
    many, and its longer one below 8192 px."""
    factor = max(1, min(grey.size) // _GREY_PX)
    across, down = (max(factor, 1 + side // _MOST_GREY_PX) for side in grey.size)
    return np.asarray(grey.reduce((across, down)) if max(across, down) > 1 else grey)


# An image of more pixels waits until no other such is being decoded: they take up to 16 bytes each.
MANY_PIXELS = 1 << 24
MANY = RLock()  # whoever holds what was decoded has the turn until it is dropped
KNOWN_FORMATS = ("jpeg", "png", "gif")
MAX_MEMORY = 3 << 29  # bytes of a decode
# Images take 0.02 us and 8 to 16 bytes a pixel, and some ms to begin with.
_CPU_S, _CPU_S_A_PIXEL = 2.0, 2e-7
_MEMORY, _MEMORY_A_PIXEL = 1 << 27, 24
_NO_MEMORY = "decoder error -9"  # as Pillow says it of libtiff
_PICTURE = struct.Struct("<II4s")


def _renew() -> None:
    global MANY
    MANY = RLock()


os.register_at_fork(after_in_child=_renew)  # a thread of the parent may hold it


def turn_of(pixels: int) -> AbstractContextManager[object]:
    """Lets only one image of many pixels at a time be decoded in this process."""
    return MANY if pixels > MANY_PIXELS else nullcontext()


def turn_of_file(look: FileLook) -> AbstractContextManager[object]:
    """The same for a file; `examine` says whether its header can be read."""
    try:
        width, height = look.size
    except Exception:
        return nullcontext()
    return turn_of(width * height)


def decoded_picture(body: bytes, name: str, pixels: int) -> PillowImage.Image:
    """The image in a file as displayed: mode "L" or "RGB", with its colour profile in `info`.

    Args:
      name: its format. pixels: as many as its header says that it has, which bounds the decode.

    Raises:
      CostlyError: it takes more CPU time or memory than an image of so many pixels.
      CrashError: it ends the process that decodes it.
      EOFError: the file is cut, or a PNG has fewer rows than its header says.
      Exception: it cannot be decoded; Pillow raises many kinds.
    """
    if name not in KNOWN_FORMATS:
        return decoded_apart(displayed_parts, body, pixels)
    picture = open_picture(body, name)
    picture.load()
    if name == "png":  # Pillow leaves lost rows at zero; body[28] says whether it is interlaced
        last_row = picture.crop((0, picture.height - 1, picture.width, picture.height))
        if (body[28] or not any(last_row.tobytes())) and png_lacks_pixels(body):
            raise EOFError("rows are missing")
    display = displayed_picture(picture)
    display.info = {"icc_profile": picture.info.get("icc_profile")}
    return display


def decoded_apart(function: Function, body: bytes, pixels: int) -> PillowImage.Image:
    """An image that a function decodes in a child process.

    Args:
      function: to be called there; it returns `parts_of` the image.

    Raises:
      As `decoded_picture`.
    """
    memory = min(MAX_MEMORY, _MEMORY + 2 * len(body) + _MEMORY_A_PIXEL * pixels)
    try:
        limits = Limits(_CPU_S + _CPU_S_A_PIXEL * pixels, memory)
        return picture_of(call_limited(function, body, limits))
    except RaisedError as error:
        if str(error) == _NO_MEMORY:
            raise CostlyError from None
        kind = EOFError if error.kind == "EOFError" else OSError
        raise kind(str(error)) from None


def displayed_parts(body: bytes) -> list[bytes]:
    """`parts_of` an image as displayed. Raises what Pillow raises."""
    picture = open_picture(body, signature_format(body) or "")
    display = displayed_picture(picture)
    profile = picture.info.get("icc_profile")
    if display is picture:
        display = PillowImage.Image()._new(picture.im)
    del picture  # frees its decoder's memory before the samples get theirs
    return parts_of(display, profile)


def parts_of(picture: PillowImage.Image, profile: bytes | None = None) -> list[bytes]:
    """An image in mode "L" or "RGB" as bytes: its size, its colour profile, its samples."""
    head = _PICTURE.pack(*picture.size, picture.mode.ljust(4).encode())
    return [head, profile or b"", picture.tobytes()]


def picture_of(parts: Sequence[bytes]) -> PillowImage.Image:
    """The image of such parts, with its colour profile in `info`."""
    head, profile, samples = parts
    width, height, mode = _PICTURE.unpack(head)
    picture = PillowImage.frombytes(mode.strip().decode(), (width, height), samples)
    picture.info = {"icc_profile": bytes(profile) or None}
    return picture


# A JPEG is decoded to a shorter side of as many px at least, if it has them. The usual network for
# unsafe images takes as many.
SHORTER_PX = 224
# libjpeg warns of these too, and every viewer shows the image: junk between segments (not in the
# samples or after them, where it stands for lost ones), and profiles that are not whole.
_HARMLESS = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-9])|bad ICC|Adobe|JFIF|Invalid SOS"
)


def jpeg_pixels(body: bytes, header: JpegHeader) -> Pixels | str | None:
    """The image as stored, in grey or RGB, whose shorter side has 224 px or more if the whole
    one's has.

    Returns:
      uint8[height, width] or uint8[height, width, 3];
      "truncated" or "broken" where samples are lost, whether or not an end marker follows; None
      where another decoder must look at it.
    """
    # By halves alone: libjpeg's other eighths take as long as the whole, and are less like it.
    shorter = min(header.width, header.height)
    factor = next((n for n in (8, 4, 2) if shorter >= n * SHORTER_PX), 1)
    size = header.scaled_size(8 // factor)
    try:
        # By accurate steps, which cost no more: what is not reduced is as Pillow decodes it.
        pixels = simplejpeg.decode_jpeg(
            body,
            "GRAY" if header.components == 1 else "RGB",
            fastdct=False,
            fastupsample=False,
            min_height=size[0] if factor > 1 else 0,
            min_width=size[1] if factor > 1 else 0,
            strict=True,
        )
    except ValueError as error:
        message = str(error)
        if "remature end" in message:
            return "truncated"
        return "broken" if "Corrupt" in message and not _HARMLESS.search(message) else None
    if pixels.shape[:2] != size:  # libjpeg found another frame than we
        return None
    return pixels[:, :, 0] if header.components == 1 else pixels
