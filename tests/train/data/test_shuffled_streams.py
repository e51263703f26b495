"""Each process's share of a set: every sample once an epoch, shuffled, gone on with."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from tests.support.train_shards import write_tar
from train.data.samples import shard_samples
from train.data.shuffled_streams import Cursor, ShuffledStream
from train.errors import SettingsError


def made(folder: Path, counts: list[int]) -> tuple[str, ...]:
    """A shard of so many samples for each count; keys say shard and number."""
    shards = []
    for shard, count in enumerate(counts):
        files = {f"{shard}-{n:03d}.txt": b"a text" for n in range(count)}
        shards.append(str(write_tar(folder / f"{shard}.tar", files)))
    return tuple(shards)


def keys_by_epoch(stream: ShuffledStream, epochs: int) -> list[list[str]]:
    keys: list[list[str]] = [[] for _ in range(epochs)]
    for cursor, sample in stream.samples(Cursor()):
        if cursor.epoch >= epochs:
            return keys
        keys[cursor.epoch].append(sample.key)
    raise AssertionError("it is endless")


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("counts", [[7], [1], [3, 9], [1, 1, 40, 2, 0], [5, 5, 5, 5], [1, 0]])
def test_an_epoch_has_each_sample_once_over_all_processes(tmp_path, counts, processes):
    shards = made(tmp_path, counts)
    every = sorted(f"{s}-{n:03d}" for s, count in enumerate(counts) for n in range(count))
    parts = [
        keys_by_epoch(ShuffledStream(shards, 3, 4, rank, processes), 4) for rank in range(processes)
    ]
    for epoch in range(4):
        assert sorted(key for part in parts for key in part[epoch]) == every
    if len(shards) >= processes:  # each shard is read by one process
        readers = Counter(key[0] for part in parts for key in {k[0] for k in part[0]})
        assert max(readers.values()) == 1


def test_no_epoch_has_the_order_of_another_nor_of_the_shards(tmp_path):
    shards = made(tmp_path, [12, 12, 12])
    first, second = keys_by_epoch(ShuffledStream(shards, 3, 18), 2)
    assert first != second
    assert first == keys_by_epoch(ShuffledStream(shards, 3, 18), 1)[0]
    assert first != keys_by_epoch(ShuffledStream(shards, 4, 18), 1)[0]
    mixed = [key for key in first[:18] if key[0] == first[0][0]]
    assert 0 < len(mixed) < 18  # a window has samples of two shards
    assert mixed != sorted(mixed)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("window", [1, 5, 12, 100])
def test_goes_on_from_any_sample(tmp_path, window, processes):
    shards = made(tmp_path, [12, 1, 8])
    stream = ShuffledStream(shards, 3, window, processes - 1, processes)
    whole = list(islice(stream.samples(Cursor()), 60))
    for taken in range(50):
        cursor = whole[taken][0]
        assert list(islice(stream.samples(cursor), 8)) == whole[taken + 1 : taken + 9]


def test_going_on_opens_no_shard_before_the_window(tmp_path, monkeypatch):
    shards = made(tmp_path, [10] * 8)
    stream = ShuffledStream(shards, 3, 10)
    opened = []
    monkeypatch.setattr(
        "train.data.shuffled_streams.shard_samples",
        lambda shard, first: opened.append((shard, first)) or shard_samples(shard, first),
    )
    cursor = list(islice(stream.samples(Cursor()), 65))[-1][0]
    whole = opened.copy()
    opened.clear()
    next(stream.samples(cursor))
    assert opened[0][1] == 0
    assert opened == whole[6 : 6 + len(opened)]


def test_no_more_than_a_window_is_held(tmp_path, monkeypatch):
    shards = made(tmp_path, [50, 50])
    stream = ShuffledStream(shards, 3, 20)
    read = 0

    def counted(shard, first):
        nonlocal read
        for sample in shard_samples(shard, first):
            read += 1
            yield sample

    monkeypatch.setattr("train.data.shuffled_streams.shard_samples", counted)
    before = 21
    for yielded, _ in enumerate(islice(stream.samples(Cursor()), 250)):
        assert read - yielded <= 21
        assert read - before <= 1  # nor does any sample wait for many others
        before = read
    assert read >= 250


def test_shards_without_any_sample_end_with_a_line(tmp_path):
    with pytest.raises(SettingsError, match=r"no sample in 2 shards, such as .*\.tar"):
        next(ShuffledStream(made(tmp_path, [0, 0]), 3, 4).samples(Cursor()))


def test_a_window_of_large_images_has_fewer(tmp_path, monkeypatch):
    """Bytes bound it too, and it is gone on with as any other."""
    monkeypatch.setattr("train.data.shuffled_streams.MEAN_BYTES", 1000)
    files = {}
    for n in range(40):
        files |= {f"{n}.jpg": bytes(9_000 if 10 <= n < 20 else 90), f"{n}.txt": b"x"}
    shards = (str(write_tar(tmp_path / "0.tar", files)),)
    stream = ShuffledStream(shards, 3, 20)
    whole = list(islice(stream.samples(Cursor()), 80))
    starts = sorted({cursor.sample for cursor, _ in whole})
    assert starts[:4] == [0, 13, 16, 19]  # 10 small and 3 large, 3 large, 3 large
    for taken in range(70):
        cursor = whole[taken][0]
        assert list(islice(stream.samples(cursor), 8)) == whole[taken + 1 : taken + 9]
