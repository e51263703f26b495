"""Images in the form in which a shard keeps them: as they came, or resized as img2dataset does."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from alignset.transforms.images.decode import KNOWN_FORMATS
from alignset.transforms.images.displayed_picture import orientation
from alignset.transforms.images.examine import Image
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.images.png_writer import as_png, png_of
from alignset.transforms.images.resize_settings import ANY, Encoded, EncodingError, ResizeSettings
from alignset.transforms.workers.unexpected import tell_once

MOST_PIXELS = 1 << 22  # it takes 17 bytes for each to make a PNG of them


def exact_resizer(settings: ResizeSettings) -> Callable[[bytes, Image], Encoded]:
    """A resizer to the wanted size and format. Made once a worker; thread-safe."""
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
            body = as_png(body, image).body
        data, width, height, _, _, error = resize(io.BytesIO(body))
        if error is not None:
            raise EncodingError(f"img2dataset cannot resize a {image.format}: {error}")
        return Encoded(data, settings.encode_format, width, height)

    return encoded


def _opencv_shows_it_right(body: bytes, image: Image) -> bool:
    """Whether OpenCV, told to leave samples unchanged, reads the file as a viewer shows it.

    It ignores EXIF orientation, keeps 16 bits a sample, which img2dataset would then store, and
    reads palettes and CMYK in its own way.
    """
    if not image.plain or image.format not in KNOWN_FORMATS:
        return False
    try:
        picture = open_picture(body, image.format)
        still = not getattr(picture, "is_animated", False)
        eight_bits = image.format != "png" or body[24] <= 8
        colours = picture.mode in ("L", "RGB") and not picture.has_transparency_data
        return still and eight_bits and colours and orientation(picture) == 1
    except Exception:  # `as_png` will say what is wrong
        return False


class Encoder:
    """Gives each image the form in which a shard keeps it. Made once a worker; thread-safe."""

    def __init__(self, settings: ResizeSettings) -> None:
        self._resizer: Callable[[bytes, Image], Encoded] | None = None
        if settings.resize_mode != "original":
            self._resizer = _resizer(settings)

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
                return Encoded(body, ANY, image.width, image.height)
            return as_png(body, image)
        return self._resizer(body, image)


def plain_form(body: bytes, image: Image) -> tuple[bytes, Image]:
    """A file that others can read, and what there is to say of it: a PNG of the image as
    displayed where the file is not plain and that was kept, of 4 million pixels at most; else the
    file itself."""
    picture, image = image.picture, replace(image, grey=None, picture=None)
    if image.plain or picture is None or image.width * image.height > MOST_PIXELS:
        return body, image
    try:
        png = png_of(np.asarray(picture), picture.info["icc_profile"])
    except Exception as error:  # the `Encoder` will try again, and say of which image that is
        tell_once("writing a PNG", error)
        return body, image
    return png, replace(image, format="png", width=picture.width, height=picture.height, plain=True)


def _resizer(settings: ResizeSettings) -> Callable[[bytes, Image], Encoded]:
    if settings.exact_resize:
        return exact_resizer(settings)
    # OpenCV takes 0.1 s, and most shards keep the files as they came.
    from alignset.transforms.images.opencv_resize import OpenCVResizer

    return OpenCVResizer(settings)
