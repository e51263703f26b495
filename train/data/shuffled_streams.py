"""One process's share of a dataset, sample by sample: endless, and gone on with from any place."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from alignset.train.data.plan import Cursor, Plan, Window
from alignset.train.data.samples import ShardSample, shard_samples
from alignset.train.errors import TrainingError

_Unread = deque[tuple[int, int, int]]  # runs: of a block so many samples from one on


@dataclass(eq=False)
class _Block:
    number: int
    next: int  # the sample that is read next
    samples: Iterator[ShardSample]


@dataclass(eq=False)
class ShuffledStream:
    """
    Args:
      caption_field: as `shard_samples` has it.
    """

    plan: Plan
    rank: int = 0
    processes: int = 1
    caption_field: str = ""
    _open: _Block | None = None

    def samples(self, cursor: Cursor) -> Iterator[tuple[Cursor, ShardSample]]:
        """The samples after `cursor`, each with the cursor behind it, for ever.

        For each sample given one of the next window is read: no more than about one window is held,
        and no sample waits for a whole window but the first.
        """
        windows = self.plan.windows(cursor, self.rank, self.processes)
        window = next(windows)
        buffer: list[ShardSample | None] = []
        self._read_all(_unread(window), buffer)
        self._check(window, buffer)
        count = cursor.taken if cursor.epoch == window.epoch else 0
        while True:
            following = next(windows)
            unread, next_buffer = _unread(following), list[ShardSample | None]()
            for place in window.order[count - window.begins :].tolist():
                self._read_one(unread, next_buffer)
                sample, buffer[place] = buffer[place], None  # what was given is let go
                assert sample is not None
                count += 1
                yield Cursor(window.epoch, count), sample
            self._read_all(unread, next_buffer)
            self._check(following, next_buffer)
            window, buffer, count = following, next_buffer, following.begins

    def _read_all(self, unread: _Unread, buffer: list[ShardSample | None]) -> None:
        while unread:
            self._read_one(unread, buffer)

    def _read_one(self, unread: _Unread, buffer: list[ShardSample | None]) -> None:
        """Puts the next sample to those that are read, if there is one."""
        if not unread:
            return
        block, number, rest = unread.popleft()
        sample = self._sample(block, number)
        if sample is None:  # the shard is shorter than it was, as `_check` says
            unread.clear()
            return
        buffer.append(sample)
        if rest > 1:
            unread.appendleft((block, number + 1, rest - 1))

    def _sample(self, block: int, number: int) -> ShardSample | None:
        """One sample of a block. One shard is open at a time, and stays so where the next sample
        lies behind this one."""
        if self._open is None or self._open.number != block or self._open.next > number:
            index = self.plan.index
            shard, at = index.shards[index.shard[block]], int(index.start[block])
            self._open = None  # closes it
            samples = shard_samples(shard, number, at=at, caption_field=self.caption_field)
            self._open = _Block(block, number, samples)
        current = self._open
        while current.next < number:
            next(current.samples, None)
            current.next += 1
        current.next += 1
        return next(current.samples, None)

    def _check(self, window: Window, buffer: list[ShardSample | None]) -> None:
        if len(buffer) != window.runs.total:
            index = self.plan.index
            names = sorted({index.shards[i] for i in index.shard[window.runs.block].tolist()})
            raise TrainingError(
                f"a shard has other samples than when the run began: one of {len(names)}, from "
                f"{names[0]} to {names[-1]}; put the old one back, or train in a new --run"
            )


def _unread(window: Window) -> _Unread:
    return deque(zip(*(column.tolist() for column in window.runs), strict=True))
