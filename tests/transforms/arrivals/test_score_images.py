"""A shard's scores: each file once, only where the size is right, whoever comes first."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.arrivals import score_images
from alignset.transforms.arrivals.images import Images
from alignset.transforms.arrivals.score_images import ImageScores
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.safety.model_files import ModelInput, UnsafeModel, describe_model
from tests.support.made_images import images_of
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded
from tests.support.rules import run_rules


@pytest.fixture
def model(tmp_path: Path) -> UnsafeModel:
    return describe_model(str(write_model(tmp_path)))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The red of each image that is scored from now on."""
    reds: list[int] = []
    inner = score_images.unsafe_scores

    def noted(pictures: list, model: UnsafeModel) -> list:
        reds.extend(int(pixels.max()) for pixels in pictures)
        return inner(pictures, model)

    monkeypatch.setattr(score_images, "unsafe_scores", noted)
    return reds


def red(share: int, width: int = 120, height: int = 110) -> bytes:
    return encoded(PillowImage.new("RGB", (width, height), (share, 0, 0)), "PNG")


def scores_of(
    bodies: list[bytes], model: UnsafeModel | None, folder: Path
) -> tuple[list[float | None], Images]:
    images, counts = images_of(folder, bodies), list[int]()
    scores = ImageScores(images, run_rules(min_image_side=100), model, counts.append)
    try:
        for row, body in enumerate(bodies):
            image = examine(body, keep_picture=True)
            if isinstance(image, Image):
                scores.add(row, image)
        scores.finish()
    finally:
        scores.cancel()
    assert scores.waiting == 0
    assert all(0 <= count <= len(bodies) for count in counts)
    images.spool.close()
    return images["unsafe_score"], images


def test_each_row_has_its_score_and_each_file_is_scored_once(
    model: UnsafeModel, tmp_path: Path, scored: list[int]
) -> None:
    """However few batches may wait."""
    bodies = [red(51 * (n % 6)) + bytes(n) for n in range(90)]  # Pillow reads no further
    scores, images = scores_of([*bodies, *bodies[:3], b"<html>"], model, tmp_path)
    assert scores == [round(n % 6 / 5, 4) for n in (*range(90), 0, 1, 2)] + [None]
    assert images["reason"] == [None] * 93 + ["not_an_image"]
    assert sorted(scored) == sorted(51 * (n % 6) for n in range(90))
    assert scores_of([red(51)], None, tmp_path)[0] == [None]  # without a model
    assert len(scored) == 90


def test_an_image_that_cannot_be_scored_is_dropped_as_ours(
    model: UnsafeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = score_images.model_pixels

    def prepared(picture: PillowImage.Image, form: ModelInput) -> np.ndarray:
        if picture.width == 130:
            raise ValueError("what nobody foresaw")
        return prepare(picture, form)

    monkeypatch.setattr(score_images, "model_pixels", prepared)
    bodies = [red(51), red(51, width=130), red(51, width=130)]
    scores, images = scores_of(bodies, model, tmp_path)
    assert scores == [0.2, None, None]
    unexpected = ([None, *["undecodable"] * 2], [None, *["unexpected"] * 2])
    assert (images["reason"], images["detail"]) == unexpected
    monkeypatch.setattr(score_images, "unsafe_scores", lambda pictures, _: [None] * len(pictures))
    scores, images = scores_of([red(51)], model, tmp_path)
    assert scores == [None]
    assert (images["reason"], images["detail"]) == (["undecodable"], ["unexpected"])


def test_memory_of_what_rules_of_users_see_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is given to them at so many bytes, and few wait: each of 3 MB here."""
    body = encoded(PillowImage.new("RGB", (1000, 1000)), "PNG")
    bodies = [body + bytes(n) for n in range(40)]
    groups: list[int] = []

    def computed(limit: object, rows: Rows, size: int) -> tuple[np.ndarray, np.ndarray]:
        groups.append(size)
        widths = [float(pixels.shape[1]) for pixels in rows["pixels"]]
        return np.array(widths), np.zeros(size, np.bool_)

    limit = SimpleNamespace(name="max_wide", measure=SimpleNamespace(column="wide"))
    monkeypatch.setattr(RuleSettings, "computing", lambda self, stage: [limit])
    monkeypatch.setattr(score_images, "computed", computed)
    monkeypatch.setattr(score_images, "MOST_SHOWN", 6_000_000)
    images = images_of(tmp_path, bodies, measured=["wide"])
    scores = ImageScores(images, run_rules(), None, lambda done: None)
    tracemalloc.start()
    for row in range(40):
        scores.add(row, examine(bodies[row], keep_picture=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    scores.finish()
    images.spool.close()
    assert images["wide"] == [1000.0] * 40
    assert sorted(groups) == [2] * 20
    assert peak < 60_000_000
