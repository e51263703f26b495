"""Which samples each process takes, in which order: a pure function of an index, a seed, an epoch,
and of how many processes there are and were."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np

from alignset.train.data.shard_index import ShardIndex
from alignset.train.settings import Settings

# The expected size of an image. A window of larger ones has fewer, so that memory is bounded.
MEAN_BYTES = 1 << 20


class Cursor(NamedTuple):
    """How far a process has come in a dataset: so many samples of its share of an epoch."""

    epoch: int = 0
    taken: int = 0


# Where each process was, by its rank, when others went on in their place; none, where that no
# longer matters.
Handover = tuple[Cursor, ...]


class Runs(NamedTuple):
    """Samples in an order: a block's from `first` on, then the next block's."""

    block: np.ndarray  # int64[n]: its number in the index
    first: np.ndarray  # int64[n]
    samples: np.ndarray  # int64[n]

    @property
    def total(self) -> int:
        return int(self.samples.sum())

    def cut(self, low: int, high: int) -> "Runs":
        """Those of all samples in their order that are the low-th to the one before the high-th."""
        if low >= high:
            return Runs(*np.zeros((3, 0), np.int64))
        ends = np.cumsum(self.samples)
        starts = ends - self.samples
        part = slice(np.searchsorted(ends, low, "right"), np.searchsorted(starts, high, "left"))
        offsets = np.maximum(low - starts[part], 0)
        stops = np.minimum(self.samples[part], high - starts[part])
        return Runs(self.block[part], self.first[part] + offsets, stops - offsets)

    def take(self, places: np.ndarray) -> "Runs":
        """Those of the places int64[m], one run for each sample."""
        block = np.repeat(self.block, self.samples)
        before = np.repeat(np.cumsum(self.samples) - self.samples, self.samples)
        number = np.repeat(self.first, self.samples) + np.arange(len(block)) - before
        return Runs(block[places], number[places], np.ones(len(places), np.int64))


class Window(NamedTuple):
    """Samples that are read together and given in a shuffled order."""

    epoch: int
    begins: int  # at the so-many-th sample of the share
    runs: Runs
    order: np.ndarray  # int64[runs.total]: which of them comes n-th


@dataclass(frozen=True, eq=False)
class Plan:
    """The order of one dataset.

    Each epoch has an order of all blocks of its own, which is cut into as many parts of equal size
    as there are processes. A part is cut into windows, and each window is shuffled, with the
    samples of one image far apart. So an epoch has each sample once over all processes, and none of
    them is a sample ahead of another, but for those that can't be used.

    Where other processes went on within an epoch, what those before had left of it is cut anew.
    """

    index: ShardIndex
    seed: int
    window_samples: int
    handovers: tuple[Handover, ...] = ()

    def windows(self, cursor: Cursor, rank: int, processes: int) -> Iterator[Window]:
        """Those of a process from the one on that the cursor is in, for ever."""
        start = cursor.taken
        for epoch in count(cursor.epoch):
            share = self._share(self._remainder(epoch), epoch, rank, processes)
            edges = self._edges(share)
            for at in range(_window_at(edges, start), len(edges) - 1):
                yield self._window(epoch, share, edges, at, (rank, len(self.handovers)))
            start = 0

    def _remainder(self, epoch: int) -> Runs:
        """The part of an epoch that processes before these have left."""
        index = self.index
        order = np.random.default_rng([self.seed, epoch]).permutation(len(index.samples))
        remainder = Runs(order, np.zeros_like(order), index.samples[order])
        for number, cursors in enumerate(self.handovers):
            if not cursors:
                continue
            parts = []
            for rank, cursor in enumerate(cursors):
                share = self._share(remainder, epoch, rank, len(cursors))
                if cursor.epoch < epoch:
                    parts.append(share)
                elif cursor.epoch == epoch:
                    edges = self._edges(share)
                    at = _window_at(edges, cursor.taken)
                    if at == len(edges) - 1:
                        continue
                    window = self._window(epoch, share, edges, at, (rank, number))
                    rest = np.sort(window.order[cursor.taken - window.begins :])
                    parts += [window.runs.take(rest), share.cut(edges[at + 1], edges[-1])]
            none = Runs(*np.zeros((3, 0), np.int64))
            remainder = Runs(*map(np.concatenate, zip(none, *parts, strict=True)))
        return remainder

    def _share(self, runs: Runs, epoch: int, rank: int, processes: int) -> Runs:
        """One process's part: where they can't be equal, those that get one more change with the
        epoch, so that none gets ahead."""
        extra = (epoch * self.index.total + np.arange(processes)) % processes
        sizes = (runs.total + extra) // processes
        low = int(sizes[:rank].sum())
        return runs.cut(low, low + int(sizes[rank]))

    def _edges(self, share: Runs) -> list[int]:
        """Where the windows of a share begin, and its end: so many samples each, or fewer where
        their images are large."""
        each = self.index.size[share.block] / self.index.samples[share.block] / MEAN_BYTES
        costs = np.cumsum(share.samples * np.maximum(each, 1.0))
        if not len(costs):
            return [0]
        targets = np.arange(0, costs[-1], self.window_samples)
        ends = np.cumsum(share.samples)
        edges = np.ceil(np.interp(targets, np.insert(costs, 0, 0), np.insert(ends, 0, 0)))
        return [*np.unique(edges).astype(np.int64).tolist(), share.total]

    def _window(
        self, epoch: int, share: Runs, edges: list[int], at: int, whose: tuple[int, int]
    ) -> Window:
        runs = share.cut(edges[at], edges[at + 1])
        rng = np.random.default_rng([self.seed, epoch, at, *whose])
        each = runs.take(np.arange(runs.total))
        images = self.index.image[self.index.before[each.block] + each.first]
        return Window(epoch, edges[at], runs, shuffled_apart(images, rng))


def shuffled_apart(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order int64[n] of samples, random, except that samples of one image are evenly apart.

    A sample's time is random between 0 and 1. The k-th of an image's c samples, counted in a random
    order, has (k + u) / c, with one random u for each image.
    """
    permutation = rng.permutation(len(images))
    of_image = images[permutation]
    by_image = np.argsort(of_image, kind="stable")
    _, firsts, group, counts = np.unique(
        of_image[by_image], return_index=True, return_inverse=True, return_counts=True
    )
    number = np.arange(len(images)) - firsts[group]
    times = (number + rng.random(len(counts))[group]) / counts[group]
    return permutation[by_image[np.argsort(times, kind="stable")]]


def _window_at(edges: list[int], start: int) -> int:
    """Which window the next sample is of; one more than there are, where none is left."""
    return int(np.searchsorted(edges, start, "right")) - 1


def plans_of(
    indexes: list[ShardIndex],
    shares: list[float],
    settings: Settings,
    handovers: tuple[tuple[tuple[Cursor, ...], ...], ...],
) -> list[Plan]:
    """Samples of each dataset; together their windows hold shuffle_samples, each its share.

    Args:
      handovers: where processes were, by rank and then set.
    """
    plans = []
    for number, (index, share) in enumerate(zip(indexes, shares, strict=True)):
        of_set = tuple(tuple(process[number] for process in each) for each in handovers)
        window = max(1, round(settings.shuffle_samples * share))
        plans.append(Plan(index, settings.seed, window, of_set))
    return plans
