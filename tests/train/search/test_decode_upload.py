"""Strangers' images: decoded aside, and their processes killed where they go wrong."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alignset.train.search import decode_upload as module
from alignset.train.search.decode_upload import MAX_SIDE, RefusedPicture, decode_here, decode_upload
from tests.support.picture_files import photograph
from tests.support.root import ROOT


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_pictures_are_decoded(kind: str) -> None:
    difference = np.asarray(decode_here(encoded(photograph(3), kind)), float) - np.asarray(
        photograph(3), float
    )
    assert np.abs(difference).mean() < 12


def test_a_process_of_its_own_decodes_the_same() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph(1).resize((3000, 1500)), "JPEG", exif=exif.tobytes())
    picture = decode_upload(data)
    assert picture.size == (MAX_SIDE // 2, MAX_SIDE)  # made small, and upright
    assert picture.tobytes() == decode_here(data).tobytes()
    with pytest.raises(RefusedPicture, match="no image that can be opened"):
        decode_upload(b"<svg/>")


def test_a_refusal_names_no_file_of_this_machine() -> None:
    image = Image.new("L", (11_000, 10_000))  # Pillow warns from 89 to 179 million pixels
    with pytest.raises(RefusedPicture) as refused:
        decode_upload(encoded(image, "PNG", compress_level=1))
    assert str(refused.value) == (
        "the image takes too much time or memory to open: give a smaller one"
    )


def test_a_decoder_that_takes_too_long_or_dies_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = encoded(photograph(0), "PNG")
    with monkeypatch.context() as patched:
        patched.setattr(module, "LIMIT_S", 0.0)
        with pytest.raises(RefusedPicture, match="too much time or memory"):
            decode_upload(good)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RefusedPicture, match="too much time or memory"):
        decode_upload(good)


def test_a_file_that_costs_more_than_it_should_is_refused_at_once() -> None:
    with pytest.raises(RefusedPicture, match="too much time"):
        decode_here(b"\xff\xd8" + b"\xff\xe1\0\2" * 5000)


_GREEDY = """
from alignset.train.search import decode_upload
decode_upload.decode_image = lambda data, draft_px: bytearray(3 << 30)
raise SystemExit(decode_upload.main())
"""


def test_a_decoder_has_no_more_memory_than_it_is_given() -> None:
    """In a process of its own, since the limit stays."""
    command = [sys.executable, "-c", _GREEDY]
    good = encoded(photograph(0), "PNG")
    done = subprocess.run(command, input=good, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 3
    assert b"too much time or memory" in done.stderr
