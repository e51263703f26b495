"""The order of samples: each once an epoch, the same again, exactly resumed, of real shards too."""

import random
from collections import Counter
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
import pytest

from alignset.train.data.order import Order, read_in_order
from alignset.train.data.position import Cursor, Position, resume_position
from alignset.train.data.samples import shard_samples
from alignset.train.data.shard_index import ShardIndex, read_indexes
from alignset.train.errors import TrainingError
from tests.support.shard_server import shard_server
from tests.support.train_shards import write_tar

START = Cursor()
COUNTS = [[7], [1], [1, 1, 40, 2, 0], [5] * 9, [4_000, 3, 0, 700]]


def index_of(counts: list[int], *, block: int = 64, image_bytes: int = 1_000) -> ShardIndex:
    rows = [
        (shard, first, min(block, count - first))
        for shard, count in enumerate(counts)
        for first in range(0, count, block)
    ]
    shard, start, samples = np.array(rows, np.int64).T
    images = np.random.default_rng(sum(counts)).integers(0, 1 << 16, sum(counts), np.uint16)
    names = tuple(f"{i}.tar" for i in range(len(counts)))
    return ShardIndex(names, shard, start, samples, samples * image_bytes, images)


def samples_of(order: Order, cursor: Cursor = START):
    """The cursor behind each sample, and its number among all of the index."""
    for window in order.windows(cursor):
        number = order.index.before[window.block] + window.number
        first = cursor.taken - window.begins if cursor.epoch == window.epoch else 0
        for done in range(max(0, first), len(window.order)):
            yield Cursor(window.epoch, window.begins + done + 1), int(number[window.order[done]])
        cursor = Cursor(window.epoch, window.begins + len(window.order))


@pytest.mark.parametrize("processes", [1, 3, 16])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_an_epoch_has_each_sample_once_and_no_batch_one_twice(counts: list[int], processes: int):
    index = index_of(counts)
    epochs = 2 if index.total > 1_000 else 5
    length = -(-epochs * index.total // processes)
    streams = [
        [
            (cursor.epoch, sample)
            for cursor, sample in islice(samples_of(Order(index, 3, 500, rank, processes)), length)
        ]
        for rank in range(processes)
    ]
    for epoch in range(epochs - 1):
        had = Counter(who for stream in streams for at, who in stream if at == epoch)
        assert had == dict.fromkeys(range(index.total), 1)
    for share in (1, 7):  # so many of each process are a batch; it has one twice of two epochs
        for first in range(0, length, share):
            batch = [who for stream in streams for who in stream[first : first + share]]
            assert len(set(batch)) == len(batch)
    # None is ahead of another: epochs end within one sample.
    if index.total >= processes:
        ends = [next(i for i, (epoch, _) in enumerate(stream) if epoch) for stream in streams]
        assert max(ends) - min(ends) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_resumes_from_any_sample_with_as_many(seed: int):
    rng = random.Random(seed)
    counts = [rng.choice([0, 1, 5, 90, 400]) for _ in range(6)] + [1]
    processes = rng.randint(1, 5)
    order = Order(
        index_of(counts, block=32),
        seed,
        window_samples=rng.choice([1, 10, 100, 1_000]),
        rank=rng.randrange(processes),
        processes=processes,
    )
    whole = list(islice(samples_of(order), 900))
    for at in rng.sample(range(800), 40):
        assert list(islice(samples_of(order, whole[at][0]), 50)) == whole[at + 1 : at + 51]


@pytest.mark.parametrize("processes", [1, 3, 4])
def test_others_begin_the_next_epoch(processes: int):
    """Two processes stopped within an epoch, one of them behind its end."""
    index = index_of([90, 7, 400], block=32)
    stopped = [Position((Cursor(3, 200), Cursor(0, 9)), 40), Position((Cursor(4, 1), Cursor()), 42)]
    had: Counter[int] = Counter()
    for rank in range(processes):
        position = resume_position(rank, stopped, processes)
        assert position == Position((Cursor(5), Cursor(1)))
        stream = samples_of(Order(index, 1, 50, rank, processes), position.cursors[0])
        had.update(who for _, who in takewhile(lambda one: one[0].epoch == 5, stream))
    assert had == dict.fromkeys(range(497), 1)
    assert [resume_position(rank, stopped, 2) for rank in range(2)] == stopped


def test_orders_follow_from_seed_and_epoch_and_windows_mix_many_shards():
    index = index_of([30] * 4)
    firsts = {
        tuple(who for _, who in islice(samples_of(Order(index, seed, 40), Cursor(epoch)), 120))
        for seed in (1, 2, 1)
        for epoch in (0, 1, 2)
    }
    assert len(firsts) == 6
    order = Order(index_of([10_000] * 100), 0, 10_000, 0, 8)
    window = next(order.windows(Cursor()))
    assert len(window.order) == 10_000
    for read in (window.block, window.block[window.order[:2_048]]):
        assert len(set(order.index.shard[read].tolist())) > 70  # of 157 blocks


@pytest.mark.parametrize("processes", [1, 3])
def test_samples_of_one_image_are_far_apart(processes: int):
    """Of windows of 1,000, those of an image that it has twice are half a window apart."""
    rng = np.random.default_rng(4)
    image = np.concatenate([np.arange(8_000), np.repeat(np.arange(8_000, 9_000), 2), [9_999] * 9])
    index = replace(index_of([len(image)]), image=rng.permutation(image).astype(np.uint16))
    for rank in range(processes):
        windows = Order(index, 1, 1_000, rank, processes).windows(Cursor())
        for window in takewhile(lambda window: window.epoch == 0, windows):
            assert sorted(window.order.tolist()) == list(range(len(window.order)))
            images = index.image[(index.before[window.block] + window.number)[window.order]]
            for value, count in Counter(images.tolist()).items():
                if count > 1:
                    apart = np.diff(np.flatnonzero(images == value)).min()
                    assert apart > 0.8 * len(window.order) / count, (value, count, apart)


def test_windows_of_large_images_have_fewer():
    index = index_of([64] * 8)
    sizes = np.repeat([1 << 19, 1 << 22], 4) * 64  # bytes, of the blocks
    order = Order(replace(index, size=sizes), 0, 100)
    windows = [*takewhile(lambda window: window.epoch == 0, order.windows(Cursor()))]
    for window in windows:
        assert sizes[window.block].sum() / 64 <= (100 + 4) << 20
        assert 1 <= len(window.order) <= 100
    assert sum(len(window.order) for window in windows) == 512


# --- Real shards ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr("alignset.train.data.shard_index.LOCAL_BLOCK", 8)
    monkeypatch.setattr("alignset.train.data.shard_index.REMOTE_BLOCK", 8)


@pytest.fixture
def opened(monkeypatch) -> list[tuple[str, int]]:
    """Each opening of a shard, with the first sample that is read there."""
    openings: list[tuple[str, int]] = []

    def opening(shard, first, **how):
        openings.append((shard, first))
        return shard_samples(shard, first, **how)

    monkeypatch.setattr("alignset.train.data.order.shard_samples", opening)
    return openings


def shards_of(folder: Path, counts: list[int]) -> tuple[str, ...]:
    """A shard of so many samples for each count; keys say shard and number."""
    shards = []
    for shard, count in enumerate(counts):
        files = {f"{shard}-{n:03d}.txt": b"a text" for n in range(count)}
        shards.append(str(write_tar(folder / f"{shard}.tar", files)))
    return tuple(shards)


def order_of(shards: tuple[str, ...], window: int, rank: int = 0, processes: int = 1) -> Order:
    return Order(read_indexes([shards])[0][0], 3, window, rank, processes)


@pytest.mark.parametrize("how", ["files", "ranges", "no ranges", "command"])
def test_shards_anywhere_give_each_sample_once_and_resume(tmp_path, opened, how):
    """Those that can't be read from their middle too, and none is read over for each window."""
    shards = shards_of(tmp_path, [30, 17])
    with shard_server(tmp_path) as web:
        web.ranges = how == "ranges"
        if how == "command":
            shards = tuple(f"pipe:cat {shard}" for shard in shards)
        elif how != "files":
            shards = tuple(f"{web.url}/{i}.tar" for i in range(2))
        keys = []
        for rank in range(2):
            stream = read_in_order(order_of(shards, 5, rank, 2), Cursor())
            read = list(takewhile(lambda one: one[0].epoch == 0, stream))
            keys += [sample.key for _, sample in read]
        assert sorted(keys) == sorted(
            f"{s}-{n:03d}" for s, count in ((0, 30), (1, 17)) for n in range(count)
        )
        assert len(opened) <= (7 if how in ("no ranges", "command") else 15)
        for at in (0, 7, 12):
            resumed = read_in_order(order_of(shards, 5, 1, 2), read[at][0])
            assert list(islice(resumed, 8)) == read[at + 1 : at + 9]


def test_resuming_opens_no_shard_before_the_window(tmp_path, opened):
    order = order_of(shards_of(tmp_path, [8] * 8), 8)
    cursor, _ = list(islice(read_in_order(order, Cursor()), 50))[-1]
    whole = opened.copy()
    opened.clear()
    next(read_in_order(order, cursor))
    assert opened == whole[6 : 6 + len(opened)]
    assert len(opened) == 2  # its window, and the first sample of the next


def test_no_more_than_a_window_is_held(tmp_path, monkeypatch):
    order = order_of(shards_of(tmp_path, [50, 50]), 20)
    read = 0

    def counted(shard, first, **how):
        nonlocal read
        for sample in shard_samples(shard, first, **how):
            read += 1
            yield sample

    monkeypatch.setattr("alignset.train.data.order.shard_samples", counted)
    before = 21
    for given, _ in enumerate(islice(read_in_order(order, Cursor()), 250)):
        assert read - given <= 21
        assert read - before <= 1  # nor does any sample wait for many others
        before = read
    assert read >= 250


def test_a_shard_that_has_become_another_is_named(tmp_path):
    order = order_of(shards_of(tmp_path, [20, 20]), 10)
    shards_of(tmp_path, [20, 13])
    with pytest.raises(TrainingError, match=r"1\.tar has other samples than when the run began"):
        list(islice(read_in_order(order, Cursor()), 200))
