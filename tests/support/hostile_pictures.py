"""Image files of a few KB that decoders take minutes or gigabytes for, one of each kind."""

from __future__ import annotations

import struct
import zlib

from PIL import Image as PillowImage

from tests.fuzz.pictures import png_chunk
from tests.support.avif_files import coded_frame, frame_file, grid, many_entries, one_item
from tests.support.picture_files import encoded, photograph


def zeros(size: int) -> bytes:
    """So many zeros, compressed by zlib."""
    packing = zlib.compressobj(9)
    parts = [packing.compress(bytes(min(1 << 24, size - at))) for at in range(0, size, 1 << 24)]
    return b"".join([*parts, packing.flush()])


def strip(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zeros(height * (1 + -(-width // 8)))
    chunks = [(b"IHDR", head), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_of_profiles(count: int) -> bytes:
    """A PNG whose colour profiles inflate to 1 MB each."""
    good = encoded(photograph(), "PNG")
    profile = png_chunk(b"iCCP", b"a\0\0" + zeros(1_000_000))
    return good[:33] + profile * count + good[33:]


def tiff_of_one_tile(side: int) -> bytes:
    """300 x 300 px in one tile of side x side px."""
    data = zeros(side * side)
    fields = [(256, 4, 300), (257, 4, 300), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    fields += [(322, 4, side), (323, 4, side), (324, 4, 8 + 2 + 12 * 10 + 4), (325, 4, len(data))]
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in fields
    )
    return b"II*\0" + struct.pack("<IH", 8, 10) + entries + bytes(4) + data


def lying_avif(side: int, says: int) -> bytes:
    """A frame of side x side px whose `ispe` says another size."""
    frame = frame_file(side)
    return one_item(frame, coded_frame(frame), (says, says))


def hidden_frames(side: int) -> bytes:
    """An AVIF whose frame comes 500 times more behind the one that is shown."""
    frame = frame_file(side)
    return one_item(frame, coded_frame(frame) + coded_frame(frame)[2:] * 500, (side, side))


def hostile_pictures(part: int = 1) -> dict[str, bytes]:
    """Files by what is wrong with them.

    Args:
      part: make them so many times as small, in sides and in counts.
    """
    frame, many = frame_file(8_000 // part), 60_000 // part
    jpeg = encoded(photograph(), "JPEG")
    moving = encoded(photograph(), "PNG", save_all=True, append_images=[photograph(1)])
    frames = [png_chunk(b"acTL", struct.pack(">II", count, 0)) for count in (2, 2**31 - 1)]
    large = PillowImage.new("L", (16_383 // part, 5_461 // part))
    return {
        "AVIF: 1,024 tiles of one frame": grid([frame], 32, 32, 64),
        "AVIF: 64 tiles of one frame": grid([frame], 8, 8, 64),
        "AVIF: a frame larger than it says": lying_avif(12_000 // part, 200),
        "AVIF: hidden frames": hidden_frames(2_000 // part),
        "AVIF: items": many_entries(b"iinf", many),
        "AVIF: references": many_entries(b"iref", many),
        "PNG: a strip, 1 px wide": strip(1, 5_000_000 // part),
        "PNG: a strip, 2 px wide": strip(2, 44_000_000 // part),
        "PNG: 3,000 colour profiles": png_of_profiles(3_000 // part),
        "PNG: an animation that says 2 billion frames": moving.replace(*frames),
        "JPEG: fill bytes": jpeg[:2] + b"\xff" * (40_000_000 // part) + jpeg[2:],
        "TIFF: a tile larger than the image": tiff_of_one_tile(26_000 // part // 16 * 16),
        "WebP: 89 million pixels": encoded(large, "WEBP", lossless=True, method=0),
    }
