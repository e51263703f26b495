"""Who takes which samples: each once an epoch, none twice in a batch, whatever shards there are."""

import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from alignset.train.data.plan import Cursor, Handover, Plan, Runs
from alignset.train.data.position import Position, position_of
from alignset.train.data.shard_index import ShardIndex

SIZES = [[7], [1], [1, 1, 40, 2, 0], [5] * 9, [4_000, 3, 0, 700]]


def index_of(counts: list[int], *, block: int = 64, image: int = 1_000) -> ShardIndex:
    rows = [
        (shard, first, min(block, count - first))
        for shard, count in enumerate(counts)
        for first in range(0, count, block)
    ]
    shard, start, samples = np.array(rows, np.int64).T
    names = tuple(f"{i}.tar" for i in range(len(counts)))
    images = np.random.default_rng(sum(counts)).integers(0, 1 << 16, sum(counts), np.uint16)
    return ShardIndex(names, shard, start, samples, samples * image, images)


def taken(plan: Plan, cursor: Cursor, rank: int, processes: int):
    """(epoch, block, number in it) and the cursor behind it, for ever: as ShuffledStream reads."""
    at = cursor
    for window in plan.windows(cursor, rank, processes):
        places = window.runs.take(np.arange(window.runs.total))
        first = at.taken - window.begins if at.epoch == window.epoch else 0
        for done, place in enumerate(window.order.tolist(), 1):
            if done > first:
                behind = Cursor(window.epoch, window.begins + done)
                yield behind, (window.epoch, int(places.block[place]), int(places.first[place]))
        at = Cursor(window.epoch, window.begins + window.runs.total)


def of_one_set(position: Position) -> tuple[Handover, ...]:
    return tuple(tuple(cursors[0] for cursors in each) for each in position.handovers)


def everything(index: ShardIndex) -> set[tuple[int, int]]:
    return {(b, n) for b, count in enumerate(index.samples.tolist()) for n in range(count)}


@pytest.mark.parametrize("processes", [1, 3, 16])
@pytest.mark.parametrize("counts", SIZES, ids=str)
def test_an_epoch_has_each_sample_once_and_no_batch_one_twice(counts: list[int], processes: int):
    index = index_of(counts)
    plan = Plan(index, seed=3, window_samples=500)
    epochs = 2 if index.total > 1_000 else 5
    number = -(-epochs * index.total // processes)
    streams = [
        [who for _, who in itertools.islice(taken(plan, Cursor(), rank, processes), number)]
        for rank in range(processes)
    ]
    for epoch in range(epochs - 1):
        had = Counter(who[1:] for stream in streams for who in stream if who[0] == epoch)
        assert had == dict.fromkeys(everything(index), 1)
    # So many samples of each process are a batch; what it has twice is of two epochs.
    for share in (1, 7):
        for first in range(0, number, share):
            batch = [who for stream in streams for who in stream[first : first + share]]
            assert len(set(batch)) == len(batch)
            ends = {who[0] for who in batch}
            if index.total >= processes * share:
                assert max(ends) - min(ends) <= 1
    # None is ahead of another: epochs end within one sample.
    if index.total >= processes:
        first_behind = [next(i for i, who in enumerate(s) if who[0]) for s in streams]
        assert max(first_behind) - min(first_behind) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_goes_on_from_any_sample_with_as_many(seed: int):
    rng = random.Random(seed)
    counts = [rng.choice([0, 1, 5, 90, 400]) for _ in range(6)] + [1]
    plan = Plan(index_of(counts, block=32), seed, window_samples=rng.choice([1, 10, 100, 1_000]))
    processes = rng.randint(1, 5)
    rank = rng.randrange(processes)
    whole = list(itertools.islice(taken(plan, Cursor(), rank, processes), 900))
    for at in rng.sample(range(800), 40):
        resumed = taken(plan, whole[at][0], rank, processes)
        assert list(itertools.islice(resumed, 50)) == whole[at + 1 : at + 51]


@pytest.mark.parametrize("seed", range(4))
def test_others_go_on_with_what_is_left(seed: int):
    """Any numbers of processes one after the other, within an epoch or over its end: each sample
    once in each."""
    rng = random.Random(seed)
    counts = [rng.choice([0, 1, 5, 90, 400]) for _ in range(5)] + [3]
    index = index_of(counts, block=32)
    had: Counter = Counter()
    positions = [Position((Cursor(),))]
    processes = 1
    for _ in range(9):
        before, processes = processes, rng.randint(1, 16)
        if processes == before:
            continue
        steps = rng.randint(0, index.total // processes)
        starts = [position_of(rank, processes, positions) for rank in range(processes)]
        positions = []
        for rank, start in enumerate(starts):
            plan = Plan(index, seed, 50, of_one_set(start))
            (cursor,) = start.cursors
            # Those that can't be used put processes apart, by a few samples.
            for behind, who in itertools.islice(
                taken(plan, cursor, rank, processes), steps + rng.randint(0, 3)
            ):
                cursor = behind
                had[who] += 1
            positions.append(replace(start, cursors=(cursor,)))
    assert set(had.values()) == {1}
    last = max(who[0] for who in had) + 2
    assert () in positions[0].handovers or last < 4  # what is over is let go
    for rank in range(17):
        start = position_of(rank, 17, positions)
        plan = Plan(index, seed, 50, of_one_set(start))
        stream = taken(plan, start.cursors[0], rank, 17)
        had.update(who for _, who in itertools.takewhile(lambda t: t[0].epoch < last, stream))
    for epoch in range(last):
        assert {who[1:] for who in had if who[0] == epoch} == everything(index)
    assert set(had.values()) == {1}


def test_a_window_mixes_many_shards():
    plan = Plan(index_of([10_000] * 100), seed=0, window_samples=10_000)
    window = next(plan.windows(Cursor(), 0, 8))
    shards = plan.index.shard[window.runs.block]
    assert window.runs.total == 10_000
    assert len(set(shards.tolist())) > 70  # of 157 blocks
    order = window.runs.take(window.order[:2_048])
    assert len(set(plan.index.shard[order.block].tolist())) > 70


def test_orders_follow_from_seed_and_epoch():
    def first(seed: int, epoch: int) -> list:
        stream = taken(Plan(index_of([30] * 4), seed, 40), Cursor(epoch), 0, 1)
        return [who[1:] for _, who in itertools.islice(stream, 120)]

    assert first(1, 0) == first(1, 0)
    assert len({tuple(first(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6


@pytest.mark.parametrize("processes", [1, 3])
def test_samples_of_one_image_are_far_apart(processes: int):
    """Of windows of 1,000, those of an image that it has twice are half a window apart."""
    rng = np.random.default_rng(4)
    image = np.concatenate([np.arange(8_000), np.repeat(np.arange(8_000, 9_000), 2), [9_999] * 9])
    index = replace(index_of([len(image)]), image=rng.permutation(image).astype(np.uint16))
    before = np.cumsum(index.samples) - index.samples
    assert np.array_equal(index.before, before)
    assert index.before is index.before  # each window needs it, of an index of a million blocks
    for rank in range(processes):
        windows = Plan(index, 1, 1_000).windows(Cursor(), rank, processes)
        for window in itertools.takewhile(lambda window: window.epoch == 0, windows):
            assert sorted(window.order.tolist()) == list(range(window.runs.total))
            order = window.runs.take(window.order)
            images = index.image[before[order.block] + order.first]
            for value, count in Counter(images.tolist()).items():
                if count > 1:
                    apart = np.diff(np.flatnonzero(images == value)).min()
                    assert apart > 0.8 * window.runs.total / count, (value, count, apart)


def test_windows_of_large_images_have_fewer():
    small, large = index_of([64 * 4], image=1 << 19), index_of([64 * 4], image=1 << 22)
    both = ShardIndex(
        ("a", "b"),
        np.concatenate([small.shard, large.shard + 1]),
        np.concatenate([small.start, large.start]),
        np.concatenate([small.samples, large.samples]),
        np.concatenate([small.size, large.size]),
        np.concatenate([small.image, large.image]),
    )
    windows = itertools.takewhile(
        lambda window: window.epoch == 0, Plan(both, 0, 100).windows(Cursor(), 0, 1)
    )
    total = 0
    for window in windows:
        sizes = both.size[window.runs.block] // both.samples[window.runs.block]
        held = int((window.runs.samples * sizes).sum())
        assert held <= (100 + 4) << 20
        assert 1 <= window.runs.total <= 100
        total += window.runs.total
    assert total == 512


def test_runs_are_cut_anywhere():
    runs = Runs(*np.array([[5, 2, 9], [0, 3, 1], [4, 1, 6]], np.int64))
    whole = [(5, 0), (5, 1), (5, 2), (5, 3), (2, 3), *((9, n) for n in range(1, 7))]
    for low in range(12):
        for high in range(low, 12):
            part = runs.cut(low, high)
            assert part.total == high - low
            each = part.take(np.arange(part.total))
            found = list(zip(each.block.tolist(), each.first.tolist(), strict=True))
            assert found == whole[low:high]
            assert part.samples.all()  # none is empty
