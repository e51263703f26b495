"""JPEGs decoded by libjpeg-turbo at an eighth of their size, a quarter, a half or whole.

Nothing here, nor in `opencv_resize.py`, gets a frame that `JpegHeader.error` names.
"""

from __future__ import annotations

import re

import simplejpeg

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.jpeg_header import JpegHeader

# A JPEG is decoded to a shorter side of as many px at least, if it has them. The usual network for
# unsafe images takes as many.
SHORTER_PX = 224
# libjpeg warns of these too, and every viewer shows the image: junk between segments (not in the
# samples or after them, where it stands for lost ones), and profiles that are not whole.
_HARMLESS = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-9])|bad ICC|Adobe|JFIF|Invalid SOS"
)


def jpeg_pixels(body: bytes, header: JpegHeader) -> Pixels | str | None:
    """The image as stored, in grey or RGB, whose shorter side has 224 px or more if the whole
    one's has.

    Returns:
      uint8[height, width] or uint8[height, width, 3];
      "truncated" or "broken" where samples are lost, whether or not an end marker follows; None
      where another decoder must look at it.
    """
    # By halves alone: libjpeg's other eighths take as long as the whole, and are less like it.
    shorter = min(header.width, header.height)
    factor = next((n for n in (8, 4, 2) if shorter >= n * SHORTER_PX), 1)
    size = header.scaled_size(8 // factor)
    try:
        # By accurate steps, which cost no more: what is not reduced is as Pillow decodes it.
        pixels = simplejpeg.decode_jpeg(
            body,
            "GRAY" if header.components == 1 else "RGB",
            fastdct=False,
            fastupsample=False,
            min_height=size[0] if factor > 1 else 0,
            min_width=size[1] if factor > 1 else 0,
            strict=True,
        )
    except ValueError as error:
        message = str(error)
        if "remature end" in message:
            return "truncated"
        return "broken" if "Corrupt" in message and not _HARMLESS.search(message) else None
    if pixels.shape[:2] != size:  # libjpeg found another frame than we
        return None
    return pixels[:, :, 0] if header.components == 1 else pixels
