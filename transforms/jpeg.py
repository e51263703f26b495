"""JPEGs: what the header says, and a small grey plane that only a whole file gives."""

import re
from dataclasses import dataclass

import simplejpeg

from transforms.jpeg_dc import Plane

# Encoders write about ten scans. Each is a pass over the whole picture and may take 30 bytes.
MAX_SCANS = 100
_MAX_SEGMENTS = 10_000  # before the first scan; a large ICC profile takes a hundred
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
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
    """

    width: int
    height: int
    components: int
    progressive: bool
    scan: int
    annotated: bool


def jpeg_header(body: bytes) -> JpegHeader | None:
    """What the header says; None where no scan or no frame is found."""
    at, frame, annotated = 2, None, False
    for _ in range(_MAX_SEGMENTS):
        at = body.find(b"\xff", at)  # bytes in between are junk that decoders skip
        if at < 0 or at + 4 > len(body):
            return None
        marker = body[at + 1]
        if marker == 0xFF or marker in _ALONE or marker == 0:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xDA:
            break
        if marker in _FRAMES and at + 10 <= len(body):
            frame = (marker, body[at + 5 : at + 10])
        annotated |= marker == 0xE1
        at += 2 + int.from_bytes(body[at + 2 : at + 4], "big")
    else:
        return None
    if frame is None:
        return None
    height, width = int.from_bytes(frame[1][:2], "big"), int.from_bytes(frame[1][2:4], "big")
    return JpegHeader(width, height, frame[1][4], frame[0] in _PROGRESSIVE, at, annotated)


def has_too_many_scans(body: bytes, header: JpegHeader) -> bool:
    """Whether decoding takes minutes for no picture's sake."""
    return header.progressive and body.count(b"\xff\xda", header.scan) > MAX_SCANS


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
    eighth = -(-header.height // 8), -(-header.width // 8)
    if known is not None and known.shape == eighth and min(eighth) >= smallest_px:
        return known, None
    try:
        # `min_factor` would keep it from planes larger than the picture, which are never asked for.
        plane = simplejpeg.decode_jpeg(
            body, "GRAY", min_height=smallest_px, min_width=smallest_px, strict=True
        )
    except ValueError as error:
        said = str(error)
        if "remature end" in said:
            return None, "truncated"
        if "Corrupt" in said and not _HARMLESS.search(said):
            return None, "broken"
        return None, None
    return plane[:, :, 0], None
