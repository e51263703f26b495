"""PNGs of images, without loss, by OpenCV's fastest level."""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from alignset.transforms.images.decode import decoded_picture
from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.resize_settings import ANY, Encoded, EncodingError

cv2.setNumThreads(1)  # a worker has threads of its own, and may have been forked
_STRATEGY = cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT
_FILTER = cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB
_FLAGS = [cv2.IMWRITE_PNG_COMPRESSION, 1, *_STRATEGY, *_FILTER]
_HEADER_BYTES = 33  # the signature and the first chunk


def png_of(pixels: Pixels, icc_profile: bytes | None = None) -> bytes:
    """A PNG of 8 bits a sample.

    Args:
      pixels: uint8[height, width] or uint8[height, width, 3] (RGB), none of them empty.
      icc_profile: what its colours mean, where that is known.
    """
    shown = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    png = cv2.imencode(".png", shown, _FLAGS)[1].tobytes()
    if not icc_profile:
        return png
    # OpenCV's libpng leaves out a profile that it takes for wrong.
    chunk = b"iCCPICC Profile\0\0" + zlib.compress(icc_profile)
    size, checksum = len(chunk) - 4, zlib.crc32(chunk)
    profile = size.to_bytes(4, "big") + chunk + checksum.to_bytes(4, "big")
    return png[:_HEADER_BYTES] + profile + png[_HEADER_BYTES:]


def as_png(body: bytes, image: Image) -> Encoded:
    """An image as displayed, as PNG.

    Raises:
      EncodingError: it cannot be decoded after all.
    """
    try:
        picture = decoded_picture(body, image.format, image.width * image.height)
        png = png_of(np.asarray(picture), picture.info["icc_profile"])
    except Exception as error:  # as in `examine`: Pillow raises many kinds
        raise EncodingError(f"a {image.format} cannot become a PNG: {error}") from error
    return Encoded(png, ANY, picture.width, picture.height)
