"""Strangers' pictures: decoded aside, and their processes killed where they go wrong."""

import asyncio
import io
import multiprocessing
import time

import numpy as np
import pytest
from PIL import Image

from alignset.train.search import decode_worker
from alignset.train.search.decode_pool import DecodePool, RefusedPicture
from alignset.train.search.decode_worker import MAX_SIDE, decoded
from tests.support.picture_files import photograph


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


def with_comment(gif: bytes, size: int) -> bytes:
    """A GIF with a comment before its picture."""
    table = 3 << ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0
    comment = b"!\xfe" + (b"\xff" + b"c" * 255) * (size // 255) + b"\0"
    return gif[: 13 + table] + comment + gif[13 + table :]


def test_files_that_cost_more_than_they_should_are_refused_at_once() -> None:
    gif = with_comment(encoded(photograph(0), "GIF"), 5 << 20)
    start = time.process_time()
    for data, text in ((gif, "too long to open"), (b"\xff\xd8" + b"\xff\xda\0\2" * 5000, "")):
        what, _, why = decoded(data)
        assert what == "refused"
        assert text in str(why)
    took = time.process_time() - start
    print(took, "CPU-s")
    assert took < 1  # without the refusal the GIF takes 3.6 s


def test_a_decoder_has_no_more_memory_than_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, since the limit stays."""
    monkeypatch.setattr(decode_worker, "decode_image", lambda data, draft_px: bytearray(3 << 30))
    good = encoded(photograph(0), "PNG")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=decode_worker.work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.send_bytes(good)
        kind, _, why = ours.recv()
    finally:
        process.kill()  # it holds our end of the pipe too, and would wait for ever
        process.join()
    assert (kind, why) == (
        "refused",
        "the picture takes too much memory to open: give a smaller one",
    )
