"""A shard's scores: each file once, only where the size is right, whoever comes first."""

from pathlib import Path

import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.safety.model_files import UnsafeModel, describe_model
from alignset.transforms.shards import score_images
from alignset.transforms.shards.score_images import ImageScores
from alignset.transforms.shards.shard_images import ShardImages
from tests.support.made_images import images_of
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, good_files
from tests.support.rules import run_rules


@pytest.fixture
def model(tmp_path: Path) -> UnsafeModel:
    return describe_model(str(write_model(tmp_path)))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that are scored from now on."""
    bodies: list[bytes] = []
    inner = score_images.unsafe_scores

    def noted(images: list, model: UnsafeModel, *more: object) -> list:
        bodies.extend(body for body, _ in images)
        return inner(images, model)

    monkeypatch.setattr(score_images, "unsafe_scores", noted)
    return bodies


def red(share: int, width: int = 120, height: int = 110) -> bytes:
    return encoded(PillowImage.new("RGB", (width, height), (share, 0, 0)), "PNG")


def scores_of(
    bodies: list[bytes],
    model: UnsafeModel | None,
    folder: Path,
    at_once: int = 3,
    looks: list[Image] | None = None,
) -> tuple[list[float | None], ShardImages]:
    rules = run_rules(min_image_side=100)
    images = images_of(folder, bodies, rules, looks, unsafe_model=model)
    counts: list[int] = []
    scores = ImageScores(images, counts.append)
    try:
        for first in range(0, len(bodies), at_once):
            rows = range(first, min(first + at_once, len(bodies)))
            scores.add(row for row in rows if images.looks[row])
        scores.finish()
    finally:
        scores.cancel()
    assert scores.waiting == 0
    assert all(0 <= count <= len(bodies) for count in counts)
    images.spool.close()
    return scores.columns()["unsafe_score"].to_pylist(), images


@pytest.mark.parametrize("at_once", [1, 3, 50])
def test_each_row_has_its_score(at_once: int, model: UnsafeModel, tmp_path: Path) -> None:
    bodies = [red(51 * (n % 6)) + bytes(n) for n in range(23)]  # Pillow reads no further
    scores, images = scores_of(bodies, model, tmp_path, at_once)
    assert scores == [round(n % 6 / 5, 4) for n in range(23)]
    assert images.reasons == [None] * 23


def test_a_file_is_scored_once_and_only_where_its_size_is_right(
    model: UnsafeModel, tmp_path: Path, scored: list[bytes]
) -> None:
    bodies = [red(51), red(255), red(51), red(51)]
    assert scores_of(bodies, model, tmp_path)[0] == [0.2, 1.0, 0.2, 0.2]
    assert sorted(scored) == sorted([red(51), red(255)])
    bodies = [red(102, 100, 300), red(102, 101, 303), red(102, 101, 302), b"<html>"]
    assert scores_of(bodies, model, tmp_path)[0] == [None, None, 0.4, None]
    assert scored[2:] == [bodies[2]]
    assert scores_of([red(51)], None, tmp_path)[0] == [None]  # without a model
    assert len(scored) == 3


def test_an_image_that_cannot_be_scored_is_dropped_as_ours(
    model: UnsafeModel, tmp_path: Path
) -> None:
    whole, cut = good_files()["png"], good_files()["png"][:300]
    scores, images = scores_of([cut, whole], model, tmp_path, looks=[examine(whole)] * 2)
    assert [score is None for score in scores] == [True, False]
    assert (images.reasons, images.details) == (["undecodable", None], ["unexpected", None])
