"""How far the shards are: which are whole, and what workers have done of others.

A worker may be another process, or on another machine, and runners' metrics tell of a bundle only
when it ends. So each attempt at a shard keeps a count in a file in its folder, which goes with the
attempt, and whoever can read that folder may look; in a store nobody can. Nothing but a display
depends on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, shard_name
from alignset.transforms.storage.files import match
from alignset.transforms.workers.attempts import PublishedError

LOG = logging.getLogger("alignset.shards")
COUNT = "count"  # the name of the file
COUNT_S, LINE_S = 0.5, 10.0  # between two counts, and between two lines in a worker's log


def shards_there(out: str) -> dict[int, bool]:
    """Whether each finished shard holds something, by its number: its stats are written last."""
    shards = {}
    for first, folder in zip((0, HOLDOUT), ShardPlaces(out).folders, strict=True):
        names = {path.rpartition("/")[2] for path, _ in match(folder)}
        for name in names:
            number, _, ending = name.partition("_")
            if ending == "stats.json" and number.isdecimal():
                shards[first + int(number)] = f"{number}.tar" in names
    return shards


class ShardCount:
    """Progress of one attempt at a shard: called with each pair.

    Args:
      folder: of the attempt. shard: its number. pairs: how many it is given.
      is_published: whether another attempt is; asked every LINE_S.
      load: gives this process's connections, and what limits them.

    Attributes:
      most: connections that were open at once, at most.
    """

    def __init__(
        self,
        folder: Path,
        shard: int,
        pairs: int,
        is_published: Callable[[], bool] = lambda: False,
        load: Callable[[], tuple[int, str]] = lambda: (0, ""),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._shard, self._pairs = folder / COUNT, shard, pairs
        self._is_published, self._load, self._clock, self.most = is_published, load, clock, 0
        self._start_s = self._last_count_s = self._last_line_s = clock()
        self._write(0)  # that it is begun

    def __call__(self, count: int) -> None:
        """Says how many pairs are fetched, or have failed; at most twice a second it is written.

        Raises:
          PublishedError: the attempt is in vain.
        """
        now = self._clock()
        if now - self._last_count_s < COUNT_S:
            return
        self._last_count_s, load = now, self._load()
        self.most = max(self.most, load[0])
        self._write(count)
        if now - self._last_line_s >= LINE_S:
            self._last_line_s, rate = now, count / (now - self._start_s)
            line = "shard %s: %d of %d images, %.0f a second; %d connections (%s)"
            LOG.info(line, shard_name(self._shard), count, self._pairs, rate, *load)
            if self._is_published():
                raise PublishedError

    def _write(self, count: int) -> None:
        with suppress(OSError):  # a full disk: what is done there says so
            self._path.write_text(str(count))


def shards_under_way(attempts: str) -> dict[int, int]:
    """How many pairs are done of the shards that workers are at; of several attempts at a shard,
    the one that is farthest. In a store there are no counts.

    Args:
      attempts: the folder of all attempts.
    """
    under_way: dict[int, int] = {}
    for path in Path(attempts).glob(f"*-*/{COUNT}"):
        with suppress(OSError, ValueError):  # it is gone, or just being written
            shard, count = int(path.parent.name.partition("-")[0]), int(path.read_text())
            under_way[shard] = max(count, under_way.get(shard, 0))
    return under_way
