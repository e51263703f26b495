"""Images decoded as a viewer shows them, in a child process or here."""

import pytest
from PIL import Image

from alignset.transforms.images import decode as module
from alignset.transforms.images.decode import decoded_picture
from alignset.transforms.workers.limited_process import CostlyError
from tests.support.picture_files import HEIGHT, WIDTH, encoded, photograph, transparent

PIXELS = WIDTH * HEIGHT


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "PNG"])
def test_transparent_pixels_are_white_and_the_profile_stays(kind: str) -> None:
    body = encoded(transparent(), kind, icc_profile=b"a profile")
    shown = decoded_picture(body, kind.lower(), PIXELS)
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert shown.info == {"icc_profile": b"a profile"}
    assert decoded_picture(encoded(photograph(), kind), kind.lower(), PIXELS).info == {
        "icc_profile": None
    }


def test_limits_grow_with_the_pixels_that_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    large = encoded(Image.new("RGB", (4000, 4000)), "BMP")
    monkeypatch.setattr(module, "MAX_MEMORY", 1 << 26)
    with pytest.raises(CostlyError):
        decoded_picture(large, "bmp", 4000 * 4000)
    monkeypatch.undo()
    assert decoded_picture(large, "bmp", 4000 * 4000).size == (4000, 4000)
