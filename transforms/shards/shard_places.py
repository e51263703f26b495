"""The numbers of shards, where their files are in an output, and how far they are: which are whole,
and what workers have done of others.

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
from dataclasses import dataclass
from pathlib import Path

from alignset.transforms.columns.pair_columns import EVIDENCE_FOLDER, LEDGERS
from alignset.transforms.storage.files import match
from alignset.transforms.workers.attempts import PublishedError

# Shards of pairs that are held out of training are numbered from here on, and their files in a
# folder of their own from 0.
HOLDOUT = 1 << 31


def shard_name(shard: int) -> str:
    """The number of a shard as its files have it: of at least five digits."""
    return f"{shard % HOLDOUT:05d}"


OF_OLDER_SETS = ("answers", "responses", "moved")  # folders that no version writes any more


def older_of(stem: str) -> list[str]:
    """Further files that a shard may have in a dataset of version 0.2 or before: the responses that
    brought its images, and last the first URLs of pairs that got the URL of an equal image.

    Args:
      stem: the path of its files without their endings.
    """
    out, folder, number = stem.rsplit("/", 2)
    number = f"{'holdout-' * (folder == 'holdout')}{number}"
    return [f"{out}/{name}/{number}_{name}.parquet" for name in OF_OLDER_SETS]


@dataclass(frozen=True)
class ShardPlaces:
    """The paths of shards' files.

    Attributes:
      out: the output folder.
    """

    out: str

    @property
    def folders(self) -> tuple[str, str]:
        """The folders of the shards to train on, and of held-out shards."""
        return f"{self.out}/shards", f"{self.out}/holdout"

    def tar(self, shard: int) -> str:
        """Its samples. A shard in which nothing is kept has none."""
        return f"{self.stem(shard)}.tar"

    def sidecar(self, shard: int) -> str:
        """Its samples as columns. A shard in which nothing is kept has none."""
        return f"{self.stem(shard)}.parquet"

    def stats(self, shard: int) -> str:
        """Its counts. They are written last, so a shard with them is whole."""
        return f"{self.stem(shard)}_stats.json"

    def rejected(self, shard: int) -> str:
        """Its pairs that were dropped."""
        kind = "holdout" if shard >= HOLDOUT else "images"
        return f"{self.out}/rejected/{kind}-{shard_name(shard)}.parquet"

    def ledger(self, shard: int) -> str:
        """The path of its ledger: the outcome of each requested image. It has a folder of its own,
        since readers of sidecars read all of `shards/*.parquet`."""
        return self._beside(LEDGERS, shard)

    def evidence(self, shard: int) -> str:
        """The path of the files of hosts by which its images were judged; there is none where no
        host was asked."""
        return self._beside(EVIDENCE_FOLDER, shard)

    def _beside(self, folder: str, shard: int) -> str:
        return f"{self.out}/{folder}/{'holdout-' * (shard >= HOLDOUT)}{shard_name(shard)}.parquet"

    def stem(self, shard: int) -> str:
        """The path of its files in `shards/` or `holdout/`, without their endings."""
        return f"{self.folders[shard >= HOLDOUT]}/{shard_name(shard)}"


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
    """How many pairs are done of the shards that workers are at; the farthest of several attempts
    at a shard counts. In a store there are no counts.

    Args:
      attempts: the folder of all attempts.
    """
    under_way: dict[int, int] = {}
    for path in Path(attempts).glob(f"*-*/{COUNT}"):
        with suppress(OSError, ValueError):  # it is gone, or just being written
            shard, count = int(path.parent.name.partition("-")[0]), int(path.read_text())
            under_way[shard] = max(count, under_way.get(shard, 0))
    return under_way
