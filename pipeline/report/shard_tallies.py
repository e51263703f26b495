"""What whole shards say of their pairs in their stats, read a few at a time while a run goes on."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from alignset.pipeline.report.fetch_report import details_of
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import DocumentError, read_document


@dataclass(frozen=True)
class Tally:
    """What the stats of some shards add up to.

    Attributes:
      pairs: that the shards were given. kept: of them. arrived: whose image came.
      bytes: of all images.
      reasons: pairs dropped for each reason. failures: fetches that failed, by detail.
    """

    pairs: int = 0
    kept: int = 0
    arrived: int = 0
    bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def with_stats(self, stats: ShardStats) -> Tally:
        """The sum with those of one more shard."""
        return Tally(
            self.pairs + stats.count,
            self.kept + stats.successes,
            self.arrived + stats.count - stats.failed_to_download,
            self.bytes + stats.bytes_downloaded,
            self.reasons + Counter(stats.reasons),
            self.failures + details_of(FETCH_FAILED, stats.status_dict),
        )


class ShardTallies:
    """Adds up the stats of whole shards, each of them read once.

    Args:
      out: the output folder.

    Attributes:
      of_all: what was read so far. of_this_start: of the shards that this start has finished.
    """

    def __init__(self, out: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._places, self._clock = ShardPlaces(out), clock
        self._unread: deque[tuple[int, bool]] = deque()
        self.of_all, self.of_this_start = Tally(), Tally()

    def add(self, shards: Collection[int], *, earlier: bool = False) -> None:
        """Names shards that are whole now, or were so at this start; they are read later."""
        for shard in sorted(shards):
            # What this start has done is wanted first.
            (self._unread.append if earlier else self._unread.appendleft)((shard, earlier))

    def read(self, most_s: float) -> None:
        """Reads as many as there is time for; what cannot be read is left out."""
        until = self._clock() + most_s
        while self._unread and self._clock() < until:
            shard, earlier = self._unread.popleft()
            with suppress(OSError, DocumentError):  # a store; another version's
                stats = read_document(self._places.stats(shard), ShardStats)
                self.of_all = self.of_all.with_stats(stats)
                if not earlier:
                    self.of_this_start = self.of_this_start.with_stats(stats)
