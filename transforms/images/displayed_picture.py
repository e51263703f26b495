"""A decoded image as a viewer shows it."""

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

Pixels = npt.NDArray[np.uint8]  # [height, width] of grey, or [height, width, 3] of RGB

_ORIENTATION = 0x0112
# Where Pillow keeps what its `getexif` reads; asking costs 40 µs even where there is nothing.
_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
# Of the shorter side of an image in grey, at least: twice the side at which copies are compared.
_GREY_PX = 128
# Of either side of an image in grey, below: 80 million px of a strip are a file of 10 KB.
_MOST_GREY_PX = 1 << 13
# By EXIF's orientation.
TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


def orientation(picture: PillowImage.Image) -> int:
    """EXIF's 1 to 8; 1, upright, where there is none that can be read."""
    if picture.format in ("GIF", "BMP"):
        return 1
    try:
        if not any(key in picture.info for key in _EXIF_KEYS):
            return 1
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block does not make the image bad
        return 1
    return value if value in range(1, 9) else 1


def displayed_picture(picture: PillowImage.Image) -> PillowImage.Image:
    """The image as a viewer shows it: 8 bits a sample, first frame, upright, over white.

    Returns:
      An image in mode "L" or "RGB". CMYK is converted without its colour profile.
    """
    picture.load()
    turn = TURNS.get(orientation(picture))
    if picture.mode.startswith("I"):
        # Only PNG's 16-bit grey comes so. Pillow's `convert` would clip it, not scale it.
        picture = PillowImage.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.has_transparency_data:
        over = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        picture = PillowImage.new("RGB", over.size, "white")
        picture.paste(over, mask=over.getchannel("A"))
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return picture.transpose(turn) if turn is not None else picture


def rgb_pixels(picture: PillowImage.Image) -> Pixels:
    """uint8[height, width, 3] of a displayed image in any mode."""
    return np.asarray(picture.convert("RGB"))


def small_grey(grey: PillowImage.Image) -> Pixels:
    """uint8[h, w]: a displayed image in mode "L", its shorter side from 128 to 255 px if it had as
    many, and its longer one below 8192 px."""
    factor = max(1, min(grey.size) // _GREY_PX)
    across, down = (max(factor, 1 + side // _MOST_GREY_PX) for side in grey.size)
    return np.asarray(grey.reduce((across, down)) if max(across, down) > 1 else grey)
