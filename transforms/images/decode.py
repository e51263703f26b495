"""Images decoded, as a viewer shows them: here, or in a child process that is ended where it takes
too much.

JPEGs, PNGs and GIFs are decoded here: their decoders take time and memory by the pixels alone, once
`FileLook.refusal` has passed them. Others are not so well known.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import RLock

from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.file_formats import FileLook, png_lacks_pixels, signature_format
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.workers.limited_process import (
    CostlyError,
    Function,
    Limits,
    RaisedError,
    call_limited,
)

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
    del picture  # its decoder's memory, before that of the samples
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
