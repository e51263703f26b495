"""Each process's share of real shards: read in blocks, no more than needed, gone on with."""

from itertools import islice
from pathlib import Path

import pytest

from alignset.train.data.plan import Cursor, Plan
from alignset.train.data.samples import shard_samples
from alignset.train.data.shard_index import read_index
from alignset.train.data.shuffled_streams import ShuffledStream
from alignset.train.errors import TrainingError
from tests.support.shard_server import shard_server
from tests.support.train_shards import write_tar


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr("alignset.train.data.shard_index.LOCAL_BLOCK", 8)
    monkeypatch.setattr("alignset.train.data.shard_index.REMOTE_BLOCK", 8)


def made(folder: Path, counts: list[int]) -> tuple[str, ...]:
    """A shard of so many samples for each count; keys say shard and number."""
    shards = []
    for shard, count in enumerate(counts):
        files = {f"{shard}-{n:03d}.txt": b"a text" for n in range(count)}
        shards.append(str(write_tar(folder / f"{shard}.tar", files)))
    return tuple(shards)


def stream_of(shards, window: int, rank: int = 0, processes: int = 1, seed: int = 3):
    return ShuffledStream(Plan(read_index(shards)[0], seed, window), rank, processes)


def keys_by_epoch(stream: ShuffledStream, epochs: int) -> list[list[str]]:
    keys: list[list[str]] = [[] for _ in range(epochs)]
    for cursor, sample in stream.samples(Cursor()):
        if cursor.epoch >= epochs:
            return keys
        keys[cursor.epoch].append(sample.key)
    raise AssertionError("it is endless")


@pytest.mark.parametrize("how", ["ranges", "no ranges", "command"])
def test_shards_elsewhere_give_the_same_samples(tmp_path, how, monkeypatch):
    """Those that can't be read from their middle too, and none is read over for each window."""
    made(tmp_path, [30, 17])
    opened = []
    monkeypatch.setattr(
        "alignset.train.data.shuffled_streams.shard_samples",
        lambda shard, *where, **at: opened.append(shard) or shard_samples(shard, *where, **at),
    )
    with shard_server(tmp_path) as web:
        web.ranges = how == "ranges"
        names = [f"{web.url}/{i}.tar" for i in range(2)]
        if how == "command":
            names = [f"pipe:cat {tmp_path}/{i}.tar" for i in range(2)]
        parts = [keys_by_epoch(stream_of(names, 5, rank, 2), 1)[0] for rank in range(2)]
        every = sorted(f"{s}-{n:03d}" for s, count in ((0, 30), (1, 17)) for n in range(count))
        assert sorted(parts[0] + parts[1]) == every
        assert len(opened) <= (15 if how == "ranges" else 7)


@pytest.mark.parametrize(("window", "processes"), [(1, 1), (5, 2), (100, 4)])
def test_goes_on_from_any_sample(tmp_path, window, processes):
    shards = made(tmp_path, [12, 1, 8, 0])
    every = sorted(f"{s}-{n:03d}" for s, count in enumerate((12, 1, 8)) for n in range(count))
    parts = [keys_by_epoch(stream_of(shards, window, r, processes), 2) for r in range(processes)]
    for epoch in range(2):
        assert sorted(key for part in parts for key in part[epoch]) == every
    stream = stream_of(shards, window, processes - 1, processes)
    whole = list(islice(stream.samples(Cursor()), 60))
    for taken in range(0, 50, 7):
        again = stream_of(shards, window, processes - 1, processes)
        assert list(islice(again.samples(whole[taken][0]), 8)) == whole[taken + 1 : taken + 9]


def test_going_on_opens_no_shard_before_the_window(tmp_path, monkeypatch):
    shards = made(tmp_path, [8] * 8)
    opened = []
    monkeypatch.setattr(
        "alignset.train.data.shuffled_streams.shard_samples",
        lambda shard, first, **_: opened.append((shard, first)) or shard_samples(shard, first),
    )
    cursor = list(islice(stream_of(shards, 8).samples(Cursor()), 50))[-1][0]
    whole = opened.copy()
    opened.clear()
    next(stream_of(shards, 8).samples(cursor))
    assert opened == whole[6 : 6 + len(opened)]
    assert len(opened) == 2  # its window, and the first sample of the next


def test_no_more_than_a_window_is_held(tmp_path, monkeypatch):
    stream = stream_of(made(tmp_path, [50, 50]), 20)
    read = 0

    def counted(shard, first, at, **_):
        nonlocal read
        for sample in shard_samples(shard, first, at=at):
            read += 1
            yield sample

    monkeypatch.setattr("alignset.train.data.shuffled_streams.shard_samples", counted)
    before = 21
    for yielded, _ in enumerate(islice(stream.samples(Cursor()), 250)):
        assert read - yielded <= 21
        assert read - before <= 1  # nor does any sample wait for many others
        before = read
    assert read >= 250


def test_a_shard_that_has_become_another_is_told(tmp_path):
    shards = made(tmp_path, [20, 20])
    stream = stream_of(shards, 10)
    made(tmp_path, [20, 13])
    with pytest.raises(TrainingError, match=r"other samples than when the run began.*0\.tar"):
        list(islice(stream.samples(Cursor()), 200))
