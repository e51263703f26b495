"""Batches: every pixel the same whoever decodes it, sets in their shares, bad samples capped."""

import itertools
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.data.batches import Batch, TrainingData
from alignset.train.data.find_shards import ShardSet, find_sets
from alignset.train.data.images import random_crop
from alignset.train.data.position import Position
from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.data.shard_index import read_indexes
from alignset.train.errors import TrainingError
from alignset.train.presets import TINY
from alignset.train.settings import Settings
from tests.support.train_shards import colour_files, encoded, write_tar

SETTINGS = replace(
    TINY, batch_size=4, resize_px=20, crop_px=16, shuffle_samples=8, horizontal_flip=True
)


def batches(
    sets: list[ShardSet],
    count: int,
    position: Position | None = None,
    settings: Settings = SETTINGS,
    rank: int = 0,
    processes: int = 1,
) -> list[Batch]:
    indexes, _ = read_indexes([shard_set.shards for shard_set in sets])
    data = TrainingData(sets, indexes, settings, rank, processes)
    return list(itertools.islice(data.batches(position or Position()), count))


def assert_equal(ones: list[Batch], others: list[Batch]) -> None:
    for a, b in zip(ones, others, strict=True):
        assert (a.texts, a.position) == (b.texts, b.position)
        assert np.array_equal(a.pixels, b.pixels)


def noise_files(first: int, count: int) -> dict[str, bytes]:
    """Pairs of images of which no two parts are alike."""
    files: dict[str, bytes] = {}
    for n in range(first, first + count):
        noise = np.random.default_rng(n).integers(0, 256, (30, 26, 3)).astype(np.uint8)
        files |= {f"{n}.png": encoded(Image.fromarray(noise)), f"{n}.txt": f"text {n}".encode()}
    return files


@pytest.fixture
def two_sets(tmp_path: Path) -> list[ShardSet]:
    for shard in range(3):
        write_tar(tmp_path / f"a/{shard}.tar", noise_files(12 * shard, 12))
    named = noise_files(100, 10)
    write_tar(tmp_path / "b.tar", {n: b"b" if n[-3:] == "txt" else d for n, d in named.items()})
    return find_sets(f"{tmp_path}/a::3,{tmp_path}/b.tar::1")


def test_resumes_from_any_batch_with_the_same_batches_by_any_threads(two_sets):
    whole = batches(two_sets, 47)
    for taken, settings in (
        (1, replace(SETTINGS, decode_threads=1)),
        (6, replace(SETTINGS, decode_threads=4, cached_images=100)),
        (40, SETTINGS),
    ):
        position = whole[taken - 1].position
        assert_equal(batches(two_sets, 7, position, settings), whole[taken : taken + 7])


def test_each_epoch_crops_anew(tmp_path: Path):
    sets = find_sets(str(write_tar(tmp_path / "0.tar", noise_files(0, 24))))
    crops: dict[str, list[bytes]] = {}
    for batch in batches(sets, 12):  # two epochs
        for text, pixels in zip(batch.texts, batch.pixels, strict=True):
            crops.setdefault(text, []).append(pixels.tobytes())
    assert {len(both) for both in crops.values()} == {2}
    assert sum(first != second for first, second in crops.values()) > 18  # of 50 crops one is alike


@pytest.mark.parametrize("processes", [1, 2])
def test_each_set_gives_its_share_of_every_few_batches(two_sets, processes: int):
    for rank in range(processes):
        mixed = batches(two_sets, 60, rank=rank, processes=processes)
        texts = [text == "b" for batch in mixed for text in batch.texts]
        for i in range(0, len(texts), 40 // processes):
            assert abs(sum(texts[i : i + 40 // processes]) - 10 / processes) <= 2
        epochs = [{cursor.epoch for cursor in batch.position.cursors} for batch in mixed]
        assert [batch.position.epoch for batch in mixed] == [min(of_sets) for of_sets in epochs]
        assert max(map(len, epochs)) == 2  # the small set is an epoch ahead at times


def test_bad_and_hostile_samples_are_skipped_and_counted(tmp_path: Path):
    """Whatever an image or a text is made of; the good ones come as if they were alone."""
    files = colour_files(0, 8)
    picture = files["0000000000000000.png"]
    bad = {
        "large.jpg": bytes(LONGEST_IMAGE + 1),
        "gif.jpg": b"GIF89a" + bytes(1 << 23),
        "exif.jpg": b"\xff\xd8" + b"\xff\xe1\0\x09Exif\0\0a" * 1000,
        "zeros.png": bytes(100),
        "cut.png": picture[:-30],
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "noisy.webp": b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 100,
    }
    mixed = files | bad | {f"{name.partition('.')[0]}.txt": b"a text" for name in bad}
    mixed = dict(sorted(mixed.items(), key=lambda file: file[0].partition(".")[0]))
    # Of one the image comes later, and of one the text is blank.
    mixed = {"alone.txt": b"a text"} | mixed | {"mute.png": picture, "mute.txt": b" \n"}
    sets = find_sets(str(write_tar(tmp_path / "0.tar", mixed | {"alone.png": picture})))
    settings = replace(SETTINGS, max_skipped_share=0.5)
    made = batches(sets, 5, settings=settings)
    texts = Counter(text for batch in made[:4] for text in batch.texts)
    assert texts == {files[name].decode(): 2 for name in files if name.endswith("txt")}
    counts = dict(made[3].position.reasons)
    # By where those of the second epoch lie.
    for reason, least, most in (
        ("too_large", 2, 4),
        ("undecodable", 4, 10),
        ("no_image", 1, 2),
        ("no_text", 2, 4),
    ):
        assert least <= counts.pop(reason) <= most, reason
    assert not counts
    assert_equal(batches(sets, 1, made[3].position, settings), made[4:])


def test_as_few_samples_are_read_ahead_as_their_bytes_allow(tmp_path: Path, monkeypatch):
    """All of a batch of large ones would be held until they are decoded."""
    files = colour_files(0, 40)
    for name in [name for name in files if name.endswith("png")]:
        files[name] += bytes(1 << 16)
    sets = find_sets(str(write_tar(tmp_path / "0.tar", files)))
    settings = replace(SETTINGS, batch_size=32, decode_threads=1)
    expected = batches(sets, 2, settings=settings)
    monkeypatch.setattr("alignset.train.data.batches.MAX_BYTES_AHEAD", 4 << 16)
    held, lock = [0], threading.Lock()
    submitted = ThreadPoolExecutor.submit

    def submit(self, function, *args):
        with lock:
            held.append(held[-1] + 1)
        return submitted(self, function, *args)

    def counted(*image, **how):
        cropped = random_crop(*image, **how)
        with lock:
            held.append(held[-1] - 1)
        return cropped

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    monkeypatch.setattr("alignset.train.data.batches.random_crop", counted)
    assert_equal(batches(sets, 2, settings=settings), expected)
    assert max(held) <= 6


def test_too_many_bad_samples_end_with_a_line(tmp_path: Path):
    files = colour_files(0, 9) | {"bad.jpg": b"x", "bad.txt": b"y"}
    sets = find_sets(str(write_tar(tmp_path / "0.tar", files)))
    with pytest.raises(TrainingError) as raised:
        batches(sets, 10_000, settings=replace(SETTINGS, max_skipped_share=0.02))
    assert str(raised.value) == (
        "21 of 201 samples cannot be used (21 undecodable; the last is bad): look at the shards, "
        "where an image and its text must follow each other, or raise max_skipped_share; it is 0.02"
    ).replace("201", str(raised.value).split()[2])
    batches(sets, 500, settings=replace(SETTINGS, max_skipped_share=0.11))
    nothing = find_sets(str(write_tar(tmp_path / "1.tar", {"a.jpg": b"x", "a.txt": b"y"})))
    with pytest.raises(TrainingError, match=r"11 of 11 samples cannot be used \(11 undecodable"):
        batches(nothing, 1)


@pytest.mark.parametrize("where", ["lines", "json"])
def test_an_epoch_takes_one_caption_and_the_next_the_next(tmp_path: Path, where: str):
    files = {}
    for name, data in colour_files(0, 8).items():
        captions = [f"{name[:16]}, line {i}" for i in range(3)]
        if name.endswith("png"):
            files[name] = data
        elif name.endswith("txt") and where == "lines":
            files[name] = "\n\n".join(captions).encode()
        elif name.endswith("txt"):
            files[name.replace("txt", "json")] = json.dumps({"captions": captions}).encode()
    sets = find_sets(str(write_tar(tmp_path / "captions.tar", files)))
    chosen = {"caption_lines": True} if where == "lines" else {"caption_field": "captions"}
    settings = replace(SETTINGS, batch_size=8, **chosen)
    epochs = [batch.texts for batch in batches(sets, 6, settings=settings)]
    for three in (epochs[:3], epochs[3:]):
        captions = Counter(text for texts in three for text in texts)
        assert len(captions) == 24  # each of the 3 lines of the 8 samples
        assert set(captions.values()) == {1}
    if where == "lines":
        whole = batches(sets, 1)[0].texts[0]
        assert whole.count("\n") == 4  # without the flag, a text is what it is
