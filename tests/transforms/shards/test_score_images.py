"""A shard's scores: each file once, only where the size is right, whoever comes first."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import UnsafeModel, describe_model
from alignset.transforms.shards import score_images
from alignset.transforms.shards.score_images import ImageScores
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.workers.threads import Results
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, good_files
from tests.support.rules import run_rules

RULES = run_rules(min_image_side=100)


@pytest.fixture
def model(tmp_path: Path) -> UnsafeModel:
    score_images.KNOWN.clear()
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
) -> tuple[pa.Array, dict[str, list[Any]], list[int]]:
    spool, told = Spool(folder / "spool"), []
    images = [look if isinstance(look, Image) else None for look in looks or map(examine, bodies)]
    columns: dict[str, list[Any]] = {
        "image": images,
        "width": [image and image.width for image in images],
        "height": [image and image.height for image in images],
        "sha256": [hashlib.sha256(body).hexdigest() for body in bodies],
        "reason": [None if image else "not_an_image" for image in images],
        "detail": [None] * len(bodies),
    }
    places = [spool.put(body) for body in bodies]
    with ImageScores(model, spool, RULES) as scores:
        for first in range(0, len(bodies), at_once):
            scores.add(range(first, min(first + at_once, len(bodies))), columns, places)
        found = scores.finish(columns, told.append)
        assert scores.waiting == 0
    spool.close()
    return found, columns, told


@pytest.mark.parametrize("at_once", [1, 3, 50])
def test_each_row_has_its_score(at_once: int, model: UnsafeModel, tmp_path: Path) -> None:
    bodies = [red(51 * (n % 6)) + bytes(n) for n in range(23)]  # Pillow reads no further
    found, columns, _ = scores_of(bodies, model, tmp_path, at_once)
    assert found.to_pylist() == [round(n % 6 / 5, 4) for n in range(23)]
    assert columns["reason"] == [None] * 23


def test_a_file_is_scored_once(model: UnsafeModel, tmp_path: Path, scored: list[bytes]) -> None:
    bodies = [red(51), red(255), red(51), red(51)]
    assert scores_of(bodies, model, tmp_path)[0].to_pylist() == [0.2, 1.0, 0.2, 0.2]
    assert sorted(scored) == sorted([red(51), red(255)])
    assert scores_of(bodies[:1], model, tmp_path)[0].to_pylist() == [0.2]  # in another shard
    assert len(scored) == 2


def test_what_another_shard_scores_meanwhile_is_not_scored_again(
    model: UnsafeModel, tmp_path: Path, scored: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_images, "THREADS", 1)
    bodies = [red(0) + bytes(n) for n in range(40)]
    inner = score_images.unsafe_scores

    def meanwhile(images: list, model: UnsafeModel, *more: object) -> list:
        for body in bodies:
            score_images.KNOWN.setdefault((model, hashlib.sha256(body).hexdigest()), 0.25)
        return inner(images, model)

    monkeypatch.setattr(score_images, "unsafe_scores", meanwhile)
    scores, _, _ = scores_of(bodies, model, tmp_path)
    assert 0 < len(scored) < len(bodies)
    assert [score == 0.25 for score in scores.to_pylist()] == [b not in scored for b in bodies]


def test_what_is_too_small_or_too_long_is_not_scored(
    model: UnsafeModel, tmp_path: Path, scored: list[bytes]
) -> None:
    bodies = [red(51, 100, 300), red(51, 101, 303), red(51, 101, 302), b"<html>"]
    found, _, _ = scores_of(bodies, model, tmp_path)
    assert found.to_pylist() == [None, None, 0.2, None]
    assert scored == [bodies[2]]


def test_without_a_model_nothing_is_scored(tmp_path: Path, scored: list[bytes]) -> None:
    found, columns, told = scores_of([red(51)], None, tmp_path)
    assert (found.to_pylist(), columns["reason"], scored, told) == ([None], [None], [], [])


def test_an_image_that_cannot_be_scored_is_told_as_ours(model: UnsafeModel, tmp_path: Path) -> None:
    whole, cut = good_files()["png"], good_files()["png"][:300]
    looks = [examine(whole)] * 2
    found, columns, _ = scores_of([cut, whole], model, tmp_path, looks=looks)
    assert found.to_pylist()[0] is None
    assert found.to_pylist()[1] is not None
    assert (columns["reason"], columns["detail"]) == (["undecodable", None], ["unexpected", None])


def test_a_failure_of_ours_is_raised(
    model: UnsafeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list:
        raise OSError("no space left on device")

    monkeypatch.setattr(score_images, "unsafe_scores", fail)
    with pytest.raises(OSError, match="no space left"):
        scores_of([red(n) for n in range(20)], model, tmp_path)


def test_what_still_waits_is_told(model: UnsafeModel, tmp_path: Path) -> None:
    told = scores_of([red(n) for n in range(40)], model, tmp_path, at_once=40)[2]
    assert told == [] or min(told) == 0


def test_a_shard_that_is_stopped_waits_for_no_more_than_a_batch(
    model: UnsafeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def slow(images: list, model: UnsafeModel, *more: object) -> list[float]:
        batches.append(len(images))
        time.sleep(0.1)
        return [0.5] * len(images)

    monkeypatch.setattr(score_images, "unsafe_scores", slow)
    bodies = [red(0) + bytes(n) for n in range(400)]
    raised: list[BaseException] = []

    def shard() -> list[object]:
        try:
            scores_of(bodies, model, tmp_path)
        except InterruptedError as error:
            raised.append(error)
        return []

    with ThreadPoolExecutor(1) as pool:
        results = Results(pool, shard)
        while not batches:
            time.sleep(0.01)
        results.stop()
        results.wait()
    assert len(raised) == 1
    assert len(batches) < 400 / open_classifier(model).batch / 2
