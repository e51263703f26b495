"""Facts about an image's bytes: format, size, perceptual hash; or why they are unusable.

Size comes from the header, before any decode. Each image is then decoded once (its first frame),
a JPEG at a part of its size: a cut file or one with a hole shows all the same.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image as PillowImage

from alignset.transforms.images.decode import (
    TURNS,
    Pixels,
    decoded_picture,
    jpeg_pixels,
    open_picture,
    orientation,
    small_grey,
    turn_of,
)
from alignset.transforms.images.file_formats import FileLook, foreign_kind
from alignset.transforms.images.headers import JpegHeader
from alignset.transforms.images.perceptual_hash import jpeg_grey, jpeg_hash, picture_hash
from alignset.transforms.workers.limited_process import CostlyError, CrashError
from alignset.transforms.workers.unexpected import tell_once

# The detail of an image whose decoding ends the process, found where that is tried in another
# (transforms/images/try_decoders.py).
CRASHED_DECODER = "crashed_decoder"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that can be decoded whole.

    Attributes:
      format: "jpeg", "png", "webp", "gif", "bmp" or "avif".
      width, height: px, as stored in the file; an EXIF orientation may turn it for display.
      phash: uint64, `imagehash.phash` of the image as displayed (upright, first frame, over
        white), most significant bit first: `format(phash, "016x") == str(hash)`. A JPEG's is
        computed from `picture`, and mostly within 2 bits of the whole image's.
      plain: whether the file can be given to others as it is: JPEG, PNG or WebP with samples that
        Pillow's `convert("RGB")` reads right, unlike a 16-bit grey PNG's.
      grey: uint8[h, w], the image as displayed, in grey and small, where that was asked for.
      picture: the image as displayed, in mode "L" or "RGB", and its colour profile in
        `info`, where that was asked for. A JPEG is a half, a quarter or an eighth of its size, so
        that its shorter side has 224 px or more if it had, and without a profile.
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
    keep_grey: bool = False,
    keep_picture: bool = False,
    hashed: bool = True,
) -> Image | Unusable:
    """Examines a file. Raises nothing for any bytes; may be called by many threads.

    Args:
      file: its bytes, or what is known of them.
      keep_grey: give the image in grey, too.
      keep_picture: give the image as it was decoded, too. Whoever keeps several may need much
        memory.
      hashed: without, the hash is 0, and scipy and OpenCV are not imported for it.

    Raises:
      ChildError: no child process can be started, to decode it there.
    """
    look = FileLook(file) if isinstance(file, bytes) else file
    try:
        if look.format is None:
            return Unusable("not_an_image", foreign_kind(look.body))
        width, height = look.size
        with turn_of(width * height):
            error = (look.jpeg and look.jpeg.error) or look.refusal or look.error
            seen = error or decoded(look)
            if isinstance(seen, str):
                return Unusable("undecodable", seen, *(look.size if any(look.size) else ()))
            if not (hashed or isinstance(seen, PillowImage.Image)):
                seen = PillowImage.fromarray(seen)  # OpenCV is not imported for it
            picture: PillowImage.Image | None = None
            if isinstance(seen, PillowImage.Image):
                grey, picture = seen.convert("L"), seen
            else:  # its copy for Pillow takes as long as the hash
                grey = PillowImage.fromarray(jpeg_grey(seen))
                if keep_picture:
                    picture = PillowImage.fromarray(seen)
            phash = 0
            if hashed:
                is_jpeg = look.format == "jpeg"
                phash = jpeg_hash(np.asarray(grey)) if is_jpeg else picture_hash(grey)
            header = look.jpeg
            return Image(
                look.format,
                width,
                height,
                phash,
                # Pillow makes 32 bits a sample of a PNG's 16 bits of grey.
                look.format in ("jpeg", "webp")
                or (look.format == "png" and look.body[24:26] != b"\x10\0"),
                small_grey(grey) if keep_grey else None,
                picture if keep_picture else None,
                header if header and header.usual and header.components in (1, 3) else None,
            )
    except Exception as error:
        tell_once("looking at an image", error)
        return Unusable("undecodable", "unexpected")


def decoded(look: FileLook) -> PillowImage.Image | Pixels | str:
    """The image as displayed, a usual JPEG as pixels; or the detail of why it is undecodable."""
    header, (width, height) = look.jpeg, look.size
    if header and header.components in (1, 3) and width * height:
        seen = jpeg_pixels(look.body, header)
        if isinstance(seen, str):
            return seen
        if seen is not None and header.usual:  # else decoders may differ in what they see
            turn = None
            if header.annotated:
                with suppress(Exception):  # Pillow refuses some headers that libjpeg reads
                    turn = TURNS.get(orientation(open_picture(look.body, "jpeg")))
            if turn is None:
                return seen
            return np.asarray(PillowImage.fromarray(seen).transpose(turn))
    try:
        picture = decoded_picture(look.body, look.format or "", width * height)
    except CostlyError:
        return "too_costly"
    except CrashError:
        return CRASHED_DECODER
    except Exception as error:  # Pillow raises some ten kinds, by format and by what is broken
        is_cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
        return "truncated" if is_cut else "broken"
    return picture if sorted(picture.size) == sorted(look.size) else "broken"
