"""How far the image stage is: a line that is drawn again on a terminal and in a notebook, or
written now and then; or lines of JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from threading import Event, Thread

from tqdm import tqdm

with warnings.catch_warnings(action="ignore"):  # in a notebook, that ipywidgets is missing
    from tqdm.contrib.logging import logging_redirect_tqdm

from alignset.pipeline.shown_texts import counted
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_places import ShardPlaces, shards_there, shards_under_way
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import is_local

REDRAWN_S = 1.0  # between two looks
LINE_S = 30.0  # between two lines where standard error is not a terminal, as a log
LISTED_S = 30.0  # at least, between two listings of a store
LISTING_SHARE = 0.005  # of the time, at most, that goes into listing and reading stats
READING_S = 0.05  # of a look, at most, that goes into reading stats
LAST_READING_S = 2.0  # at the end
_MOST_FAILURES = 3  # kinds of them that are named

_QUIET, _AS_JSON = Event(), Event()


class Amount:
    """How much of the planned shards is done: whole shards, and what attempts have counted
    of the others. Never less than before, though an attempt may be lost.

    Args:
      out: the output folder. attempts: the folder of all attempts at shards.
      sizes: how many pairs each planned shard has, by its number.

    Attributes:
      earlier: pairs of shards that earlier starts have finished.
    """

    def __init__(self, out: str, attempts: str, sizes: Mapping[int, int]) -> None:
        self._out, self._attempts, self.sizes = out, attempts, sizes
        self.total = sum(sizes.values())
        self.earlier = 0
        self._whole: set[int] = set()
        self._done = dict.fromkeys(sizes, 0)  # pairs, by shard
        self._has_listed, self._listed_again = False, 0.0
        self._unread: deque[int] = deque()
        self._judged_pairs = self._kept_pairs = 0  # pairs of shards whose stats were read
        self._failures: Counter[str] = Counter()

    @property
    def shards(self) -> int:
        """How many are whole."""
        return len(self._whole)

    @property
    def pairs(self) -> int:
        """How many are done."""
        return sum(self._done.values())

    def look(self, now: float, *, listing: bool = False, reading_s: float = READING_S) -> None:
        """Finds what is done by now.

        Args:
          listing: whether shards are listed, even if that was done just before.
          reading_s: that reading the stats of whole shards may take.
        """
        # Before they are listed: attempts go when a shard is whole.
        attempts = shards_under_way(self._attempts)
        if listing or now >= self._listed_again:
            start = time.monotonic()
            with suppress(Exception):  # a store that does not answer: those who write there tell
                self._list(start + reading_s)
            took_s = time.monotonic() - start
            least_s = 0.0 if is_local(self._out) else LISTED_S
            self._listed_again = now + max(least_s, took_s / LISTING_SHARE)
        for shard in attempts.keys() & self.sizes.keys() - self._whole:
            pairs = min(attempts[shard], self.sizes[shard])
            self._done[shard] = max(pairs, self._done[shard])

    def _list(self, until: float) -> None:
        """Finds the shards that are whole, and adds up what they say of their pairs until then;
        what cannot be read is left out."""
        new = self.sizes.keys() & shards_there(self._out).keys() - self._whole
        self._whole |= new
        self._done |= {shard: self.sizes[shard] for shard in new}
        if not self._has_listed:  # what earlier starts have done is not a speed of this one
            self._has_listed = True
            self.earlier = sum(self.sizes[shard] for shard in new)
        self._unread.extend(sorted(new))
        while self._unread and time.monotonic() < until:
            path = ShardPlaces(self._out).stats(self._unread.popleft())
            with suppress(OSError, DocumentError):  # a store; another version's
                stats = read_document(path, ShardStats)
                self._judged_pairs += stats.count
                self._kept_pairs += stats.successes
                for status, count in stats.status_dict.items():
                    reason, _, detail = status.partition(": ")
                    if reason == FETCH_FAILED:
                        self._failures[detail] += count

    def __str__(self) -> str:
        """As "4 of 8 shards, 240 of 400 pairs"."""
        shards = f"{self.shards:,} of {counted(len(self.sizes), 'shard')}"
        return f"{shards}, {self.pairs:,} of {counted(self.total, 'pair')}"

    def facts(self, took_s: float) -> dict[str, float | None]:
        """The numbers of a line of JSON, so many seconds after this start began."""
        rate = (self.pairs - self.earlier) / max(took_s, 1e-3)
        return {
            "pairs_done": self.pairs,
            "pairs": self.total,
            "shards_done": self.shards,
            "shards": len(self.sizes),
            "pairs_judged": self._judged_pairs,
            "kept": self._kept_pairs,
            "failed": self._failures.total(),
            "pairs_per_s": round(rate, 2),
            "seconds": round(took_s, 1),
            "seconds_left": round((self.total - self.pairs) / rate, 1) if rate > 0 else None,
        }

    @property
    def outcome(self) -> str:
        """As ", 88.8% kept, 11.2% failed (http_404 11.2%)", of shards whose stats were read."""
        if not self._judged_pairs:
            return ""
        text = f", {self._kept_pairs / self._judged_pairs:.1%} kept"
        if failures := self._failures.total():
            kinds = self._failures.most_common(_MOST_FAILURES)
            names = ", ".join(f"{name} {n / self._judged_pairs:.1%}" for name, n in kinds)
            text += f", {failures / self._judged_pairs:.1%} failed ({names})"
        return text


def verb_of(formats: Collection[str]) -> str:
    """The image stage's verb for pairs of such input formats: pairs of shards are stored."""
    kinds = {name == "webdataset" for name in formats}
    return {(True,): "read", (False, True): "read or fetch"}.get(tuple(sorted(kinds)), "fetch")


def what_is_left(amount: Amount, verb: str) -> str:
    """The work to do, such as "40 shards, 4,000 pairs to fetch"; after a resume, the part that is
    left."""
    shards, pairs = len(amount.sizes) - amount.shards, amount.total - amount.pairs
    of_shards, of_pairs = counted(len(amount.sizes), "shard"), counted(amount.total, "pair")
    if not amount.sizes:
        return f"no pair is left to {verb}"
    if not shards:
        return f"{of_shards}, each of them whole: what is left is to add up"
    if not amount.shards:
        return f"{of_shards}, {counted(pairs, 'pair')} to {verb}"
    are = "is" if shards == 1 else "are"
    return f"{shards:,} of {of_shards} {are} left, {pairs:,} of {of_pairs} to {verb}"


class ImageProgress:
    """Shows how far the image stage is while its block runs: on a terminal and in a notebook a line
    that is drawn again and again, else a line now and then, and one at the end; or, where
    `be_quiet` was asked for it, a line of JSON each second, and one at the end.

    Args:
      out: the output folder. attempts: the folder of all attempts at shards.
      sizes: how many pairs each planned shard has, by its number.
      verb: what becomes of the pairs, as in "40 shards, 4,000 pairs to fetch".
    """

    def __init__(
        self, out: str, attempts: str, sizes: Mapping[int, int], verb: str = "fetch"
    ) -> None:
        self._amount = Amount(out, attempts, sizes)
        self._verb, self._over = verb, Event()

    @property
    def is_whole(self) -> bool:
        """Whether all shards are written."""
        return self._amount.shards == len(self._amount.sizes)

    def __enter__(self) -> ImageProgress:
        self._start = self._last_line_at = time.monotonic()
        self._amount.look(self._start, listing=True)
        say(what_is_left(self._amount, self._verb))
        self._stack = ExitStack()
        self._bar: tqdm | None = None
        if is_redrawn() and not _QUIET.is_set() and not _AS_JSON.is_set():
            how = {"unit": " pairs", "leave": False, "dynamic_ncols": True}
            bar_format = self._format(" |{bar:20}| ")
            self._bar = tqdm(total=self._amount.total, bar_format=bar_format, **how)
            self._stack.enter_context(self._bar)
            self._stack.enter_context(logging_redirect_tqdm())  # warnings stand above the line
        self._thread = Thread(target=self._watch, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._stack.close()
        if error is not None:
            return
        now = time.monotonic()
        self._amount.look(now, listing=True, reading_s=LAST_READING_S)
        if _AS_JSON.is_set():
            self._write_facts(now)
        elif self.is_whole:  # else a job was only handed over
            end = f"{self._amount.outcome}, {now - self._start:.1f} s"
            self._say(now, f"{self._amount}, {{rate_noinv_fmt}}{end}")

    def _watch(self) -> None:
        while not self._over.wait(REDRAWN_S):
            now = time.monotonic()
            self._amount.look(now)
            if _AS_JSON.is_set():
                self._write_facts(now)
            elif self._bar is not None:
                self._bar.n, self._bar.initial = self._amount.pairs, self._amount.earlier
                self._bar.bar_format = self._format(" |{bar:20}| ")
                self._bar.refresh()
            elif now - self._last_line_at >= LINE_S:
                self._last_line_at = now
                self._say(now, self._format(", "))

    def _write_facts(self, now: float) -> None:
        say(json.dumps(self._amount.facts(now - self._start)), even_quiet=True)

    def _format(self, behind: str) -> str:
        """The line as a format of tqdm, with the mean speed of this start; what comes last is cut
        first by a narrow terminal.

        Args:
          behind: what stands behind the number of pairs.
        """
        amount = self._amount
        is_begun = amount.pairs > amount.earlier
        speed = "{rate_noinv_fmt}, {remaining} left" if is_begun else "starting"
        return f"{amount}{behind}{speed}{amount.outcome}"

    def _say(self, now: float, line_format: str) -> None:
        amount = self._amount
        how = {"initial": amount.earlier, "unit": " pairs", "bar_format": line_format}
        text = tqdm.format_meter(amount.pairs, amount.total, now - self._start, **how)
        say(f"image stage: {text}".replace("  ", " "))  # where the rate has a digit less


def is_redrawn() -> bool:
    """Whether a line on standard error can be drawn again: on a terminal, or below a notebook's
    cell."""
    ipython = sys.modules.get("IPython")  # a kernel has it; elsewhere it need not be installed
    if ipython and hasattr(ipython.get_ipython(), "kernel"):
        return True
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def be_quiet(quiet: bool, *, as_json: bool = False) -> None:
    """Has nothing be said from here on but warnings and errors, or undoes that.

    Args:
      as_json: whether progress is lines of JSON, even where all else is quiet.
    """
    (_QUIET.set if quiet else _QUIET.clear)()
    (_AS_JSON.set if as_json else _AS_JSON.clear)()
    if quiet and not os.environ.get("ALIGNSET_LOG_LEVEL"):
        logging.getLogger("alignset").setLevel("WARNING")


def say(line: str, *, even_quiet: bool = False) -> None:
    """Writes a line on standard error, unless all is quiet. A reader that is gone ends no run."""
    if even_quiet or not _QUIET.is_set():
        with suppress(BrokenPipeError):
            print(line, file=sys.stderr, flush=True)
