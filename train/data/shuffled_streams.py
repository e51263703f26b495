"""One process's share of a set of shards: endless, shuffled, and gone on with from any place."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from train.data.samples import Sample, shard_samples
from train.errors import SettingsError

# Of an image; where those of a window are larger, it has fewer, or memory would have no bound.
MEAN_BYTES = 1 << 20


class Cursor(NamedTuple):
    """How far a stream was read: so many samples of the shuffled window that begins here."""

    epoch: int = 0
    shard: int = 0  # of the process's shards, in this epoch's order
    sample: int = 0  # of that shard
    taken: int = 0


class _Place(NamedTuple):
    epoch: int
    shard: int
    number: int
    sample: Sample


@dataclass(frozen=True)
class ShuffledStream:
    """The samples of one process: each epoch has its own order of all shards, which the processes
    share out; what a process reads is cut into windows, and each window is shuffled.

    All follows from the seed, the epoch and the shards' bytes. Over all processes an epoch has each
    sample once. With fewer shards than processes each reads all of them and takes its share.

    Windows, not a buffer that is drawn from: where one begins is all that has to be known to go on.
    """

    shards: tuple[str, ...]
    seed: int
    window_samples: int
    rank: int = 0
    processes: int = 1

    def samples(self, cursor: Cursor) -> Iterator[tuple[Cursor, Sample]]:
        """What comes after `cursor`, each sample with the cursor behind it, for ever.

        For each sample given one of the next window is read: no more than about one window is held,
        and no sample waits for a whole window but the first.
        """
        reading, taken = self._windows(cursor), cursor.taken
        window = next(filter(None, reading))
        while True:
            epoch, shard, number, _ = window[0]
            random.Random(f"{self.seed} {epoch} {shard} {number}").shuffle(window)
            window.reverse()  # taken from its end, so that what was given is let go
            del window[len(window) - taken :]
            following = None
            while window:
                sample = window.pop().sample
                taken += 1
                following = following or next(reading)
                yield Cursor(epoch, shard, number, taken), sample
            window, taken = following or next(filter(None, reading)), 0

    def _windows(self, cursor: Cursor) -> Iterator[list[_Place] | None]:
        """After each sample that it reads: the window that is now complete, else None."""
        window: list[_Place] = []
        left = self.window_samples * MEAN_BYTES
        for place in self._places(cursor):
            if place:
                window.append(place)
                left -= len(place.sample.image or b"")
            if len(window) == self.window_samples or not place or left < 0:
                if window:
                    yield window
                window, left = [], self.window_samples * MEAN_BYTES
            else:
                yield None

    def _places(self, cursor: Cursor) -> Iterator[_Place | None]:
        """Samples in the order of the shards, None behind each epoch."""
        epoch, first_shard, first, _ = cursor
        while True:
            shards = self._shards(epoch)
            has_samples = first_shard + first > 0
            for shard in range(first_shard, len(shards)):
                for number, sample in enumerate(shard_samples(shards[shard], first), start=first):
                    if self._is_mine(epoch, shard, number):
                        has_samples = True
                        yield _Place(epoch, shard, number, sample)
                first = 0
            if not has_samples and not any(True for s in self.shards for _ in shard_samples(s)):
                raise SettingsError(f"no sample in {len(self.shards)} shards, such as {shards[0]}")
            yield None
            epoch, first_shard = epoch + 1, 0

    def _shards(self, epoch: int) -> list[str]:
        """Those that this process reads in an epoch, in order."""
        order = random.Random(f"{self.seed} {epoch}").sample(self.shards, len(self.shards))
        return order if self._too_few else order[self.rank :: self.processes]

    @property
    def _too_few(self) -> bool:
        return len(self.shards) < self.processes

    def _is_mine(self, epoch: int, shard: int, number: int) -> bool:
        # The epoch is in it so that a shard of one sample does not leave a process without any.
        return not self._too_few or (epoch + shard + number) % self.processes == self.rank
