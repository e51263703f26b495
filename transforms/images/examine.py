"""What an image's bytes are: format, size, perceptual hash; or why they are of no use.

Size comes from the header, before any decode. Each picture is then decoded whole (its first frame),
JPEG at an eighth of its size or so and in grey: a cut file or one with a hole shows all the same. A
640x480 photograph of 57 KB takes 0.18 ms beside others.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PillowImage

from alignset.transforms.images.displayed import TURNS, displayed, orientation, small_grey
from alignset.transforms.images.fast_decode import fast_grey
from alignset.transforms.images.file_formats import (
    file_fault,
    foreign_kind,
    gif_without_comments,
    png_lacks_pixels,
    signature_format,
    webp_canvas,
)
from alignset.transforms.images.jpeg_dc import Plane, dc_planes
from alignset.transforms.images.jpeg_header import (
    JpegHeader,
    grey_plane,
    has_too_many_scans,
    jpeg_header,
)
from alignset.transforms.images.perceptual_hash import grey_hash, picture_hash, plane_hash
from alignset.transforms.images.pillow_bounds import bound_exif
from alignset.transforms.workers.unexpected import tell_once

bound_exif()
# Planes of usual JPEGs by `jpeg_dc.py`, or all by libjpeg, which gives the same in thrice the time.
_FAST_PLANES = os.environ.get("ALIGNSET_FAST_JPEG", "1") != "0"
# imagehash.phash shrinks to 32 px a side. Of small pictures with sharp edges its bits from a plane
# of 32 differ from those of the whole picture by up to 10 (2.2 on average), from one of 96 by up to
# 6 (0.6). Of 640x480 they differ by up to 2 (0.2) from a plane of 60 as from one of 120, in two
# thirds of the time.
_SMALLEST_PLANE_PX = 96
_LARGE_PX, _SMALLEST_PLANE_OF_LARGE_PX = 480, 60
# A picture of more pixels than these waits until no other such is being decoded: they take up to
# 8 bytes a pixel.
_MANY_PIXELS = 1 << 24
_MANY = Lock()
# The detail of an image whose decoding ends the process, found where that is tried in another
# (transforms/workers/trial_process.py).
CRASHED_DECODER = "crashed_decoder"
MOST_SHOWN = 1 << 22  # pixels; it takes 17 bytes for each to make a PNG of them

# Opened by their own classes: `PIL.Image.open` would try others, and warn of large pictures itself.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that can be decoded whole.

    Attributes:
      format: "jpeg", "png", "webp", "gif", "bmp" or "avif".
      width, height: px, as stored in the file; an EXIF orientation may turn it for display.
      phash: uint64, `imagehash.phash` of the picture as displayed (upright, first frame, over
        white), most significant bit first. A JPEG is hashed from a smaller plane, which is
        mostly within 2 bits; where it was asked for in full, `format(phash, "016x") == str(hash)`.
      plain: whether the file can be given to others as it is: JPEG, PNG or WebP with samples that
        Pillow's `convert("RGB")` reads right, unlike those of a 16-bit grey PNG.
      grey: uint8[h, w], the picture as displayed, in grey and small, where that was asked for. A
        JPEG's is the plane that it is hashed from.
      shown: the picture as displayed, and its colour profile in `info`, where the file is not plain
        and that was asked for.
    """

    format: str
    width: int
    height: int
    phash: int
    plain: bool
    grey: Plane | None = field(default=None, repr=False, compare=False)
    shown: PillowImage.Image | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why there is no picture.

    Attributes:
      reason: "not_an_image" or "undecodable".
      detail: of not_an_image: "empty", "html", "svg", "xml", "json", "pdf", "other_format" (an
        image or a film of another format) or "unknown"; of undecodable: "truncated", "broken",
        "lossless", "unsupported_frame" (both of JPEGs), "too_many_pixels", "too_many_scans",
        CRASHED_DECODER, or "unexpected" where our own code failed.
      width, height: px, where the header could be read.
    """

    reason: str
    detail: str
    width: int | None = None
    height: int | None = None


def examine_all(bodies: Sequence[bytes]) -> list[Image | Unusable]:
    """What `examine` says of each: for JPEGs in less time."""
    return list(examine_each(bodies))


def examine_each(
    bodies: Sequence[bytes], *, keep_grey: bool = False, keep_shown: bool = False
) -> Iterator[Image | Unusable]:
    """The same one after the other, so that only one picture at a time is in memory."""
    planes: list[Plane | None] = [None] * len(bodies)
    if _FAST_PLANES:
        try:
            planes = dc_planes(bodies, _SMALLEST_PLANE_OF_LARGE_PX)
        except Exception as error:
            tell_once("decoding JPEGs", error)
    for body, plane in zip(bodies, planes, strict=True):
        yield examine(body, plane=plane, keep_grey=keep_grey, keep_shown=keep_shown)


def examine(
    body: bytes,
    *,
    max_pixels: int = 89_478_485,
    in_full: bool = False,
    keep_grey: bool = False,
    keep_shown: bool = False,
    plane: Plane | None = None,
) -> Image | Unusable:
    """What these bytes are. Raises nothing, whatever they are; may be called by many threads.

    Args:
      max_pixels: width * height; a header that says more is refused before any decode. The default
        is where Pillow begins to warn; decoding that many takes up to 1.5 GB, once a process.
      in_full: hash the whole picture of a JPEG too.
      keep_grey: give the picture in grey, too.
      keep_shown: give the picture itself, too, if the file is not plain and has at most 4 million
        pixels.
      plane: what `dc_planes` has for it, where that is known already.
    """
    try:
        return examined(body, _Wanted(max_pixels, in_full, keep_grey, keep_shown), plane)
    except Exception as error:
        tell_once("looking at an image", error)
        return Unusable("undecodable", "unexpected")


class _Wanted(NamedTuple):
    """How `examine` looks, as its arguments say."""

    max_pixels: int
    in_full: bool
    keep_grey: bool
    keep_shown: bool


def examined(body: bytes, wanted: _Wanted, plane: Plane | None) -> Image | Unusable:
    """Examines one body, and raises whatever our own code or a decoder raises."""
    name = signature_format(body)
    if name is None:
        return Unusable("not_an_image", foreign_kind(body))
    if name == "jpeg" and (known := _known_of_jpeg(body, wanted, plane)):
        return known
    width = height = None
    try:
        if name == "webp":  # libwebp allocates the canvas when it opens
            width, height = webp_canvas(body)
            if width * height > wanted.max_pixels:
                return Unusable("undecodable", "too_many_pixels", width, height)
            with turn_of(width * height):
                if known := _known_of_webp(body, wanted):
                    return known
        picture = open_picture(body, name)
        width, height = picture.size
        if width * height > wanted.max_pixels:
            return Unusable("undecodable", "too_many_pixels", width, height)
        with turn_of(width * height):
            return _decode(body, name, picture, wanted)
    except PillowImage.DecompressionBombError:
        return Unusable("undecodable", "too_many_pixels", width, height)
    except Exception as error:  # Pillow raises some ten kinds, by format and by what is broken
        fault = file_fault(body, name)
        if fault is None:
            cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
            fault = "truncated" if cut else "broken"
        return Unusable("undecodable", fault, width, height)


def _known_of_jpeg(body: bytes, wanted: _Wanted, plane: Plane | None) -> Image | Unusable | None:
    """What is known of a JPEG without Pillow."""
    header = jpeg_header(body)
    if header is None:  # no scan, or a thousand segments before it, which Pillow would join
        return Unusable("undecodable", file_fault(body, "jpeg") or "broken")
    fault = header.fault
    if fault is None and header.width * header.height > wanted.max_pixels:
        fault = "too_many_pixels"
    elif fault is None and has_too_many_scans(body, header):
        fault = "too_many_scans"
    if fault:
        return Unusable("undecodable", fault, header.width, header.height)
    if wanted.in_full:
        return None
    return _quick_look(body, header, plane, wanted.keep_grey)


def _known_of_webp(body: bytes, wanted: _Wanted) -> Image | None:
    """What is known of a WebP without Pillow, which makes room for two pictures to open one."""
    plane = None if file_fault(body, "webp") else fast_grey(body, "webp")
    if plane is None:
        return None
    grey = small_grey(PillowImage.fromarray(plane)) if wanted.keep_grey else None
    return Image("webp", *webp_canvas(body), grey_hash(plane), True, grey)


def turn_of(pixels: int) -> AbstractContextManager[object]:
    """Lets only one picture of many pixels at a time be decoded in this process."""
    return _MANY if pixels > _MANY_PIXELS else nullcontext()


def _quick_look(
    body: bytes, header: JpegHeader, known: Plane | None, keep_grey: bool
) -> Image | Unusable | None:
    """What `_decode` would say of a JPEG, by a small grey plane; None where that cannot be had."""
    width, height = header.width, header.height
    if header.components not in (1, 3) or not width * height:
        return None
    if body.rfind(b"\xff\xd9", header.scan) < 0:  # a thumbnail's end marker lies before
        return Unusable("undecodable", "truncated", width, height)
    large = min(width, height) >= _LARGE_PX
    with turn_of(width * height):
        smallest_px = _SMALLEST_PLANE_OF_LARGE_PX if large else _SMALLEST_PLANE_PX
        plane, fault = grey_plane(body, header, smallest_px, known)
    if fault:
        return Unusable("undecodable", fault, width, height)
    if plane is None or not header.usual:  # decoders may differ in what they see
        return None
    if header.annotated:
        turn = TURNS.get(_orientation_of_jpeg(body))
        if turn is not None:
            plane = np.asarray(PillowImage.fromarray(plane).transpose(turn))
    grey = plane if keep_grey else None
    return Image("jpeg", width, height, plane_hash(plane), True, grey)


def _orientation_of_jpeg(body: bytes) -> int:
    try:
        return orientation(open_picture(body, "jpeg"))
    except Exception:  # Pillow refuses some headers that libjpeg reads
        return 1


def _decode(
    body: bytes, name: str, picture: ImageFile.ImageFile, wanted: _Wanted
) -> Image | Unusable:
    width, height = picture.size
    if fault := file_fault(body, name):
        return Unusable("undecodable", fault, width, height)
    plain = name in ("jpeg", "png", "webp") and not picture.mode.startswith("I")
    if name == "png" and (plane := fast_grey(body, name)) is not None:
        grey = small_grey(PillowImage.fromarray(plane)) if wanted.keep_grey else None
        return Image(name, width, height, grey_hash(plane), plain, grey)
    picture.load()
    if name == "png" and _may_lack_rows(picture, body) and png_lacks_pixels(body):
        return Unusable("undecodable", "truncated", width, height)
    shown = displayed(picture)
    grey = small_grey(shown) if wanted.keep_grey else None
    image = Image(name, width, height, picture_hash(shown), plain, grey)
    if plain or not wanted.keep_shown or width * height > MOST_SHOWN:
        return image
    shown.info = {"icc_profile": picture.info.get("icc_profile")}
    return replace(image, shown=shown)


def open_picture(body: bytes, name: str) -> ImageFile.ImageFile:
    """The picture in a file that `examine` found good, not decoded yet; `name` is its format."""
    return _OPENERS[name](io.BytesIO(gif_without_comments(body) if name == "gif" else body))


def _may_lack_rows(png: PillowImage.Image, body: bytes) -> bool:
    """False where a decoded PNG surely has all its rows: Pillow leaves lost ones at zero."""
    last_row = png.crop((0, png.height - 1, png.width, png.height))
    interlaced = body[28] != 0
    return interlaced or not any(last_row.tobytes())
