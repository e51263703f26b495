"""Images decoded as a viewer shows them, in a child process or here."""

import io

import numpy as np
import pytest
from PIL import Image

from alignset.transforms.images import decode as module
from alignset.transforms.images.decode import decoded_picture
from alignset.transforms.workers.limited_process import CostlyError
from tests.support.picture_files import HEIGHT, WIDTH, encoded, photograph, transparent

KINDS = ["WEBP", "AVIF", "BMP", "PNG", "GIF", "JPEG"]
PIXELS = WIDTH * HEIGHT


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_pillows_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {} if kind in ("BMP", "GIF") else {"exif": exif.tobytes()}
    body = encoded(photograph(), kind, **more)
    picture = Image.open(io.BytesIO(body)).convert("RGB")
    upright = picture.transpose(Image.Transpose.ROTATE_270) if more else picture
    shown = decoded_picture(body, kind.lower(), PIXELS)
    assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(upright))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "PNG"])
def test_transparent_pixels_are_white_and_the_profile_stays(kind: str) -> None:
    body = encoded(transparent(), kind, icc_profile=b"a profile")
    shown = decoded_picture(body, kind.lower(), PIXELS)
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert shown.info == {"icc_profile": b"a profile"}
    assert decoded_picture(encoded(photograph(), kind), kind.lower(), PIXELS).info == {
        "icc_profile": None
    }


def test_a_grey_image_stays_grey() -> None:
    body = encoded(photograph().convert("L"), "BMP")
    assert decoded_picture(body, "bmp", PIXELS).mode == "L"


def test_limits_grow_with_the_pixels_that_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    large = encoded(Image.new("RGB", (4000, 4000)), "BMP")
    monkeypatch.setattr(module, "MAX_MEMORY", 1 << 26)
    with pytest.raises(CostlyError):
        decoded_picture(large, "bmp", 4000 * 4000)
    monkeypatch.undo()
    assert decoded_picture(large, "bmp", 4000 * 4000).size == (4000, 4000)
