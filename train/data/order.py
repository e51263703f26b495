"""The order of a dataset's samples, and the reading of them in that order.

1. An epoch is a permutation of all blocks (`shard_index.py`), by its seed and number.
2. The samples of this order are cut into one part for each process, of equal size.
3. A part is cut into windows. A window is read in the order of its blocks, and shuffled, with the
   samples of one image far apart.

So an epoch has each sample once, for any number of processes, and no process is a sample ahead of
another. All of it follows from the index, the seed and the number of processes: a process resumes
behind any sample by reading one window.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, tee
from typing import NamedTuple

import numpy as np

from alignset.train.data.position import Cursor
from alignset.train.data.samples import ShardSample, shard_samples
from alignset.train.data.shard_index import ShardIndex
from alignset.train.errors import TrainingError

# The expected size of an image. A window of larger ones has fewer, so that memory is bounded.
MEAN_BYTES = 1 << 20


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
                order = shuffled_apart(index.image[index.before[block] + number], rng)
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
    order: Order, cursor: Cursor, caption_field: str = ""
) -> Iterator[tuple[Cursor, ShardSample]]:
    """The samples after `cursor`, each with the cursor behind it, for ever.

    For each sample given one of the next window is read: no more than about one window is held,
    and no sample waits for a whole window but the first.

    Args:
      caption_field: as `shard_samples` has it.
    """
    windows, to_read = tee(order.windows(cursor))
    numbers = (
        number for w in to_read for number in zip(w.block.tolist(), w.number.tolist(), strict=True)
    )
    reading = _read(order.index, numbers, caption_field)
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


def _read(
    index: ShardIndex, numbers: Iterable[tuple[int, int]], caption_field: str
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
            samples = shard_samples(shard, number, at=start, caption_field=caption_field)
            open_block, next_number = block, number
        sample = next(islice(samples, number - next_number, None), None)
        if sample is None:
            raise TrainingError(
                f"{shard} has other samples than when the run began: put the old one back, or "
                "train in a new --run"
            )
        next_number = number + 1
        yield sample
