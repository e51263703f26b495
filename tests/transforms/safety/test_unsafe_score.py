"""Scores of files."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.open_picture import open_picture
from alignset.transforms.safety import unsafe_score
from alignset.transforms.safety.model_files import UnsafeModel, describe_model
from alignset.transforms.safety.unsafe_score import unsafe_scores
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, good_files

pytestmark = pytest.mark.numeric


@pytest.fixture
def model(tmp_path: Path) -> UnsafeModel:
    return describe_model(str(write_model(tmp_path)))


def looked_at(*bodies: bytes) -> list[tuple[bytes, Image]]:
    return [(body, examine(body)) for body in bodies]


def plain(colour: str) -> bytes:
    return encoded(PillowImage.new("RGB", (30, 20), colour), "PNG")


def test_no_images_at_all(model: UnsafeModel) -> None:
    assert unsafe_scores([], model) == []


def test_a_file_that_cannot_be_decoded_costs_its_own_score_alone(model: UnsafeModel) -> None:
    red, blue = looked_at(plain("#ff0000"), plain("#0000ff"))
    cut = (good_files()["png"][:200], red[1])
    assert unsafe_scores([red, cut, blue], model) == [1.0, None, 0.0]
    assert unsafe_scores([cut], model) == [None]


def test_what_is_no_number_is_no_score(model: UnsafeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def scores(self, pictures: list) -> list[float]:
            return [math.nan, 0.25][: len(pictures)]

    monkeypatch.setattr(unsafe_score, "open_classifier", lambda model: Broken())
    assert unsafe_scores(looked_at(plain("red"), plain("blue")), model) == [None, 0.25]


@pytest.mark.parametrize("name", good_files())
def test_each_kind_of_file_has_a_score(name: str, model: UnsafeModel) -> None:
    ((body, image),) = looked_at(good_files()[name])
    picture = displayed_picture(open_picture(body, image.format)).convert("RGB")
    share_of_red = np.asarray(picture)[:, :, 0].mean() / 255
    assert unsafe_scores([(body, image)], model) == [pytest.approx(share_of_red, abs=0.02)]
