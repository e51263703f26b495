"""The order of a dataset's samples, and the reading of them in that order.

1. An epoch is a permutation of all blocks (`shard_index.py`), by its seed and number.
2. The samples of this order are cut into one part for each process, of equal size.
3. A part is cut into windows. A window is read in the order of its blocks, and shuffled, with the
   samples of one image far apart.

So an epoch has each sample once, for any number of processes, and no process is a sample ahead of
another. All of it follows from the index, the seed and the number of processes: a process resumes
behind any sample by reading one window.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, groupby, islice, tee
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from alignset.train.data.samples import TXT, ShardSample, shard_samples
from alignset.train.data.shard_index import REMOTE_BLOCK, ShardIndex
from alignset.train.errors import TrainingError

# The expected size of an image. A window of larger ones has fewer, so that memory is bounded.
MEAN_BYTES = 1 << 20
_CONNECTIONS = 4  # to stores, of each process and dataset
_BYTES_AT_ONCE = 1 << 28  # of blocks: usual ones have 25 MB (`REMOTE_BLOCK`)
# Why a sample can be left out.
SKIPPED = ("no_image", "no_text", "too_large", "undecodable")


class Cursor(NamedTuple):
    """How far a process has come in a dataset: so many samples of its share of an epoch."""

    epoch: int = 0
    taken: int = 0


@dataclass(frozen=True)
class Position:
    """How far one process has read."""

    cursors: tuple[Cursor, ...] = ()  # of each dataset
    samples: int = 0  # since there are as many processes, skipped ones among them
    reasons: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKIPPED, 0))

    @property
    def epoch(self) -> int:
        """Whole epochs, of the dataset that has had fewest."""
        return min((cursor.epoch for cursor in self.cursors), default=0)

    def counts(self) -> dict[str, int]:
        """How many samples were skipped, and for which reasons, as metrics have it."""
        why = {f"skipped_{reason}": count for reason, count in self.reasons.items() if count}
        return {"skipped": sum(self.reasons.values())} | why


def resume_position(rank: int, positions: list[Position], processes: int) -> Position:
    """Where one of so many processes resumes a run whose processes had these positions, by rank.

    As many as before resume exactly. Others begin the next epoch of each dataset: nobody reads the
    rest of the one that was under way.

    >>> one, other = Position((Cursor(2, 7),), 40), Position((Cursor(3, 1),), 41)
    >>> resume_position(1, [one, other], 2) == other
    True
    >>> resume_position(1, [one, other], 3).cursors
    (Cursor(epoch=4, taken=0),)
    """
    if len(positions) == processes:
        return positions[rank]
    by_dataset = zip(*(position.cursors for position in positions), strict=True)
    return Position(tuple(Cursor(1 + max(c.epoch for c in cursors)) for cursors in by_dataset))


class Window(NamedTuple):
    """Samples that are read together and given in a shuffled order."""

    epoch: int
    begins: int  # at the so-many-th sample of the process's part
    block: np.ndarray  # int64[n], as they are read: the block in the index
    number: np.ndarray  # int64[n]: which of the block's samples
    order: np.ndarray  # int64[n]: which of these is given n-th


@dataclass(frozen=True, eq=False)
class Order:
    """One process's samples of one dataset, in windows of about `window_samples`."""

    index: ShardIndex
    seed: int
    window_samples: int
    rank: int = 0
    processes: int = 1

    def windows(self, cursor: Cursor) -> Iterator[Window]:
        """The windows from the one on that the cursor is in, for ever."""
        index, rank, taken = self.index, self.rank, cursor.taken
        weight = np.maximum(index.size / index.samples / MEAN_BYTES, 1.0)  # of a sample, by block
        for epoch in count(cursor.epoch):
            blocks = np.random.default_rng([self.seed, epoch]).permutation(len(index.samples))
            starts = np.insert(np.cumsum(index.samples[blocks]), 0, 0)  # int64[blocks + 1]
            # Parts that can't be equal get one sample more by turns, so that none gets ahead.
            turns = (epoch * index.total + np.arange(self.processes)) % self.processes
            sizes = (index.total + turns) // self.processes
            low = int(sizes[:rank].sum())
            bounds = np.clip(starts - low, 0, sizes[rank])  # of the blocks, within the part
            costs = np.insert(np.cumsum(np.diff(bounds) * weight[blocks]), 0, 0)
            edges = np.ceil(np.interp(np.arange(0, costs[-1], self.window_samples), costs, bounds))
            edges = np.append(np.unique(edges).astype(np.int64), sizes[rank])
            for at in range(int(np.searchsorted(edges, taken, "right")) - 1, len(edges) - 1):
                sample = low + np.arange(edges[at], edges[at + 1])  # of the epoch
                place = np.searchsorted(starts, sample, "right") - 1
                block, number = blocks[place], sample - starts[place]
                rng = np.random.default_rng([self.seed, epoch, at, rank, 0])
                order = shuffled_apart(index.image[index.block_starts[block] + number], rng)
                yield Window(epoch, int(edges[at]), block, number, order)
            taken = 0


def shuffled_apart(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order int64[n] of samples, random, except that samples of one image are evenly apart.

    A sample's time is random between 0 and 1. The k-th of an image's c samples, counted in a random
    order, has (k + u) / c, with one random u for each image.

    >>> order = shuffled_apart(np.array([7, 7, 1, 2]), np.random.default_rng(0))
    >>> sorted(order.tolist())
    [0, 1, 2, 3]
    """
    permutation = rng.permutation(len(images))
    shuffled = images[permutation]
    by_image = np.argsort(shuffled, kind="stable")
    _, firsts, group, counts = np.unique(
        shuffled[by_image], return_index=True, return_inverse=True, return_counts=True
    )
    number = np.arange(len(images)) - firsts[group]
    times = (number + rng.random(len(counts))[group]) / counts[group]
    return permutation[by_image[np.argsort(times, kind="stable")]]


def read_in_order(
    order: Order, cursor: Cursor, places: Collection[str] = TXT
) -> Iterator[tuple[Cursor, ShardSample]]:
    """The samples after `cursor`, each with the cursor behind it, for ever.

    For each sample given one of the next window is read: no more than about one window is held,
    and no sample waits for a whole window but the first.

    Args:
      places: as `shard_samples` has it.
    """
    windows, to_read = tee(order.windows(cursor))
    numbers = (
        number for w in to_read for number in zip(w.block.tolist(), w.number.tolist(), strict=True)
    )
    index = order.index
    is_remote = all("://" in shard for shard in index.shards)
    # A shard that its host sends only whole is one block, and not to be held.
    is_cut = len(index.samples) > len(index.shards) and index.samples.max() <= REMOTE_BLOCK
    is_small = index.size.max() <= _BYTES_AT_ONCE // _CONNECTIONS  # bytes: 128 KiB an image
    read = _read_at_once if is_remote and is_cut and is_small else _read
    reading = read(index, numbers, places)
    window = next(windows)
    buffer: list[ShardSample | None] = list(islice(reading, len(window.order)))
    taken = cursor.taken if cursor.epoch == window.epoch else 0
    while True:
        following = next(windows)
        size, next_buffer = len(following.order), list[ShardSample | None]()
        for place in window.order[taken - window.begins :].tolist():
            next_buffer += islice(reading, len(next_buffer) < size)
            sample, buffer[place] = buffer[place], None  # what was given is let go
            assert sample is not None
            taken += 1
            yield Cursor(window.epoch, taken), sample
        next_buffer += islice(reading, size - len(next_buffer))
        window, buffer, taken = following, next_buffer, following.begins


def _read_at_once(
    index: ShardIndex, numbers: Iterable[tuple[int, int]], places: Collection[str]
) -> Iterator[ShardSample]:
    """As `_read`, from stores: some blocks at once, each by a connection of its own, as far as
    their bytes allow."""
    blocks = (list(block) for _, block in groupby(numbers, key=itemgetter(0)))
    reading = deque[tuple[int, Future[list[ShardSample]]]]()
    bytes_ahead = 0
    pool = ThreadPoolExecutor(_CONNECTIONS, "blocks")
    try:
        while True:
            while not reading or (len(reading) < _CONNECTIONS and bytes_ahead < _BYTES_AT_ONCE):
                block = next(blocks)
                size = int(index.size[block[0][0]])
                reading.append((size, pool.submit(_read_whole, index, block, places)))
                bytes_ahead += size
            size, future = reading.popleft()
            yield from future.result()
            bytes_ahead -= size
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read_whole(
    index: ShardIndex, block: list[tuple[int, int]], places: Collection[str]
) -> list[ShardSample]:
    return [*_read(index, block, places)]


def _read(
    index: ShardIndex, numbers: Iterable[tuple[int, int]], places: Collection[str]
) -> Iterator[ShardSample]:
    """Samples by their block and number in it. One shard is open at a time, and stays so where the
    next sample lies behind this one."""
    open_block, next_number = -1, 0
    samples: Iterator[ShardSample] = iter(())
    for block, number in numbers:
        shard = index.shards[index.shard[block]]
        if block != open_block or number < next_number:
            samples = iter(())  # closes it
            start = int(index.start[block])
            samples = shard_samples(shard, number, at=start, places=places)
            open_block, next_number = block, number
        sample = next(islice(samples, number - next_number, None), None)
        if sample is None:
            raise TrainingError(
                f"{shard} has other samples than when the run began: put the old one back, or "
                "train in a new --output"
            )
        next_number = number + 1
        yield sample
