"""Images in the form in which a shard keeps them: as they came, as PNG, or resized as img2dataset
does, by its own code or in less time by ours.

Here JPEGs are decoded at a half, a quarter or an eighth where the image that is wanted is much
smaller. A photograph's peak signal-to-noise ratio beside img2dataset's Resizer is 40 dB or more at
256 px, and 38 dB or more at 64.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import cv2
import numpy as np
import simplejpeg

from alignset.transforms.images.blur import Boxes, blurred, turned_boxes
from alignset.transforms.images.decode import (
    KNOWN_FORMATS,
    Pixels,
    decoded_picture,
    open_picture,
    orientation,
)
from alignset.transforms.images.examine import Image
from alignset.transforms.images.headers import JpegHeader
from alignset.transforms.images.resize_settings import ANY, Encoded, EncodingError, ResizeSettings
from alignset.transforms.workers.unexpected import tell_once

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


def encode_png(body: bytes, image: Image) -> Encoded:
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


# A scaled decode leaves at least so many times the sides that are wanted, or it would be seen.
_LEFT = 3
_OF_CV2 = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "bilinear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
    "lanczos4": cv2.INTER_LANCZOS4,
}
_QUALITY = {"png": cv2.IMWRITE_PNG_COMPRESSION, "webp": cv2.IMWRITE_WEBP_QUALITY}


class OpenCVResizer:
    """Brings images to the wanted size and form. Made once a worker; thread-safe."""

    def __init__(self, settings: ResizeSettings) -> None:
        self._settings = settings
        cv2.setNumThreads(1)  # as img2dataset does: a worker has threads of its own

    def __call__(self, body: bytes, image: Image, boxes: Boxes | None = None) -> Encoded:
        """The file of the resized image, as displayed, and its size.

        Args:
          body: the file as it was fetched. image: what `examine` said of it.
          boxes: to be blurred, of the image as displayed.

        Raises:
          EncodingError: it cannot be decoded or encoded after all.
        """
        try:
            pixels, (width, height) = self._decoded(body, image)
            pixels = self._resized(pixels, width, height)
            pixels = self._framed(pixels if boxes is None else blurred(pixels, boxes))
            height, width = pixels.shape[:2]
            return Encoded(self._encoded(pixels), self._settings.encode_format, width, height)
        except Exception as error:  # decoders and encoders raise many kinds
            raise EncodingError(f"a {image.format} cannot be resized: {error}") from error

    def _target_size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) in px that an image of this size is resized to."""
        settings, size = self._settings, self._settings.image_size
        if settings.resize_mode == "no":
            return width, height
        by_shorter = settings.resize_mode in ("keep_ratio", "center_crop")
        side = min(width, height) if by_shorter else max(width, height)
        if settings.resize_only_if_bigger and side <= size:
            return width, height
        return max(1, round(width * (size / side))), max(1, round(height * (size / side)))

    def _decoded(self, body: bytes, image: Image) -> tuple[Pixels, tuple[int, int]]:
        """uint8[height, width] or uint8[height, width, 3] (RGB), as displayed; and the (width,
        height) of the whole image; a JPEG's pixels may be a part of it."""
        if image.jpeg and (pixels := self._decoded_jpeg(body, image.jpeg)) is not None:
            return pixels, (image.width, image.height)
        whole = np.asarray(decoded_picture(body, image.format, image.width * image.height))
        return whole, (whole.shape[1], whole.shape[0])

    def _decoded_jpeg(self, body: bytes, header: JpegHeader) -> Pixels | None:
        """None where it must be turned."""
        if header.annotated and orientation(open_picture(body, "jpeg")) != 1:
            return None
        factor = self._factor(header.width, header.height)
        # Less exact steps are not seen where at least two lines become one.
        wide, high = self._target_size(header.width, header.height)
        fast = header.width >= 2 * wide and header.height >= 2 * high
        colours = "GRAY" if header.components == 1 else "RGB"
        high, wide = header.scaled_size(8 // factor)
        pixels = simplejpeg.decode_jpeg(
            body,
            colours,
            fastdct=fast,
            fastupsample=fast,
            min_height=high,
            min_width=wide,
            strict=False,
        )
        return pixels[:, :, 0] if header.components == 1 else pixels

    def _factor(self, width: int, height: int) -> int:
        """By how much libjpeg may reduce an image of this size."""
        if self._settings.downscale_interpolation != "area":
            return 1
        wide, high = self._target_size(width, height)
        fits = (n for n in (8, 4, 2) if width >= n * _LEFT * wide and height >= n * _LEFT * high)
        return next(fits, 1)

    def _resized(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """The pixels of an image of so many px in the size that is wanted."""
        settings = self._settings
        wide, high = self._target_size(width, height)
        if (high, wide) == pixels.shape[:2]:
            return pixels
        smaller = wide <= width and high <= height
        how = settings.downscale_interpolation if smaller else settings.upscale_interpolation
        return np.asarray(cv2.resize(pixels, (wide, high), interpolation=_OF_CV2[how]), np.uint8)

    def _framed(self, pixels: Pixels) -> Pixels:
        """Cropped to the middle, or with white around it, as the mode says."""
        settings, size = self._settings, self._settings.image_size
        height, width = pixels.shape[:2]
        if settings.resize_only_if_bigger and max(width, height) < size:
            return pixels
        if settings.resize_mode == "center_crop":
            top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
            return pixels[top : top + size, left : left + size]
        if settings.resize_mode != "border":
            return pixels
        canvas = np.full((size, size, *pixels.shape[2:]), 255, np.uint8)
        top, left = (size - height) // 2, (size - width) // 2
        canvas[top : top + height, left : left + width] = pixels
        return canvas

    def _encoded(self, pixels: Pixels) -> bytes:
        form, quality = self._settings.encode_format, self._settings.encode_quality
        grey = pixels.ndim == 2
        if form == "jpg":
            rows = np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1))
            colours = ("GRAY", "Gray") if grey else ("RGB", "420")
            return bytes(simplejpeg.encode_jpeg(rows, max(1, quality), *colours, fastdct=False))
        samples = pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        return bytes(cv2.imencode(f".{form}", samples, [_QUALITY[form], quality])[1])


MOST_PIXELS = 1 << 22  # it takes 17 bytes for each to make a PNG of them


_Resizer = Callable[[bytes, Image, Boxes | None], Encoded]


def exact_resizer(settings: ResizeSettings) -> _Resizer:
    """A resizer to the wanted size and format. Made once a worker; thread-safe."""
    # albumentations asks the internet for its newest version when it is imported.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
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
        # Its own has no bound on time and memory, and imports albumentations anew.
        blurrer=lambda img, bbox_list: blurred(img, bbox_list),
    )

    def encoded(body: bytes, image: Image, boxes: Boxes | None = None) -> Encoded:
        if not _opencv_shows_it_right(body, image):
            body = encode_png(body, image).body
        data, width, height, _, _, error = resize(io.BytesIO(body), boxes)
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
    except Exception:  # `encode_png` will say what is wrong
        return False


class Encoder:
    """Gives each image the form in which a shard keeps it. Made once a worker; thread-safe."""

    def __init__(self, settings: ResizeSettings) -> None:
        self._resizer: _Resizer | None = None
        self._is_original = settings.resize_mode == "original"
        if not self._is_original or settings.blur_boxes:
            make = exact_resizer if settings.exact_resize else OpenCVResizer
            # A file that has boxes is encoded anew, at its size.
            self._resizer = make(
                replace(settings, resize_mode="no") if self._is_original else settings
            )

    def __call__(self, body: bytes, image: Image, boxes: Boxes | None = None) -> Encoded:
        """An image's file for the shard.

        Args:
          body: the file as it was fetched.
          image: what `examine` said of it.
          boxes: to be blurred.

        Returns:
          Without a resize mode plain files stay byte for byte; others become PNG as displayed:
          upright, first frame, 8 bits, over white; those with boxes are in the encode_format; the
          extension is "jpg" for all. With one it is the encode_format.

        Raises:
          EncodingError: the image cannot be decoded or encoded after all.
        """
        if self._resizer is None or (self._is_original and boxes is None):
            if image.plain:
                return Encoded(body, ANY, image.width, image.height)
            return encode_png(body, image)
        if boxes is not None and image.format in KNOWN_FORMATS:
            with suppress(Exception):  # what cannot be opened cannot be encoded either
                boxes = turned_boxes(boxes, orientation(open_picture(body, image.format)))
        encoded = self._resizer(body, image, boxes)
        return encoded._replace(extension=ANY) if self._is_original else encoded


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
