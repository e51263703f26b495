"""Images in the form in which a shard keeps them: as they came, or resized as img2dataset does.

Importing img2dataset takes 4 s of CPU, so it waits until its own code is asked for.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from alignset.transforms.images.displayed import displayed, orientation
from alignset.transforms.images.examine import Image, open_picture
from alignset.transforms.images.png_writer import png_of
from alignset.transforms.images.resize_settings import Encoded, EncodingError, ResizeSettings
from alignset.transforms.workers.unexpected import tell_once

# One name for every original, as img2dataset has it where it does not encode: `datasets` takes the
# fields of a set's first five samples for those of all. Decoders go by the bytes.
_ANY = "jpg"


class Encoder:
    """Gives each image the form in which a shard keeps it. Made once a worker; thread-safe."""

    def __init__(self, settings: ResizeSettings) -> None:
        self._resizer: Callable[[bytes, Image], Encoded] | None = None
        if settings.resize_mode != "original":
            self._resizer = _exact_resizer(settings) if settings.exact_resize else _fast(settings)

    def __call__(self, body: bytes, image: Image) -> Encoded:
        """An image's file for the shard.

        Args:
          body: the file as it was fetched.
          image: what `examine` said of it.

        Returns:
          Without a resize mode plain files stay byte for byte; others become PNG as displayed:
          upright, first frame, 8 bits, over white; the extension is "jpg" for all. With one it is
          the encode_format.

        Raises:
          EncodingError: the image cannot be decoded or encoded after all.
        """
        if self._resizer is None:
            if image.plain:
                return Encoded(body, _ANY, image.width, image.height)
            return _as_png(body, image)
        return self._resizer(body, image)


def plain_form(body: bytes, image: Image) -> tuple[bytes, Image]:
    """A file that others can read, and what there is to say of it: where `image` has what is shown,
    a PNG of that; else the file itself, as far as it is known here."""
    shown = image.shown
    image = replace(image, grey=None, shown=None)
    if shown is None:
        return body, image
    try:
        png = png_of(np.asarray(shown), shown.info["icc_profile"])
    except Exception as error:  # the `Encoder` will try again, and say of which image that is
        tell_once("writing a PNG", error)
        return body, image
    return png, replace(image, format="png", width=shown.width, height=shown.height, plain=True)


def _as_png(body: bytes, image: Image) -> Encoded:
    try:
        opened = open_picture(body, image.format)
        picture = displayed(opened)
        png = png_of(np.asarray(picture), opened.info.get("icc_profile"))
    except Exception as error:  # as in `examine`: Pillow raises many kinds
        raise EncodingError(f"a {image.format} cannot become a PNG: {error}") from error
    return Encoded(png, _ANY, picture.width, picture.height)


def _opencv_shows_it_right(body: bytes, image: Image) -> bool:
    """Whether OpenCV, told to leave samples unchanged, reads the file as a viewer shows it.

    It ignores EXIF orientation, keeps 16 bits a sample, which img2dataset would then store, and
    reads palettes and CMYK in its own way.
    """
    if not image.plain:
        return False
    try:
        picture = open_picture(body, image.format)
        still = not getattr(picture, "is_animated", False)
        eight_bits = image.format != "png" or body[24] <= 8
        colours = picture.mode in ("L", "RGB") and not picture.has_transparency_data
        return still and eight_bits and colours and orientation(picture) == 1
    except Exception:  # `_as_png` will say what is wrong
        return False


def _fast(settings: ResizeSettings) -> Callable[[bytes, Image], Encoded]:
    from alignset.transforms.images.fast_resize import FastResizer

    return FastResizer(settings)


def _exact_resizer(settings: ResizeSettings) -> Callable[[bytes, Image], Encoded]:
    # albumentations asks the internet for its newest version when it is imported.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import cv2
    from img2dataset import resizer

    # It silences OpenCV by pointing file descriptors 1 and 2 at /dev/null and back. Two threads at
    # once leave them there for good, and the process is mute. OpenCV has a switch for the same.
    resizer.SuppressStdoutStderr = contextlib.nullcontext
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    resize = resizer.Resizer(
        image_size=settings.image_size,
        resize_mode=settings.resize_mode,
        resize_only_if_bigger=settings.resize_only_if_bigger,
        upscale_interpolation=settings.upscale_interpolation,
        downscale_interpolation=settings.downscale_interpolation,
        encode_quality=settings.encode_quality,
        encode_format=settings.encode_format,
    )

    def encoded(body: bytes, image: Image) -> Encoded:
        if not _opencv_shows_it_right(body, image):
            body = _as_png(body, image).body
        resized, width, height, _, _, error = resize(io.BytesIO(body))
        if error is not None:
            raise EncodingError(f"img2dataset cannot resize a {image.format}: {error}")
        return Encoded(resized, settings.encode_format, width, height)

    return encoded
