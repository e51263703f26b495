"""Real image files of every kind that a shard or a refusal may come from, made by Pillow."""

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image as PillowImage

WIDTH, HEIGHT = 150, 110


def photograph(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> PillowImage.Image:
    """Soft blobs of colour with a little noise, which compress and hash as photographs do."""
    return _photograph(seed, width, height).copy()


@functools.lru_cache(256)  # many tests show the same ones
def _photograph(seed: int, width: int, height: int) -> PillowImage.Image:
    random = np.random.default_rng(seed)
    x, y = (np.arange(size) / max(width, height) for size in (width, height))
    rows, columns = np.zeros((12, height)), np.zeros((12, width, 3))
    for n in range(12):
        (at_x, at_y), spread = random.random(2), random.uniform(0.05, 0.3)
        rows[n] = np.exp(-(((y - at_y) / spread) ** 2))
        across = np.exp(-(((x - at_x) / spread) ** 2))
        columns[n] = across[:, None] * random.uniform(-120, 120, 3)
    pixels = 128 + (rows.T @ columns.reshape(12, -1)).reshape(height, width, 3)
    pixels += random.normal(0, 4, pixels.shape)
    return PillowImage.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(picture: PillowImage.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def transparent() -> PillowImage.Image:
    """The photograph in a disc; what lies hidden outside is black."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    inside = (x - 75) ** 2 + (y - 55) ** 2 < 50**2
    pixels = np.asarray(photograph()) * inside[..., None]
    alpha = inside.astype(np.uint8) * 255
    return PillowImage.fromarray(np.dstack([pixels.astype(np.uint8), alpha]))


def sixteen_bit_grey() -> PillowImage.Image:
    grey = np.asarray(photograph().convert("L")).astype(np.uint16)
    return PillowImage.fromarray(grey * 257)


def adobe_cmyk_jpeg() -> bytes:
    """A CMYK JPEG, inverted as Adobe's programs write it and Pillow does too."""
    return encoded(photograph().convert("CMYK"), "JPEG", quality=95)


def rle_bitmap() -> bytes:
    """A run-length coded bitmap, which Pillow reads and cannot write."""
    grey = np.asarray(photograph().convert("L"))[::-1]
    rows = [b"".join(bytes((1, pixel)) for pixel in row) + b"\0\0" for row in grey]
    data = b"".join(rows) + b"\0\1"
    palette = b"".join(bytes((n, n, n, 0)) for n in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(data), 0, 0, 256, 0)
    begin = 14 + len(header) + len(palette)
    file_header = b"BM" + struct.pack("<IHHI", begin + len(data), 0, 0, begin)
    return file_header + header + palette + data


@functools.cache  # an animated AVIF holds the time at which it was made
def good_files() -> dict[str, bytes]:
    """Files that show `photograph()` or `transparent()`, by what is special about each."""
    rgb, moving = photograph(), {"save_all": True, "append_images": [photograph(1), photograph(2)]}
    grey, disc = rgb.convert("L"), transparent()
    return {
        "jpeg": encoded(rgb, "JPEG", quality=90),
        "jpeg progressive": encoded(rgb, "JPEG", quality=90, progressive=True),
        "jpeg grey": encoded(grey, "JPEG", quality=90),
        "jpeg cmyk": adobe_cmyk_jpeg(),
        "jpeg 4:4:4 restarts": encoded(rgb, "JPEG", subsampling=0, restart_marker_rows=1),
        "png": encoded(rgb, "PNG"),
        "png grey": encoded(grey, "PNG"),
        "png palette": encoded(rgb.quantize(256), "PNG"),
        "png palette transparent": encoded(disc.quantize(256), "PNG"),
        "png one bit": encoded(rgb.convert("1"), "PNG"),
        "png 16 bit grey": encoded(sixteen_bit_grey(), "PNG"),
        "png rgba": encoded(disc, "PNG"),
        "png la": encoded(disc.convert("LA"), "PNG"),
        "png animated": encoded(rgb, "PNG", **moving),
        "webp": encoded(rgb, "WEBP", quality=90),
        "webp lossless": encoded(rgb, "WEBP", lossless=True),
        "webp rgba": encoded(disc, "WEBP", lossless=True),
        "webp animated": encoded(rgb, "WEBP", lossless=True, **moving),
        "gif": encoded(rgb, "GIF"),
        "gif transparent": encoded(disc, "GIF"),
        "gif animated": encoded(rgb, "GIF", **moving),
        "bmp": encoded(rgb, "BMP"),
        "bmp palette": encoded(rgb.quantize(256), "BMP"),
        "bmp run length": rle_bitmap(),
        "avif": encoded(rgb, "AVIF", quality=90),
        "avif rgba": encoded(disc, "AVIF", quality=90),
        "avif animated": encoded(rgb, "AVIF", **moving),
    }


def turned(orientation: int) -> tuple[PillowImage.Image, PillowImage.Exif]:
    """The photograph as stored, and the EXIF that makes a viewer show it upright."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # members of PIL.Image.Transpose
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    picture = photograph()
    if orientation in undo:
        picture = picture.transpose(PillowImage.Transpose(undo[orientation]))
    return picture, exif


def png_that_says(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = good_files()["png"]
    return (
        body[:8]
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + body[33:]
    )


def oversized() -> dict[str, bytes]:
    """Small files whose headers promise billions of pixels."""
    jpeg, gif, bmp, avif = (
        bytearray(good_files()[name]) for name in ("jpeg", "gif", "bmp", "avif")
    )
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    at = avif.index(b"ispe") + 8
    avif[at : at + 8] = struct.pack(">II", 16_000, 16_000)
    canvas = struct.pack("<I", 2**24 - 1)[:3] + struct.pack("<I", 255)[:3]
    webp = (
        b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas
    )
    return {
        "png": png_that_says(100_000, 100_000),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "avif": bytes(avif),
        "webp": webp + bytes(8),
    }
