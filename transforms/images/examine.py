"""Facts about an image's bytes: format, size, perceptual hash; or why they are unusable.

Size comes from the header, before any decode. Each image is then decoded whole (its first frame),
JPEG at an eighth of its size or so and in grey: a cut file or one with a hole shows all the same.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage

from alignset.transforms.images.decode import KNOWN_FORMATS, decoded_picture, turn_of
from alignset.transforms.images.displayed_picture import (
    TURNS,
    Pixels,
    displayed_picture,
    orientation,
    small_grey,
)
from alignset.transforms.images.file_formats import foreign_kind, png_lacks_pixels
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.images.jpeg_header import JpegHeader
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.images.perceptual_hash import picture_hash, plane_hash
from alignset.transforms.images.scaled_jpeg import grey_plane
from alignset.transforms.workers.limited_process import CostlyError, CrashError
from alignset.transforms.workers.unexpected import tell_once

# imagehash.phash shrinks to 32 px a side. Of small images with sharp edges its bits from a
# thumbnail of 32 differ from the whole image's by up to 10 (2.2 on average), from one of 96
# by up to 6 (0.6). Of 640x480 they differ by up to 2 (0.2) from a thumbnail of 60 as from one of
# 120, in two thirds of the time.
_SMALLEST_PLANE_PX = 96
_LARGE_PX, _SMALLEST_PLANE_OF_LARGE_PX = 480, 60
# The detail of an image whose decoding ends the process, found where that is tried in another
# (transforms/images/try_decoders.py).
CRASHED_DECODER = "crashed_decoder"
MOST_SHOWN = 1 << 22  # pixels; it takes 17 bytes for each to make a PNG of them


@dataclass(frozen=True, slots=True)
class Image:
    """An image that can be decoded whole.

    Attributes:
      format: "jpeg", "png", "webp", "gif", "bmp" or "avif".
      width, height: px, as stored in the file; an EXIF orientation may turn it for display.
      phash: uint64, `imagehash.phash` of the image as displayed (upright, first frame, over
        white), most significant bit first. A JPEG is hashed from a smaller thumbnail, which is
        mostly within 2 bits; where it was asked for in full, `format(phash, "016x") == str(hash)`.
      plain: whether the file can be given to others as it is: JPEG, PNG or WebP with samples that
        Pillow's `convert("RGB")` reads right, unlike a 16-bit grey PNG's.
      grey: uint8[h, w], the image as displayed, in grey and small, where that was asked for. A
        JPEG's is the thumbnail that it is hashed from.
      picture: the image as displayed, and its colour profile in `info`, where the file is not plain
        and that was asked for.
      jpeg: the header of a JPEG that can be decoded at a part of its size; None of one that Pillow
        must decode, since decoders may differ in what they see.
    """

    format: str
    width: int
    height: int
    phash: int
    plain: bool
    grey: Pixels | None = field(default=None, repr=False, compare=False)
    picture: PillowImage.Image | None = field(default=None, repr=False, compare=False)
    jpeg: JpegHeader | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Unusable:
    """The reason why there is no image.

    Attributes:
      reason: "not_an_image" or "undecodable".
      detail: of not_an_image: "empty", "html", "svg", "xml", "json", "pdf", "other_format" (an
        image or a film of another format) or "unknown"; of undecodable: "truncated", "broken",
        "lossless", "unsupported_frame" (both of JPEGs), "too_many_pixels", "too_many_scans",
        "too_costly", CRASHED_DECODER, or "unexpected" where our own code failed.
      width, height: px, where the header could be read.
    """

    reason: str
    detail: str
    width: int | None = None
    height: int | None = None


def examine(
    file: FileLook | bytes,
    *,
    in_full: bool = False,
    keep_grey: bool = False,
    keep_shown: bool = False,
    hashed: bool = True,
) -> Image | Unusable:
    """Examines a file. Raises nothing for any bytes; may be called by many threads.

    Args:
      file: its bytes, or what is known of them.
      in_full: hash the whole image of a JPEG too.
      keep_grey: give the image in grey, too.
      keep_shown: give the image itself, too, if the file is not plain and has at most 4 million
        pixels.
      hashed: without, what Pillow decodes has the hash 0, and scipy is not imported for it.

    Raises:
      ChildError: no child process can be started, to decode it there.
    """
    look = FileLook(file) if isinstance(file, bytes) else file
    try:
        return examined(look, _Wanted(in_full, keep_grey, keep_shown, hashed))
    except Exception as error:
        tell_once("looking at an image", error)
        return Unusable("undecodable", "unexpected")


class _Wanted(NamedTuple):
    """How `examine` looks, as its arguments say."""

    in_full: bool
    keep_grey: bool
    keep_shown: bool
    hashed: bool


def examined(look: FileLook, options: _Wanted) -> Image | Unusable:
    """Examines one file, and raises what our own code raises."""
    name, size = look.format, look.size
    if name is None:
        return Unusable("not_an_image", foreign_kind(look.body))
    if name == "jpeg" and (jpeg := _known_jpeg(look, options)):
        return jpeg
    fault = look.refusal or look.fault
    try:
        if not fault:
            with turn_of(size[0] * size[1]):
                return _decoded(look, options)
    except CostlyError:
        fault = "too_costly"
    except CrashError:
        fault = CRASHED_DECODER
    except Exception as error:  # Pillow raises some ten kinds, by format and by what is broken
        is_cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
        fault = "truncated" if is_cut else "broken"
    return Unusable("undecodable", fault, *(size if any(size) else ()))


def _known_jpeg(look: FileLook, options: _Wanted) -> Image | Unusable | None:
    """Facts about a JPEG from its header and a grey thumbnail; None where Pillow must decode the
    whole of it."""
    header = look.jpeg
    if header is None:
        return Unusable("undecodable", look.fault or "broken")
    size = look.size
    if fault := header.fault or look.refusal or look.fault:
        return Unusable("undecodable", fault, *size)
    if options.in_full or header.components not in (1, 3) or not header.width * header.height:
        return None
    smallest_px = _SMALLEST_PLANE_OF_LARGE_PX if min(size) >= _LARGE_PX else _SMALLEST_PLANE_PX
    with turn_of(header.width * header.height):
        plane, fault = grey_plane(look.body, header, smallest_px)
    if fault:
        return Unusable("undecodable", fault, *size)
    if plane is None or not header.usual:  # decoders may differ in what they see
        return None
    if header.annotated:
        turn = TURNS.get(_orientation_of_jpeg(look.body))
        if turn is not None:
            plane = np.asarray(PillowImage.fromarray(plane).transpose(turn))
    grey = plane if options.keep_grey else None
    return Image("jpeg", *size, plane_hash(plane), True, grey, jpeg=_scalable(look))


def _scalable(look: FileLook) -> JpegHeader | None:
    header = look.jpeg
    return header if header and header.usual and header.components in (1, 3) else None


def _orientation_of_jpeg(body: bytes) -> int:
    try:
        return orientation(open_picture(body, "jpeg"))
    except Exception:  # Pillow refuses some headers that libjpeg reads
        return 1


def _decoded(look: FileLook, options: _Wanted) -> Image | Unusable:
    name, (width, height) = look.format or "", look.size
    plain, profile = name in ("jpeg", "png", "webp"), None
    if name in KNOWN_FORMATS:
        picture = open_picture(look.body, name)
        width, height = picture.size
        plain = plain and not picture.mode.startswith("I")
        picture.load()
        if name == "png" and _may_lack_rows(picture, look.body) and png_lacks_pixels(look.body):
            return Unusable("undecodable", "truncated", width, height)
        display, profile = displayed_picture(picture), picture.info.get("icc_profile")
    else:
        display = decoded_picture(look.body, name, width * height)
        profile = display.info["icc_profile"]
        if sorted(display.size) != sorted(look.size):
            return Unusable("undecodable", "broken", width, height)
    grey = display.convert("L")
    phash = picture_hash(grey) if options.hashed else 0
    small = small_grey(grey) if options.keep_grey else None
    image = Image(name, width, height, phash, plain, small, jpeg=_scalable(look))
    if plain or not options.keep_shown or width * height > MOST_SHOWN:
        return image
    display.info = {"icc_profile": profile}
    return replace(image, picture=display)


def _may_lack_rows(png: PillowImage.Image, body: bytes) -> bool:
    """False where a decoded PNG surely has all its rows: Pillow leaves lost ones at zero."""
    last_row = png.crop((0, png.height - 1, png.width, png.height))
    interlaced = body[28] != 0
    return interlaced or not any(last_row.tobytes())
