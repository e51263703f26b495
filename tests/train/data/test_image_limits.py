"""What an image may cost: what would take long for its bytes is refused."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from alignset.train.data.images import decode_image, decode_square
from alignset.train.data.samples import LONGEST_IMAGE
from tests.support.train_shards import encoded

NOISE = Image.fromarray(np.random.default_rng(64).integers(0, 256, (64, 64, 3)).astype(np.uint8))


def exif_of_fields_over_each_other(fields: int, size: int) -> bytes:
    """Each field names the same bytes: `fields` times `size` of them to read."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6)
    entries += b"".join(
        struct.pack("<HHII", 1000 + n, 7, size, 8 + 2 + 12 * fields + 4) for n in range(fields - 1)
    )
    return b"II*\0" + struct.pack("<IH", 8, fields) + entries + bytes(4 + size)


def with_exif(picture_format: str, block: bytes) -> bytes:
    """Of an image 20 px wide and 10 high; JPEG has it in pieces of 64 KB at most."""
    data = encoded(Image.new("RGB", (20, 10)), picture_format)
    if picture_format == "PNG":
        chunk = b"eXIf" + block
        whole = struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return data[:33] + whole + data[33:]
    pieces = [b"Exif\0\0" + block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    segments = [b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces]
    return data[:2] + b"".join(segments) + data[20:]  # without JFIF Pillow looks into it at once


@pytest.mark.filterwarnings("ignore:its fields lie over each other")
@pytest.mark.parametrize("picture_format", ["PNG", "JPEG"])
@pytest.mark.parametrize(("fields", "size"), [(2_600, 30_000), (40_000, 1_000_000)])
def test_an_exif_block_takes_no_more_memory_than_it_has(
    picture_format: str, fields: int, size: int
):
    """62 KB took 72 s and 80 MB; 1.5 MB would take 40 GB."""
    data = with_exif(picture_format, exif_of_fields_over_each_other(fields, size))
    tracemalloc.start()
    upright = decode_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert upright.size == (10, 20)
    assert peak < 12 * len(data) + (4 << 20)


def jpeg_of(*segments: bytes) -> bytes:
    data = encoded(NOISE, "JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def progressive_of_scans(count: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


GIF = encoded(NOISE.convert("P"), "GIF")
COSTLY = {
    "EXIF in pieces": jpeg_of(b"\xff\xe1\0\x09Exif\0\0a" * 1000),
    "scans": progressive_of_scans(101),
    "scans of many pixels": progressive_of_scans(80, 4_000),
    "a GIF's comment": GIF[:-1] + b"\x21\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0;",
    "bytes": jpeg_of() + bytes(LONGEST_IMAGE),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_would_take_long_is_too_large(name: str):
    with pytest.raises(Image.DecompressionBombError):
        decode_square(COSTLY[name], 16)
    with pytest.raises(Image.DecompressionBombError):
        decode_image(COSTLY[name])


def test_scans_are_counted_as_viewers_see_them():
    """A film behind an image, or a comment, may hold what looks like scans."""
    film = b"\xff\xda\0\x08" * 500
    plain = jpeg_of()
    for data in (plain + film, jpeg_of(b"\xff\xfe" + struct.pack(">H", len(film) + 2) + film)):
        assert (decode_square(data, 16) == decode_square(plain, 16)).all()
    assert decode_square(progressive_of_scans(80), 16).shape == (16, 16, 3)


def test_a_large_picture_of_few_bytes_is_refused():
    row = zlib.compress(bytes(20_001), 9)
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", row), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    with pytest.raises(Image.DecompressionBombError):
        decode_square(data, 16)
