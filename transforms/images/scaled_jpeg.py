"""JPEGs decoded by libjpeg-turbo at an eighth of their size, a quarter, a half or whole."""

import re

import simplejpeg

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.jpeg_header import JpegHeader

# libjpeg warns of these too, and every viewer shows the image: junk between segments (not in the
# samples or after them, where it stands for lost ones), and profiles that are not whole.
_HARMLESS = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-9])|bad ICC|Adobe|JFIF|Invalid SOS"
)


def grey_plane(
    body: bytes, header: JpegHeader, smallest_px: int
) -> tuple[Pixels | None, str | None]:
    """The image in grey, as small as libjpeg makes it for nothing: an eighth a side at best.

    Args:
      smallest_px: the shorter side has at least as many, where the image has them.

    Returns:
      (uint8[height, width], None); (None, "truncated" or "broken") where samples are lost, whether
      or not an end marker follows; (None, None) where another decoder must look at it.
    """
    try:
        plane = scaled_jpeg(body, header, "GRAY", (smallest_px, smallest_px), strict=True)
    except ValueError as error:
        message = str(error)
        if "remature end" in message:
            return None, "truncated"
        if "Corrupt" in message and not _HARMLESS.search(message):
            return None, "broken"
        return None, None
    if not any(plane.shape[:2] == header.scaled_size(eighths) for eighths in range(1, 9)):
        return None, None  # libjpeg found another frame than we
    return plane[:, :, 0], None


def scaled_jpeg(
    body: bytes,
    header: JpegHeader,
    colours: str,
    smallest: tuple[int, int],
    *,
    fast: bool = False,
    strict: bool = False,
) -> Pixels:
    """Decode an image at the smallest of libjpeg's scales that is large enough.

    Every decode by simplejpeg of bytes that others wrote goes through here.

    Args:
      colours: "GRAY" or "RGB".
      smallest: height and width in px that are left at least, where the image has them.
      fast: decode by less exact steps than Pillow does.
      strict: raise for what libjpeg warns of, too.

    Returns:
      uint8[height, width, 1 or 3].

    Raises:
      ValueError: libjpeg finds a fault, or the frame has one.
    """
    if header.fault:
        raise ValueError(header.fault)
    height, width = smallest
    return simplejpeg.decode_jpeg(
        body,
        colours,
        fastdct=fast,
        fastupsample=fast,
        min_height=height,
        min_width=width,
        strict=strict,
    )
