"""One line on standard error while the image plane runs: what is done, how fast, what is left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from threading import Event, Thread
from typing import NamedTuple

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from transforms.shards.shard_progress import (
    Load,
    finished_shards,
    load_of_workers,
    shards_under_way,
)
from transforms.storage.files import is_local
from transforms.workers.fencing import Fence

REDRAWN_S = 1.0  # between two looks, and on a terminal between two drawings of the line
LINE_S = 30.0  # between two lines where standard error is no terminal, as a log
LISTED_S = 30.0  # at least, between two listings of a store
LISTING_SHARE = 0.02  # of the time, at most, that goes into listing


class Done(NamedTuple):
    """How much is done at a moment, s; and the connections of this machine's workers then."""

    at: float
    shards: int
    pairs: int
    load: Load = Load()


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
        self._counted: dict[int, int] = {}
        self._listed_again = 0.0

    def look(self, now: float, *, listing: bool = False) -> Done:
        """What is done. With `listing`, shards are listed, even if that was done just before."""
        # Before: they go when a shard is whole.
        counts = shards_under_way(self._plan, self._token)
        load = load_of_workers(self._plan, self._token)
        if listing or now >= self._listed_again:
            with suppress(Exception):  # a store that does not answer: those who write there tell
                self._list(now)
        for shard, count in counts.items():
            if shard in self._sizes:
                count = min(count, self._sizes[shard])
                self._counted[shard] = max(count, self._counted.get(shard, 0))
        for shard in self._whole & self._counted.keys():
            del self._counted[shard]
        pairs = self._pairs_of_whole + sum(self._counted.values())
        return Done(now, len(self._whole), pairs, load)

    def _list(self, now: float) -> None:
        begun = time.monotonic()
        new = finished_shards(self._out, self._sizes.keys()) - self._whole
        took_s = time.monotonic() - begun
        self._whole |= new
        self._pairs_of_whole += sum(self._sizes[shard] for shard in new)
        least_s = 0.0 if is_local(self._out) else LISTED_S
        self._listed_again = now + max(least_s, took_s / LISTING_SHARE)


class ImageProgress:
    """Shows how far the image plane is while its block runs: on a terminal a line that is drawn
    again and again, else a line now and then, and one at the end.

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
        self._begun = time.monotonic()
        self._first = self._amount.look(self._begun, listing=True)
        say(what_is_left(self._first, self._all, self._verb))
        self._stack = ExitStack()
        bar = None
        if is_terminal():
            bar = tqdm(
                desc=progress_line(self._first, self._first, self._all),
                total=self._all.pairs,
                bar_format="{desc} |{bar}|",  # where a terminal is narrow, the bar is what is cut
                leave=False,
                dynamic_ncols=True,
            )
            self._stack.enter_context(bar)
            self._stack.enter_context(logging_redirect_tqdm())  # warnings stand above the line
        self._thread = Thread(target=self._show, args=(bar,), name="progress", daemon=True)
        self._thread.start()

    def __exit__(self, error: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._stack.close()
        if error is not None:
            return
        done = self._amount.look(time.monotonic(), listing=True)
        if done.shards == self._all.shards:  # a job that was only handed over has done nothing
            line = progress_line(self._first, done, self._all)
            say(f"image plane: {line}, {done.at - self._begun:.1f} s")

    def _show(self, bar: tqdm | None) -> None:
        first, said = self._first, self._begun
        while not self._over.wait(REDRAWN_S):
            now = time.monotonic()
            if bar is None and now - said < self._line_s:
                continue
            done = self._amount.look(now)
            if done.pairs == first.pairs:  # workers still start: that is no time of theirs
                first = self._first = done
            line = progress_line(first, done, self._all)
            if bar is None:
                say(f"image plane: {line}")
                said = now
            else:
                bar.n = done.pairs
                bar.set_description_str(line)


def verb_of(formats: Collection[str]) -> str:
    """What the image plane does with pairs of such input formats: those of shards are stored."""
    stored = {name == "webdataset" for name in formats}
    return {(True,): "read", (False, True): "read or fetch"}.get(tuple(sorted(stored)), "fetch")


def what_is_left(done: Done, of_all: Done, verb: str) -> str:
    """What there is to do, as "40 shards, 4,000 pairs to fetch"; after a resume, of how much."""
    if not of_all.shards:
        return f"no pair is left to {verb}"
    if done.shards == of_all.shards:
        return f"{counted(done.shards, 'shard')}, each of them whole: what is left is to add up"
    shards, pairs = of_all.shards - done.shards, of_all.pairs - done.pairs
    if not done.shards:
        return f"{counted(shards, 'shard')}, {counted(pairs, 'pair')} to {verb}"
    verb_left = "is" if shards == 1 else "are"
    left = f"{shards:,} of {counted(of_all.shards, 'shard')} {verb_left} left"
    return f"{left}, {pairs:,} of {counted(of_all.pairs, 'pair')} to {verb}"


def progress_line(first: Done, done: Done, of_all: Done) -> str:
    """As "12 of 40 shards, 118,204 of 400,000 pairs, 812 images/s, 931 connections (CPU), 5 min
    left". What stands behind the connections is what limits them.

    Args:
      first: when the first of this start's pairs were still to come. done: now. of_all: in the end.
    """
    parts = [
        f"{done.shards:,} of {counted(of_all.shards, 'shard')}",
        f"{done.pairs:,} of {counted(of_all.pairs, 'pair')}",
    ]
    new, took_s = done.pairs - first.pairs, done.at - first.at
    if new > 0 and took_s > 0:
        rate = new / took_s
        parts.append(f"{rate:,.{0 if rate >= 10 else 1}f} images/s")
        if done.load.open and done.pairs < of_all.pairs:
            connections = counted(done.load.open, "connection")
            parts.append(f"{connections} ({done.load.limited_by})")
        if done.pairs < of_all.pairs:
            parts.append(f"{duration((of_all.pairs - done.pairs) / rate)} left")
    elif done.pairs < of_all.pairs:
        parts.append("starting")
    if done.pairs == of_all.pairs and done.shards < of_all.shards:
        parts.append("writing the last")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time in one or two units: "45 s", "12 min", "2 h 5 min", "3 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24:,} d {hours % 24} h"


def counted(number: int, thing: str) -> str:
    """As "1 shard" and "4,000 shards"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def is_terminal() -> bool:
    """Whether a line on standard error can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def say(line: str) -> None:
    """Writes a line on standard error."""
    print(line, file=sys.stderr, flush=True)
