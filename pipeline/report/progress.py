"""The live view while the image plane runs: a few lines that are drawn again and again on a
terminal or in a notebook, a line now and then in a log, nothing with --quiet."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from threading import Event, Thread

from alignset.pipeline.report.process_memory import Memory, memory_of_processes
from alignset.pipeline.report.progress_text import Done, progress_line, screen_lines, what_is_left
from alignset.pipeline.report.screens import Screen, open_screen
from alignset.pipeline.report.shard_tallies import ShardTallies
from alignset.pipeline.report.time_left import Attempt, TimeLeft
from alignset.transforms.shards.shard_progress import (
    UnderWay,
    finished_shards,
    load_of_workers,
    shards_under_way,
)
from alignset.transforms.storage.files import is_local
from alignset.transforms.workers.fencing import Fence

REDRAWN_S = 1.0  # between two looks
LINE_S = 30.0  # between two lines where standard error is no terminal, as a log
LISTED_S = 30.0  # at least, between two listings of a store
MEMORY_S = 5.0  # between two looks at the memory, which take 1 ms
LISTING_SHARE = 0.005  # of the time, at most, that goes into listing and reading stats
READING_S = 0.05  # of a look, at most, that goes into reading stats
LAST_READING_S = 2.0  # at the end

_QUIET = Event()


class Amount:
    """How much of the planned shards is done: those that are whole, and what workers of this
    machine have counted of the others. Never less than before, though an attempt may be lost.

    Args:
      out: the output folder. plan: the folder of the plan. token: of this start of the command.
      shards: how many pairs each planned shard has, by its number.
    """

    def __init__(self, out: str, plan: str, token: str, shards: Mapping[int, int]) -> None:
        self._out, self._plan, self._token, self._sizes = out, plan, token, shards
        self._whole: set[int] = set()
        self._pairs_of_whole = 0
        self._under_way: dict[int, UnderWay] = {}
        self._bytes = 0
        self._listed, self._listed_again, self._memory_again = False, 0.0, 0.0
        self._memory = Memory()
        self._tallies = ShardTallies(out)
        self._time_left: TimeLeft | None = None
        self._first = Done(0.0, 0, 0)

    def look(self, now: float, *, listing: bool = False, reading_s: float = READING_S) -> Done:
        """What is done. With `listing`, shards are listed, even if that was done just before.

        Args:
          reading_s: that reading the stats of whole shards may take.
        """
        # Before they are listed: attempts go when a shard is whole.
        attempts, new = shards_under_way(self._plan, self._token), set[int]()
        if listing or now >= self._listed_again:
            new = self._list(now, reading_s)
        for shard, attempt in attempts.items():
            if shard in self._sizes and shard not in self._whole:
                attempt = attempt._replace(pairs=min(attempt.pairs, self._sizes[shard]))
                self._under_way[shard] = max(attempt, self._under_way.get(shard, attempt))
        for shard in new:
            self._under_way.pop(shard, None)
        pairs = self._pairs_of_whole + sum(way.pairs for way in self._under_way.values())
        if self._time_left is None:  # what earlier starts have done is no speed of this one
            self._first = Done(now, len(self._whole), pairs)
            self._time_left = TimeLeft(self._sizes, now, new) if self._listed else None
        else:
            attempts_now = {n: Attempt(*way[:2]) for n, way in self._under_way.items()}
            self._time_left.look(now, new, attempts_now)
        fetched = self._tallies.of_this_start.bytes
        self._bytes = max(self._bytes, fetched + sum(w.bytes for w in self._under_way.values()))
        if now >= self._memory_again:
            self._memory, self._memory_again = memory_of_processes(), now + MEMORY_S
        return Done(
            now,
            len(self._whole),
            pairs,
            self._bytes,
            self._tallies.of_all,
            self._tallies.of_this_start,
            self._memory,
            self._time_left.seconds if self._time_left else None,
            load_of_workers(attempts.values()),
        )

    @property
    def first(self) -> Done:
        """What was done when this start's first worker began."""
        begun = self._time_left.begun if self._time_left else self._first.at
        return self._first._replace(at=begun)

    def _list(self, now: float, reading_s: float) -> set[int]:
        """Finds the shards that are whole by now; returns the new ones of them."""
        begun, new = time.monotonic(), set[int]()
        with suppress(Exception):  # a store that does not answer: those who write there tell
            new = finished_shards(self._out, self._sizes.keys()) - self._whole
            self._listed = True
            self._whole |= new
            self._pairs_of_whole += sum(self._sizes[shard] for shard in new)
            self._tallies.add(new, earlier=self._time_left is None)
            self._tallies.read(reading_s)
        took_s = time.monotonic() - begun
        least_s = 0.0 if is_local(self._out) else LISTED_S
        self._listed_again = now + max(least_s, took_s / LISTING_SHARE)
        return new


class ImageProgress:
    """Shows how far the image plane is while its block runs: on a terminal and in a notebook some
    lines that are drawn again and again, else a line now and then, and one at the end.

    Args:
      out: the output folder. plan: the folder of the plan. fence: of this start of the command.
      shards: how many pairs each planned shard has, by its number.
      verb: what becomes of the pairs, as in "40 shards, 4,000 pairs to fetch".
      line_s: between two lines.
    """

    def __init__(
        self,
        out: str,
        plan: str,
        fence: Fence,
        shards: Mapping[int, int],
        verb: str = "fetch",
        line_s: float = LINE_S,
    ) -> None:
        self._amount = Amount(out, plan, fence.token, shards)
        self._all = Done(0.0, len(shards), sum(shards.values()))
        self._verb, self._line_s = verb, line_s
        self._over = Event()

    def __enter__(self) -> None:
        if _QUIET.is_set():
            return
        self._begun = time.monotonic()
        first = self._amount.look(self._begun, listing=True)
        say(what_is_left(first, self._all, self._verb))
        show: Callable[[Done], None] = self._write_lines
        self._screen = open_screen(self._all.pairs, screen_lines(first, first, self._all))
        if self._screen:
            show = partial(self._draw, self._screen)
        self._said = self._begun
        self._thread = Thread(target=self._watch, args=(show,), name="progress", daemon=True)
        self._thread.start()

    def __exit__(self, error: object, *_: object) -> None:
        if _QUIET.is_set():
            return
        self._over.set()
        self._thread.join()
        if self._screen:
            self._screen.close()
        if error is not None:
            return
        done = self._amount.look(time.monotonic(), listing=True, reading_s=LAST_READING_S)
        if done.shards == self._all.shards:  # a job that was only handed over has done nothing
            line = progress_line(self._amount.first, done, self._all)
            say(f"image plane: {line}, {done.at - self._begun:.1f} s")

    def _watch(self, show: Callable[[Done], None]) -> None:
        while not self._over.wait(REDRAWN_S):
            show(self._amount.look(time.monotonic()))

    def _draw(self, screen: Screen, done: Done) -> None:
        screen.draw(done.pairs, screen_lines(self._amount.first, done, self._all))

    def _write_lines(self, done: Done) -> None:
        if done.at - self._said >= self._line_s:
            self._said = done.at
            say(f"image plane: {progress_line(self._amount.first, done, self._all)}")


def be_quiet(quiet: bool) -> None:
    """Has nothing be said from here on but warnings and errors, or undoes that."""
    (_QUIET.set if quiet else _QUIET.clear)()
    if quiet and not os.environ.get("ALIGNSET_LOG_LEVEL"):
        logging.getLogger("alignset").setLevel("WARNING")


def say(line: str) -> None:
    """Writes a line on standard error, unless all is quiet."""
    if not _QUIET.is_set():
        print(line, file=sys.stderr, flush=True)
