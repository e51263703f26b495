"""How far the shards are: which are whole, and what this machine's workers have done of others.

A worker may be another process, or on another machine, and runners' metrics tell of a bundle only
when it ends. So each attempt at a shard keeps a count in a file in its folder, which goes with the
attempt, and whoever can read that folder may look. Nothing but a display depends on it.
"""

from __future__ import annotations

import glob
import logging
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, shard_name
from alignset.transforms.storage.files import is_local, match
from alignset.transforms.workers.attempts import scratch

LOG = logging.getLogger("alignset.shards")
STATS = "_stats.json"
COUNT = "count"  # the name of the file
COUNT_S, LINE_S = 0.5, 10.0  # between two counts, and between two lines in a worker's log
CHECK_S = 30.0  # between two looks whether another worker was faster: a request in a store
_LONGEST = 20  # bytes of such a file


def finished_shards(out: str, shards: Collection[int]) -> set[int]:
    """Which planned shards are whole in an output folder: their stats are written last."""
    whole: set[int] = set()
    for first, folder in zip((0, HOLDOUT), ShardPlaces(out).folders, strict=True):
        if first and max(shards, default=0) < first:
            continue
        pattern = glob.escape(folder) if is_local(folder) else folder
        names = [path.rpartition("/")[2] for path, _ in match(f"{pattern}/*{STATS}")]
        numbers = [name.removesuffix(STATS) for name in names]
        whole.update(first + int(number) for number in numbers if number.isdecimal())
    return whole.intersection(shards)


class ShardCount:
    """Progress of one attempt at a shard: called with each pair.

    Args:
      folder: of the attempt. shard: its number. pairs: how many it is given.
      check: raises where the attempt is to end; asked now and then.
      load: gives this process's connections, and what limits them.

    Attributes:
      most: connections that were open at once, at most.
    """

    def __init__(
        self,
        folder: Path,
        shard: int,
        pairs: int,
        check: Callable[[], None] = lambda: None,
        load: Callable[[], tuple[int, str]] = lambda: (0, ""),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._shard, self._pairs = folder / COUNT, shard, pairs
        self._check, self._load, self._clock, self.most = check, load, clock, 0
        self._start_s = self._last_count_s = self._last_line_s = self._last_check_s = clock()
        self._write(0)  # that it is begun

    def __call__(self, count: int) -> None:
        """Says how many pairs are fetched, or have failed; at most twice a second it is written."""
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
        if now - self._last_check_s >= CHECK_S:
            self._last_check_s = now
            self._check()

    def _write(self, count: int) -> None:
        with suppress(OSError):  # a full disk: what is done there says so
            self._path.write_text(str(count))


def shards_under_way(attempts: str) -> dict[int, int]:
    """How many pairs are done of the shards that this machine's workers are at; of several attempts
    at a shard, the one that is farthest.

    Args:
      attempts: the folder of all attempts.
    """
    under_way: dict[int, int] = {}
    folder, prefix = scratch(attempts)
    for path in Path(folder).glob(f"{prefix}*-*/{COUNT}"):
        shard = path.parent.name.removeprefix(prefix).partition("-")[0]
        count = _head_of(path)  # of one that is just being written, nothing
        if shard.isdecimal() and count.isdecimal():
            under_way[int(shard)] = max(int(count), under_way.get(int(shard), 0))
    return under_way


def _head_of(path: Path) -> str:
    """The beginning of a file; of what is none, or gone by now, nothing."""
    with suppress(OSError):
        # In /tmp it may be anything of anybody's, a pipe that never ends too.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(file, _LONGEST).decode("ascii", "replace")
        finally:
            os.close(file)
    return ""
