"""Labelled images: classes found, boxes within the image, what is wrong is said."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.classify.labelled_images import (
    TrainingBatches,
    evaluation_batches,
    find_images,
    random_box,
)
from alignset.train.classify.settings import TINY
from alignset.train.errors import SettingsError, TrainingError

SETTINGS = replace(TINY, batch_size=4)


def folder(root: Path, classes: dict[str, int]) -> Path:
    """Plain images; how grey one is tells which it is."""
    shade = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (30, 20), (shade,) * 3).save(root / name / f"{i}.png")
            shade += 20
    return root


def test_classes_are_the_folders_and_keep_their_numbers(tmp_path: Path):
    train = find_images(str(folder(tmp_path / "train", {"cat": 2, "ant": 3, "dog": 1})))
    assert train.classes == ["ant", "cat", "dog"]
    assert train.labels == [0, 0, 0, 1, 1, 2]
    dogs = find_images(str(folder(tmp_path / "val", {"dog": 2})), train.classes)
    assert (dogs.labels, dogs.classes) == ([2, 2], train.classes)
    assert dogs.part(1, 2).paths == dogs.paths[1:]


def test_what_is_no_such_folder_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="no images with classes in"):
        find_images(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="no images with classes in"):
        find_images(str(tmp_path / "empty"))
    folder(tmp_path / "val", {"cow": 1})
    with pytest.raises(SettingsError, match="'cow', which is not a class of the training images"):
        find_images(str(tmp_path / "val"), ["ant"])


def test_random_boxes_are_as_large_and_as_long_as_said():
    areas, aspects = [], []
    for seed in range(300):
        left, top, right, bottom = random_box(400, 300, 0.08, random.Random(seed))
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300
        areas.append((right - left) * (bottom - top) / 120_000)
        aspects.append((right - left) / (bottom - top))
    assert min(areas) == pytest.approx(0.08, abs=0.01)
    assert max(areas) > 0.85
    assert min(aspects) == pytest.approx(3 / 4, abs=0.02)
    assert max(aspects) == pytest.approx(4 / 3, abs=0.02)
    assert random_box(1000, 1, 1.0, random.Random(0)) == (499, 0, 500, 1)  # no box fits


def test_each_image_comes_once_an_epoch_and_the_rest_of_a_stream_is_the_same(tmp_path: Path):
    images = find_images(str(folder(tmp_path / "train", {"ant": 5, "cat": 5})))
    stream = TrainingBatches(images, SETTINGS, 8).after(0)
    batches = [next(stream) for _ in range(4)]
    stream.close()
    for epoch in (batches[:2], batches[2:]):  # 8 of the 10: full batches alone
        shades = [int(pixels[0, 0, 0]) for part, _ in epoch for pixels in part]
        assert len(set(shades)) == 8
        labels = [int(label) for _, part in epoch for label in part]
        assert labels == [int(shade >= 100) for shade in shades]
    later = next(TrainingBatches(images, SETTINGS, 8).after(2))
    assert np.array_equal(later[0], batches[2][0])
    halves = [next(TrainingBatches(images, SETTINGS, 8, rank, 2).after(0))[1] for rank in (0, 1)]
    assert sorted(np.concatenate(halves)) == sorted(batches[0][1])


def test_evaluation_goes_once_through_all(tmp_path: Path):
    images = find_images(str(folder(tmp_path / "val", {"ant": 3, "cat": 2})))
    batches = list(evaluation_batches(images, 8, batch_size=4, threads=2))
    assert [len(pixels) for pixels, _ in batches] == [4, 1]
    assert np.concatenate([labels for _, labels in batches]).tolist() == images.labels
    assert [int(p[0, 0, 0]) for part, _ in batches for p in part] == [0, 20, 40, 60, 80]


def test_a_broken_image_is_named(tmp_path: Path):
    broken = folder(tmp_path / "val", {"ant": 2}) / "ant" / "1.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"ant/1.png can't be decoded"):
        list(evaluation_batches(find_images(str(tmp_path / "val")), 8, batch_size=4, threads=1))


def test_a_long_thin_image_takes_little_memory(tmp_path: Path):
    """Its shorter side resized to 330 px, the longer one would be 21 million."""
    images = folder(tmp_path / "val", {"ant": 1}) / "ant"
    Image.new("L", (65_500, 1), 50).save(images / "0.png")
    ((pixels, _),) = evaluation_batches(find_images(str(tmp_path / "val")), 289, 1, threads=1)
    assert (pixels == 50).all()
