"""The words of the live view: how far a run is, how fast, what it keeps, what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

from alignset.pipeline.report.process_memory import Memory
from alignset.pipeline.report.shard_tallies import Tally
from alignset.pipeline.shown_texts import counted
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_progress import Load

_MOST_KINDS = 4  # of failures, and of other reasons
_LEAST_SHARE = 0.0005  # which is shown as 0.1%


class Done(NamedTuple):
    """How much is done at a moment.

    Attributes:
      at: s, of any clock.
      shards, pairs: that are done, with those of earlier starts.
      bytes: that this start has fetched.
      tally: of the whole shards. new: of those that this start has finished.
      memory: of the processes of this machine.
      left_s: until all shards are whole; None while nothing tells it.
      load: the connections of this machine's workers, and what limits them.
    """

    at: float
    shards: int
    pairs: int
    bytes: int = 0
    tally: Tally = Tally()
    new: Tally = Tally()
    memory: Memory = Memory()
    left_s: float | None = None
    load: Load = Load()


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
    """All on one line, as a log has it.

    Args:
      first: when the first of this start's pairs were still to come. done: now. of_all: in the end.
    """
    parts = [
        _amount(done, of_all),
        *speeds(first, done, of_all),
        *_kept(done.tally),
        *(f"{word} {kinds}" for word, kinds in _dropped(done.tally)),
        *_memory(done.memory),
        *_left(done, of_all),
    ]
    return ", ".join(parts)


def screen_lines(first: Done, done: Done, of_all: Done) -> list[str]:
    """The same, a line for each thing that is looked for; as many lines at any time.

    Returns:
      the first is of how much is done and what is left.
    """
    amount = [_amount(done, of_all), *_left(done, of_all)]
    fast = [*speeds(first, done, of_all)]
    dropped = dict(_dropped(done.tally))
    rows = {
        "images": amount,
        "speed": fast or ["-"],
        "kept": [*_kept_of(done.tally)] or ["-"],
        "failed": [dropped.get("failed", "-")],
        "dropped": [dropped.get("dropped", "-")],
        "memory": [*_memory(done.memory)] or ["-"],
    }
    return [f"{name:<8} {', '.join(parts)}" for name, parts in rows.items()]


def _amount(done: Done, of_all: Done) -> str:
    shards = f"{done.shards:,} of {counted(of_all.shards, 'shard')}"
    return f"{shards}, {done.pairs:,} of {counted(of_all.pairs, 'pair')}"


def speeds(first: Done, done: Done, of_all: Done) -> Iterator[str]:
    """As "812 pairs/s", "640 images/s", "41 MB/s", "931 connections (CPU)": of this start alone.
    Images are those that arrived, as the shards that this start has finished tell; behind the
    connections stands what limits them."""
    new, took_s = done.pairs - first.pairs, done.at - first.at
    if new <= 0 or took_s <= 0:
        return
    yield f"{_rounded(new / took_s)} pairs/s"
    if done.new.pairs:
        yield f"{_rounded(new / took_s * done.new.arrived / done.new.pairs)} images/s"
    if done.bytes > first.bytes:
        kilobytes = (done.bytes - first.bytes) / took_s / 1e3
        yield f"{kilobytes:.0f} kB/s" if kilobytes < 1000 else f"{_rounded(kilobytes / 1e3)} MB/s"
    if done.load.open and done.pairs < of_all.pairs:
        yield f"{counted(done.load.open, 'connection')} ({done.load.limited_by})"


def _rounded(rate: float) -> str:
    return f"{rate:,.{0 if rate >= 10 else 1}f}"


def _left(done: Done, of_all: Done) -> Iterator[str]:
    if done.pairs == of_all.pairs and done.shards < of_all.shards:
        yield "writing the last"
    elif done.shards < of_all.shards and done.left_s is not None:
        yield f"{duration(done.left_s)} left"
    elif done.shards < of_all.shards:
        yield "starting"


def _kept(tally: Tally) -> Iterator[str]:
    if tally.pairs:
        yield f"{tally.kept / tally.pairs:.1%} kept"


def _kept_of(tally: Tally) -> Iterator[str]:
    if tally.pairs:
        share = f"{tally.kept / tally.pairs:.1%}"
        yield f"{share} of the {counted(tally.pairs, 'pair')} of shards that are whole"


def _dropped(tally: Tally) -> Iterator[tuple[str, str]]:
    """What failed to be fetched, and what else was dropped: with shares of the pairs."""
    failed = tally.reasons[FETCH_FAILED]
    if failed:
        kinds = _shares(tally.failures, tally.pairs)
        yield "failed", f"{failed / tally.pairs:.1%}{f' ({kinds})' if kinds else ''}"
    others = Counter({name: n for name, n in tally.reasons.items() if name != FETCH_FAILED})
    if shares := _shares(others, tally.pairs):
        yield "dropped", shares


def _shares(counts: Counter[str], total: int) -> str:
    """The most frequent, each with its share."""
    shares = [(name, n / total) for name, n in counts.most_common(_MOST_KINDS) if n]
    return ", ".join(f"{name} {share:.1%}" for name, share in shares if share >= _LEAST_SHARE)


def _memory(memory: Memory) -> Iterator[str]:
    if memory.bytes:
        processes = f" in {memory.processes} processes" if memory.processes > 1 else ""
        yield f"{memory.bytes / 1e9:.1f} GB{processes}"


def duration(seconds: float) -> str:
    """A time in one or two units: "45 s", "1 min 35 s", "12 min", "2 h 5 min", "3 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(5 * round(seconds / 5), 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24:,} d {hours % 24} h"
