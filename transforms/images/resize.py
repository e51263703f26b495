"""Images in the form in which a shard keeps them: as they came, or resized as img2dataset does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from alignset.transforms.images.exact_resize import exact_resizer
from alignset.transforms.images.examine import Image
from alignset.transforms.images.png_writer import as_png, png_of
from alignset.transforms.images.resize_settings import ANY, Encoded, ResizeSettings
from alignset.transforms.workers.unexpected import tell_once


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


def _resizer(settings: ResizeSettings) -> Callable[[bytes, Image], Encoded]:
    if settings.exact_resize:
        return exact_resizer(settings)
    # OpenCV takes 0.1 s, and most shards keep the files as they came.
    from alignset.transforms.images.opencv_resize import OpenCVResizer

    return OpenCVResizer(settings)
