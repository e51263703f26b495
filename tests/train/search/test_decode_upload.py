"""Strangers' images: decoded in a child process, and refused where they cost too much."""

import numpy as np
import pytest
from PIL import Image

from alignset.train.search.decode_upload import MAX_SIDE, RefusedPicture, decode_upload
from alignset.transforms.images import decode
from alignset.transforms.workers.limited_process import Limits
from tests.support.picture_files import encoded, photograph, png_that_says


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_pictures_are_decoded(kind: str) -> None:
    difference = np.asarray(decode_upload(encoded(photograph(3), kind)), float) - np.asarray(
        photograph(3), float
    )
    assert np.abs(difference).mean() < 12


def test_a_large_picture_is_made_small_and_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph(1).resize((3000, 1500)), "JPEG", exif=exif.tobytes())
    assert decode_upload(data).size == (MAX_SIDE // 2, MAX_SIDE)


REFUSED = {
    "no image that can be opened: give a JPEG": (
        b"",
        b"<svg/>",
        encoded(photograph(), "PNG")[:900],
    ),
    "too much time or memory": (
        b"\xff\xd8" + b"\xff\xe1\0\2" * 5000,
        png_that_says(9_000, 8_000),
        png_that_says(70_000, 2),
    ),
}


def test_a_hostile_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for says, files in REFUSED.items():
        for data in files:
            with pytest.raises(RefusedPicture, match=says):
                decode_upload(data)
    for limits in (Limits(1e-3, 2 << 30), Limits(10.0, 1 << 20)):
        monkeypatch.setattr(decode, "Limits", lambda *usual, limits=limits: limits)
        with pytest.raises(RefusedPicture, match="too much time or memory"):
            decode_upload(encoded(photograph().resize((4000, 3000)), "PNG"))
