"""JPEGs whose frame is not coded by DCT are no image for the trainer, an evaluation or a search."""

import pytest

from tests.support.jpeg_frames import fates_by

Fates = dict[str, dict[str, str]]
DECODES = ("decode_image", "draft", "decode_square")
# These are left to libjpeg, which refuses a second frame, and a missing end.
LEFT_TO_DECODERS = ("hidden: behind a baseline frame", "hidden: cut in its frame")


@pytest.fixture(scope="module")
def fates() -> Fates:
    return fates_by("training")


def refused(by_entrance: dict[str, str], why: str) -> bool:
    return by_entrance["upload"] == "refused" and all(
        by_entrance[decode].startswith(f"raises {why}") for decode in DECODES
    )


def test_other_frames_are_refused_before_any_decode(fates: Fates) -> None:
    count = 0
    for name, by_entrance in fates.items():
        if name.startswith("innocent: ") or name in ("frame: c0", "frame: c1"):
            assert by_entrance["decode_square"] == "(40, 40, 3)", name
            assert by_entrance["decode_image"] == "(512, 512)", name
            assert by_entrance["header_pixels"] == str(512 * 512), name
            assert by_entrance["upload"] == "picture", name
        elif name in LEFT_TO_DECODERS or name == "frame: c2":
            assert refused(by_entrance, ""), name
        else:
            assert refused(by_entrance, "ValueError: the JPEG is lossless"), name
            assert by_entrance["header_pixels"] == "0", name
            count += 1
    assert count > 100
