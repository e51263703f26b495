"""Strangers' pictures: decoded aside, and their processes killed where they go wrong."""

import asyncio
import io
import time

import numpy as np
import pytest
from PIL import Image

from tests.support.picture_files import photograph
from train.search.decode_pool import DecodePool, RefusedPicture
from train.search.decode_worker import MAX_SIDE, decoded


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_pictures_are_decoded(kind: str) -> None:
    what, size, pixels = decoded(encoded(photograph(3), kind))
    assert what == "picture"
    image = Image.frombytes("RGB", size, pixels)  # type: ignore[arg-type]
    difference = np.asarray(image, float) - np.asarray(photograph(3), float)
    assert np.abs(difference).mean() < 12


def test_large_ones_are_made_small_and_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph(1).resize((3000, 1500)), "JPEG", exif=exif.tobytes())
    what, size, _ = decoded(data)
    assert (what, size) == ("picture", (MAX_SIDE // 2, MAX_SIDE))


def test_a_decoder_that_takes_too_long_is_killed_and_replaced() -> None:
    pool = DecodePool(1, limit_s=0.0)
    good = encoded(photograph(0), "PNG")
    try:
        with pytest.raises(RefusedPicture, match="takes too long"):
            asyncio.run(pool.decode(good))
    finally:
        pool.close()
    pool = DecodePool(1, limit_s=60.0)
    try:
        assert asyncio.run(pool.decode(good)).size == photograph(0).size
        pool.kill_all()
        with pytest.raises(RefusedPicture, match="takes too much memory"):
            asyncio.run(pool.decode(good))
        assert asyncio.run(pool.decode(good)).size == photograph(0).size
    finally:
        pool.close()


def test_files_that_cost_more_than_they_should_are_refused_at_once() -> None:
    start = time.process_time()
    gif = encoded(photograph(0), "GIF", comment=b"c" * (5 << 20))
    for data, text in ((gif, "too long to open"), (b"\xff\xd8" + b"\xff\xda\0\2" * 5000, "")):
        what, _, why = decoded(data)
        assert what == "refused"
        assert text in str(why)
    print(time.process_time() - start, "CPU-s")
