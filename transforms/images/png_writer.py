"""PNGs of images, without loss, by libdeflate's fastest level.

Source: PNG (W3C recommendation, third edition).
"""

from __future__ import annotations

import struct
import zlib

import deflate
import numpy as np

from alignset.transforms.images.decode import decoded_picture
from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.resize_settings import ANY, Encoded, EncodingError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # types of colour
_SUB = 1  # the filter that leaves what a sample differs by from that of the pixel to the left


def png_of(pixels: Pixels, icc_profile: bytes | None = None) -> bytes:
    """A PNG of 8 bits a sample.

    Args:
      pixels: uint8[height, width] or uint8[height, width, 3] (RGB), none of them empty.
      icc_profile: what its colours mean, where that is known.
    """
    height, width = pixels.shape[:2]
    colour = _GREY if pixels.ndim == 2 else _RGB
    parts = [
        _SIGNATURE,
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
    ]
    if icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)))
    parts.append(_chunk(b"IDAT", deflate.zlib_compress(_filtered_rows(pixels), 1)))
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _filtered_rows(pixels: Pixels) -> Pixels:
    """uint8[height, 1 + n]: each row behind the number of its filter."""
    rows = pixels.reshape(len(pixels), -1)
    samples = rows.shape[1] // pixels.shape[1]
    lines: Pixels = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    lines[:, 0] = _SUB
    lines[:, 1 : 1 + samples] = rows[:, :samples]
    np.subtract(rows[:, samples:], rows[:, :-samples], out=lines[:, 1 + samples :])
    return lines


def _chunk(kind: bytes, data: bytes | bytearray) -> bytes:
    checksum = deflate.crc32(data, deflate.crc32(kind))
    return b"".join([len(data).to_bytes(4, "big"), kind, data, checksum.to_bytes(4, "big")])


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
