"""What the trainer reads: every sample, upright, in RGB, in an order that can be gone on with."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_shards import colour_files, colour_shards, encoded, write_tar

from train.data import (
    Position,
    TrainingData,
    decode_image,
    find_shards,
    random_crop,
    read_samples,
    resize_square,
)
from train.errors import SettingsError
from train.presets import TINY
from train.settings import Settings

SETTINGS = replace(
    TINY, batch_size=4, resize_px=20, crop_px=16, shuffle_samples=8, horizontal_flip=True
)


def batches(shards: list[str], position: Position | None = None, settings: Settings = SETTINGS):
    return TrainingData(shards, settings).batches(position or Position())


def test_an_epoch_has_every_sample_once_and_no_epoch_has_the_same_order(tmp_path: Path):
    shards = find_shards(str(colour_shards(tmp_path)))
    keys = {key for key, _, _ in read_samples(shards)}
    data = TrainingData(shards, SETTINGS)
    epochs = [[key for key, _, _ in data._epoch(i)] for i in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(keys)] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] == [key for key, _, _ in TrainingData(shards, SETTINGS)._epoch(0)]


@pytest.mark.parametrize("taken", [1, 2, 5, 6, 9])  # an epoch is 6 batches
def test_goes_on_from_any_batch_with_the_same_batches(tmp_path: Path, taken: int):
    shards = find_shards(str(colour_shards(tmp_path)))
    whole = list(itertools.islice(batches(shards), taken + 7))
    rest = list(itertools.islice(batches(shards, whole[taken - 1].position), 7))
    for expected, batch in zip(whole[taken:], rest, strict=True):
        assert batch.texts == expected.texts
        assert batch.position == expected.position
        assert np.array_equal(batch.pixels, expected.pixels)


def test_threads_and_cache_change_nothing(tmp_path: Path):
    shards = find_shards(str(colour_shards(tmp_path)))
    plain = replace(SETTINGS, decode_threads=1, cached_images=0)
    cached = replace(SETTINGS, decode_threads=4, cached_images=100)
    for a, b in itertools.islice(
        zip(batches(shards, settings=plain), batches(shards, settings=cached), strict=True), 14
    ):
        assert a.texts == b.texts
        assert np.array_equal(a.pixels, b.pixels)


@pytest.mark.parametrize("count", [1, 3])  # shards: fewer and more than processes
def test_processes_share_an_epoch_out(tmp_path: Path, count: int):
    shards = find_shards(str(colour_shards(tmp_path, shards=count)))
    parts = [
        [key for key, _, _ in TrainingData(shards, SETTINGS, rank=rank, processes=2)._epoch(3)]
        for rank in range(2)
    ]
    assert min(map(len, parts)) > 0
    assert sorted(parts[0] + parts[1]) == sorted(key for key, _, _ in read_samples(shards))


def test_undecodable_samples_are_counted_and_skipped(tmp_path: Path):
    files = colour_files(0, 8)
    files["bad.jpg"], files["bad.txt"] = b"no picture", b"a bad picture"
    files["alone.txt"] = b"a text without a picture"
    shards = [str(write_tar(tmp_path / "0.tar", files))]
    found = list(itertools.islice(batches(shards), 4))  # two epochs of 8 good ones
    assert "a bad picture" not in [text for batch in found for text in batch.texts]
    last = next(itertools.islice(batches(shards), 4, None)).position
    assert last.epoch == 2
    assert last.skipped in (2, 3)  # the third epoch's bad one comes before or after its 4 good ones
    resumed = next(batches(shards, found[3].position)).position
    assert resumed == last


def test_shards_without_one_good_image_end_with_a_line(tmp_path: Path):
    shards = [str(write_tar(tmp_path / "0.tar", {"a.jpg": b"x", "a.txt": b"y"}))]
    with pytest.raises(SettingsError, match="can be decoded"):
        next(batches(shards))
    shards = [str(write_tar(tmp_path / "1.tar", {"a.txt": b"y"}))]
    with pytest.raises(SettingsError, match="no sample with an image"):
        next(batches(shards))


def test_a_cut_off_shard_is_named(tmp_path: Path):
    path = write_tar(tmp_path / "0.tar", colour_files(0, 8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SettingsError, match=r"0\.tar is damaged"):
        list(read_samples([str(path)]))


def test_images_come_out_upright_and_rgb():
    half = Image.new("RGB", (8, 4), "black")
    half.paste("white", (0, 0, 4, 4))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to see it upright: white goes to the top
    upright = decode_image(encoded(half, "PNG", exif=exif))
    assert (upright.mode, upright.size) == ("RGB", (4, 8))
    assert upright.getpixel((1, 1)) == (255, 255, 255)
    assert upright.getpixel((1, 6)) == (0, 0, 0)
    for image in (half.convert("L"), half.convert("P"), half.convert("CMYK").convert("RGBA")):
        assert decode_image(encoded(image)).mode == "RGB"
    assert decode_image(encoded(half.convert("CMYK"), "JPEG")).mode == "RGB"


def test_resize_squares_and_crop_stays_inside():
    pixels = resize_square(Image.linear_gradient("L").resize((30, 50)).convert("RGB"), 20)
    assert pixels.shape == (20, 20, 3)
    rng = random.Random(1)
    tops = {int(random_crop(pixels, 16, rng, flip=False)[0, 0, 0]) for _ in range(60)}
    assert tops == {int(pixels[top, 0, 0]) for top in range(5)}  # every offset, none beyond
    wide = np.arange(16, dtype=np.uint8)[None, :, None] * np.ones((16, 16, 3), np.uint8)
    firsts = {int(random_crop(wide, 16, rng, flip=True)[0, 0, 0]) for _ in range(40)}
    assert firsts == {0, 15}
    assert {int(random_crop(wide, 16, rng, flip=False)[0, 0, 0]) for _ in range(40)} == {0}


def test_find_shards_takes_folders_files_and_globs(tmp_path: Path):
    folder = colour_shards(tmp_path / "a", shards=3, each=1)
    expected = [str(folder / f"0000{i}.tar") for i in range(3)]
    assert find_shards(str(folder)) == expected
    assert find_shards(f"{folder}/*1.tar,{expected[0]}") == [expected[1], expected[0]]
    for nothing in ("", str(tmp_path), str(tmp_path / "none"), f"{folder},{tmp_path}"):
        with pytest.raises(SettingsError, match="no shards"):
            find_shards(nothing)
