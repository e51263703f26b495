"""One process's share of a set, sample by sample: endless, and gone on with from any place."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, compress, groupby, islice

import numpy as np

from train.data.plan import Cursor, Plan, Window
from train.data.samples import Sample, shard_samples
from train.errors import TrainingError


@dataclass(eq=False)
class _Block:
    number: int
    next: int  # the sample that is read next
    samples: Iterator[Sample]


@dataclass(eq=False)
class ShuffledStream:
    plan: Plan
    rank: int = 0
    processes: int = 1
    _open: _Block | None = None

    def samples(self, cursor: Cursor) -> Iterator[tuple[Cursor, Sample]]:
        """What comes after `cursor`, each sample with the cursor behind it, for ever.

        For each sample given one of the next window is read: no more than about one window is held,
        and no sample waits for a whole window but the first.
        """
        windows = self.plan.windows(cursor, self.rank, self.processes)
        window = next(windows)
        held: list[Sample | None] = [*self._read(window)]
        self._check(window, held)
        taken = cursor.taken if cursor.epoch == window.epoch else 0
        while True:
            following = next(windows)
            reading = self._read(following)
            read: list[Sample | None] = []
            for place in window.order[taken - window.begins :].tolist():
                read.extend(islice(reading, 1))
                sample, held[place] = held[place], None  # what was given is let go
                assert sample is not None
                taken += 1
                yield Cursor(window.epoch, taken), sample
            read.extend(reading)
            self._check(following, read)
            window, held, taken = following, read, following.begins

    def _read(self, window: Window) -> Iterator[Sample]:
        """Its samples in the order of its runs."""
        runs = zip(*(column.tolist() for column in window.runs), strict=True)
        blocks = groupby(runs, key=lambda run: run[0])
        return chain.from_iterable(self._read_block(block, [*parts]) for block, parts in blocks)

    def _read_block(self, block: int, runs: list[tuple[int, int, int]]) -> Iterator[Sample]:
        """Of one block, of which the runs are parts in ascending order. One shard is open at a
        time, and stays so where the next window goes on in it."""
        first, stop = runs[0][1], runs[-1][1] + runs[-1][2]
        index = self.plan.index
        if self._open is None or self._open.number != block or self._open.next > first:
            shard, at = index.shards[index.shard[block]], int(index.start[block])
            self._open = None  # closes it
            self._open = _Block(block, first, shard_samples(shard, first, at=at))
        reading = self._open.samples
        skipped, self._open.next = first - self._open.next, stop
        part = islice(reading, skipped, skipped + stop - first)
        if len(runs) == 1:
            return part
        wanted = np.zeros(stop - first, bool)
        for _, start, samples in runs:
            wanted[start - first : start - first + samples] = True
        return compress(part, wanted)

    def _check(self, window: Window, read: list[Sample | None]) -> None:
        if len(read) != window.runs.total:
            index = self.plan.index
            names = sorted({index.shards[i] for i in index.shard[window.runs.block].tolist()})
            raise TrainingError(
                f"a shard has other samples than when the run began: one of {len(names)}, from "
                f"{names[0]} to {names[-1]}; put the old one back, or train in a new --run"
            )
