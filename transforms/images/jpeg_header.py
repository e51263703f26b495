"""JPEGs: what the header says, and a small grey plane that only a whole file gives."""

import re
from dataclasses import dataclass

import simplejpeg

from transforms.images.jpeg_dc import Plane
from transforms.images.jpeg_segments import jpeg_segments

# Encoders write about ten scans. Each is a pass over the whole picture and may take 30 bytes.
MAX_SCANS = 100
_MAX_PASSED = 2_000_000_000  # pixels of all scans: 3 s; of the largest picture 22 scans
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
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
      components: 1 grey, 3 colour, 4 CMYK.
      progressive: whether more scans may follow.
      scan: where in the file the first begins.
      annotated: whether EXIF or XMP, which may turn the picture, are in it.
      usual: whether segments alone are in it, one behind the other, of kinds that all decoders read
        alike.
    """

    width: int
    height: int
    components: int
    progressive: bool
    scan: int
    annotated: bool
    usual: bool


def jpeg_header(body: bytes) -> JpegHeader | None:
    """What the header says; None where no scan or no frame is found."""
    segments = jpeg_segments(body)
    begin, annotated = 0, False
    for marker, data, _ in segments.each:
        if marker in _FRAMES and data + 6 <= len(body):
            begin = data
        annotated |= marker == 0xE1
    if not begin or segments.scan < 0:
        return None
    height, width = (int.from_bytes(body[begin + at : begin + at + 2], "big") for at in (1, 3))
    progressive = body[begin - 3] in _PROGRESSIVE
    components = body[begin + 5]
    return JpegHeader(
        width, height, components, progressive, segments.scan, annotated, segments.usual
    )


def has_too_many_scans(body: bytes, header: JpegHeader) -> bool:
    """Whether decoding takes many seconds for no picture's sake."""
    if not header.progressive:
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
    eighth = _scaled(header, 1)
    if known is not None and known.shape == eighth and min(eighth) >= smallest_px:
        return known, None
    try:
        # `min_factor` would keep it from planes larger than the picture, which are never asked for.
        plane = simplejpeg.decode_jpeg(
            body, "GRAY", min_height=smallest_px, min_width=smallest_px, strict=True
        )
    except ValueError as error:
        message = str(error)
        if "remature end" in message:
            return None, "truncated"
        if "Corrupt" in message and not _HARMLESS.search(message):
            return None, "broken"
        return None, None
    if not any(plane.shape[:2] == _scaled(header, eighths) for eighths in range(1, 9)):
        return None, None  # libjpeg found another frame than we
    return plane[:, :, 0], None


def _scaled(header: JpegHeader, eighths: int) -> tuple[int, int]:
    return -(-header.height * eighths // 8), -(-header.width * eighths // 8)
