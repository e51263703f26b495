"""How far the shards are: which are whole, and what this machine's workers have done of others.

A worker may be another process, or on another machine, and runners' metrics tell of a bundle only
when it ends. So each attempt at a shard keeps a count in a file in its scratch folder, which goes
with the attempt, and whoever can read that folder may look. Nothing but a display depends on it.
"""

from __future__ import annotations

import glob
import logging
import os
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, shard_name
from alignset.transforms.storage.files import is_local, match

LOG = logging.getLogger("alignset.shards")
STATS = "_stats.json"
PREFIX, NAME = "shard-", "done"  # of an attempt's scratch folder, and of the count in it
COUNT_S, LINE_S = 0.5, 10.0  # between two counts, and between two lines in a worker's log
_LONGEST = 150  # bytes of such a file: a token, a shard and a count


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


def attempt_folder(plan: str) -> tempfile.TemporaryDirectory[str]:
    """A folder of this machine for one attempt at a shard.

    Args:
      plan: the folder of the plan, beside which it is made where that is on this machine.
    """
    return tempfile.TemporaryDirectory(prefix=PREFIX, dir=_scratch(plan))


def _scratch(plan: str) -> str:
    return str(Path(plan).parent) if is_local(plan) else tempfile.gettempdir()


class ShardCount:
    """Progress of one attempt at a shard: called with each pair.

    Args:
      folder: of the attempt.
      token: of this start of the command. shard: its number. pairs: how many it is given.
      load: gives this process's connections, and what limits them.

    Attributes:
      most: connections that were open at once, at most.
    """

    def __init__(
        self,
        folder: Path,
        token: str,
        shard: int,
        pairs: int,
        clock: Callable[[], float] = time.monotonic,
        load: Callable[[], tuple[int, str]] = lambda: (0, ""),
    ) -> None:
        self._path, self._head, self._clock = folder / NAME, f"{token} {shard}", clock
        self._shard, self._pairs, self._load, self.most = shard, pairs, load, 0
        self._start_s = self._last_count_s = self._last_line_s = clock()
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

    def _write(self, count: int) -> None:
        with suppress(OSError):  # a full disk: what is done there says so
            self._path.write_text(f"{self._head} {count}\n")


def shards_under_way(plan: str, token: str) -> dict[int, int]:
    """How many pairs are done of the shards that this machine's workers are at; of several attempts
    at a shard, the one that is farthest.

    Args:
      plan: the folder of the plan. token: of the start of the command.
    """
    under_way: dict[int, int] = {}
    for path in Path(_scratch(plan)).glob(f"{PREFIX}*/{NAME}"):
        words = _head_of(path).split()
        # One that is just being written is empty.
        if len(words) == 3 and words[0] == token and all(map(str.isdecimal, words[1:])):
            shard, pairs = map(int, words[1:])
            under_way[shard] = max(pairs, under_way.get(shard, 0))
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
