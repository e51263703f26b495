"""JPEGs: what the header says, and a small grey plane that only a whole file gives."""

import re
from dataclasses import dataclass

import simplejpeg

from alignset.transforms.images.jpeg_dc import Plane
from alignset.transforms.images.jpeg_segments import jpeg_segments

# Encoders write about ten scans. Each is a pass over the whole picture and may take 30 bytes.
MAX_SCANS = 100
_MAX_PASSED = 2_000_000_000  # pixels of all scans: 3 s; of the largest picture 22 scans
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
# Baseline, extended, progressive. libjpeg ignores the scale of a decode of a lossless frame, and
# writes the whole image into memory that simplejpeg, or Pillow, has for a part of it.
_DCT_FRAMES, _PROGRESSIVE = frozenset({0xC0, 0xC1, 0xC2}), 0xC2
# libjpeg warns of these too, and every viewer shows the picture: junk between segments (not in the
# samples or after them, where it stands for lost ones), and profiles that are not whole.
_HARMLESS = re.compile(
    r"extraneous bytes before marker 0x(?!d[0-9])|bad ICC|Adobe|JFIF|Invalid SOS"
)


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What stands before the first scan.

    Attributes:
      width, height: px.
      frame: the marker of the one frame, as 0xC0 for SOF0.
      components: 1 grey, 3 colour, 4 CMYK.
      scan: where in the file the first begins.
      annotated: whether EXIF or XMP, which may turn the picture, are in it.
      usual: whether segments alone are in it, one behind the other, of kinds that all decoders read
        alike.
    """

    width: int
    height: int
    frame: int
    components: int
    scan: int
    annotated: bool
    usual: bool

    @property
    def fault(self) -> str | None:
        """Name why the frame is not decoded: it is "lossless", or an "unsupported_frame".

        The latter is hierarchical or arithmetic-coded, which no browser shows.
        """
        if self.frame in _DCT_FRAMES:
            return None
        return "lossless" if self.frame & 3 == 3 else "unsupported_frame"

    def scaled(self, eighths: int) -> tuple[int, int]:
        """Return the (height, width) in px at so many eighths of a side."""
        return -(-self.height * eighths // 8), -(-self.width * eighths // 8)


def jpeg_header(body: bytes) -> JpegHeader | None:
    """What the header says; None where no scan is found, or not one frame before it."""
    segments = jpeg_segments(body)
    frame, begin, frames, annotated = 0, 0, 0, False
    for marker, data, _ in segments.each:
        if marker in _FRAMES:
            frame, begin, frames = marker, data, frames + 1
        annotated |= marker == 0xE1
    if frames != 1 or segments.scan < 0 or begin + 6 > len(body):
        return None
    height, width = (int.from_bytes(body[begin + at : begin + at + 2], "big") for at in (1, 3))
    components = body[begin + 5]
    return JpegHeader(width, height, frame, components, segments.scan, annotated, segments.usual)


def has_too_many_scans(body: bytes, header: JpegHeader) -> bool:
    """Whether decoding takes many seconds for no picture's sake."""
    if header.frame != _PROGRESSIVE:
        return False
    scans = body.count(b"\xff\xda", header.scan)
    return scans > MAX_SCANS or scans * header.width * header.height > _MAX_PASSED


def grey_plane(
    body: bytes, header: JpegHeader, smallest_px: int, known: Plane | None = None
) -> tuple[Plane | None, str | None]:
    """The picture in grey, as small as libjpeg makes it for nothing: an eighth a side at best.

    Args:
      smallest_px: the shorter side has at least as many, where the picture has them.
      known: its plane of an eighth a side, where there is one: taken if that is large enough.

    Returns:
      (uint8[height, width], None); (None, "truncated" or "broken") where samples are lost, whether
      or not an end marker follows; (None, None) where another decoder must look at it.
    """
    eighth = header.scaled(1)
    if known is not None and known.shape == eighth and min(eighth) >= smallest_px:
        return known, None
    try:
        plane = scaled_jpeg(body, header, "GRAY", (smallest_px, smallest_px), strict=True)
    except ValueError as error:
        message = str(error)
        if "remature end" in message:
            return None, "truncated"
        if "Corrupt" in message and not _HARMLESS.search(message):
            return None, "broken"
        return None, None
    if not any(plane.shape[:2] == header.scaled(eighths) for eighths in range(1, 9)):
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
) -> Plane:
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
