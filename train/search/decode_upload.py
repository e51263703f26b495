"""Strangers' images decoded in a child process, within bounds of pixels, memory and time."""

from PIL import Image

from alignset.train.data.images import check_decodable, decode_here
from alignset.transforms.images.decode import decoded_apart, parts_of
from alignset.transforms.workers.limited_process import CostlyError, CrashError

MAX_PIXELS = 1 << 26  # 67 million: more than what phones take
MAX_SIDE = 1024  # px of the longer side of what is handed on: twice what the largest tower sees


class RefusedPicture(Exception):
    """The bytes are not an image, or one that would cost too much; the message says which."""


def decode_upload(data: bytes) -> Image.Image:
    """RGB, upright, its longer side at most MAX_SIDE.

    Raises:
      RefusedPicture: the bytes are not decoded.
    """
    try:
        look = check_decodable(data, of_folder=True)
        pixels = look.size[0] * look.size[1] if look.format else MAX_PIXELS
        if pixels > MAX_PIXELS:
            raise CostlyError
        return decoded_apart(small_parts, data, pixels)
    except (Image.DecompressionBombError, CostlyError, CrashError) as error:
        costs = "the image takes too much time or memory to open: give a smaller one"
        raise RefusedPicture(costs) from error
    except (OSError, EOFError) as error:
        formats = "JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP"
        raise RefusedPicture(f"no image that can be opened: give a {formats}") from error


def small_parts(data: bytes) -> list[bytes]:
    """`parts_of` an upload's image, made small, in the child process."""
    picture = decode_here(data, MAX_PIXELS, draft_px=MAX_SIDE)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return parts_of(picture)
