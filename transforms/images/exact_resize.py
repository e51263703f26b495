"""Images resized by img2dataset's own code, byte for byte.

Importing it takes 4 s of CPU and 37 packages, so it is an extra, and waits until it is asked for.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable

from alignset.transforms.images.displayed_picture import orientation
from alignset.transforms.images.examine import Image
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.images.png_writer import as_png
from alignset.transforms.images.resize_settings import Encoded, EncodingError, ResizeSettings


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
        resized, width, height, _, _, error = resize(io.BytesIO(body))
        if error is not None:
            raise EncodingError(f"img2dataset cannot resize a {image.format}: {error}")
        return Encoded(resized, settings.encode_format, width, height)

    return encoded


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
    except Exception:  # `as_png` will say what is wrong
        return False
