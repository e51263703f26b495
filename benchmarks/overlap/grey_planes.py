"""The grey plane of an image file, as the image plane of a run makes it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alignset.transforms.images.displayed_picture import displayed_picture, small_grey
from alignset.transforms.images.file_formats import signature_format
from alignset.transforms.images.jpeg_header import grey_plane, jpeg_header
from alignset.transforms.images.open_picture import open_picture

# As transforms/images/examine.py has them.
_SMALLEST_PLANE_PX = 96
_LARGE_PX, _SMALLEST_PLANE_OF_LARGE_PX = 480, 60


def grey_of_file(body: bytes) -> npt.NDArray[np.uint8] | None:
    """uint8[height, width]: a JPEG's decoded small, any other picture whole; None where a run would
    take neither."""
    name = signature_format(body)
    if name is None:
        return None
    try:
        if name == "jpeg" and (small := _small_plane(body)) is not None:
            return small
        return np.asarray(displayed_picture(open_picture(body, name)).convert("L"))
    except Exception:  # Pillow raises some ten kinds
        return None


def whole_grey_of_file(body: bytes) -> npt.NDArray[np.uint8]:
    """uint8[height, width], of a picture that `grey_of_file` takes: decoded whole, as where a copy
    is decided, its shorter side from 128 to 255 px."""
    name = signature_format(body)
    assert name is not None
    return small_grey(displayed_picture(open_picture(body, name)))


def _small_plane(body: bytes) -> npt.NDArray[np.uint8] | None:
    header = jpeg_header(body)
    if header is None or header.components not in (1, 3) or header.annotated:
        return None
    large = min(header.width, header.height) >= _LARGE_PX
    plane, _ = grey_plane(
        body, header, _SMALLEST_PLANE_OF_LARGE_PX if large else _SMALLEST_PLANE_PX
    )
    return plane
