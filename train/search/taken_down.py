"""What was taken down from the sets that an index was made of.

A set's `taken_down.u64` holds the keys of all pairs that were ever taken out of it, as 64-bit
numbers, little-endian (docs/manners.md). A sample's key is that number in 16 hexadecimal digits.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from alignset.train.errors import TrainingError
from alignset.train.search.pictures import ShardSource, Source

TAKEN_DOWN = "taken_down.u64"
_LONGEST = 1 << 30  # bytes
Mark = tuple[int, int, int] | None


def sets_of(sources: Iterable[Source]) -> list[str]:
    """The folders of the finished sets that hold these sources, absolute, each once; only local
    ones, since what lies elsewhere cannot be looked at before each answer."""
    folders = {
        os.path.dirname(os.path.dirname(path))
        for source in sources
        if isinstance(source, ShardSource) and os.path.exists(source.where)
        for path in (os.path.abspath(source.where), os.path.realpath(source.where))
    }
    return sorted(set_ for set_ in folders if os.path.exists(f"{set_}/manifest.json"))


def mark_of(path: str | Path) -> Mark:
    """What tells a state of a file that is replaced as a whole from later ones: 2 microseconds.
    None: it is not there."""
    try:
        of = os.stat(path)
    except OSError:
        return None
    return of.st_mtime_ns, of.st_ino, of.st_size


def marks_of(sets: Iterable[str]) -> tuple[Mark, ...]:
    """The same of each set's file of what was taken down."""
    return tuple(mark_of(f"{set_}/{TAKEN_DOWN}") for set_ in sets)


def taken_keys(sets: Iterable[str]) -> set[str]:
    """The keys that were taken down from these sets; a set that is gone has none.

    Raises:
      TrainingError: a file of them cannot be read.
    """
    keys: set[str] = set()
    for set_ in sets:
        path = Path(set_, TAKEN_DOWN)
        if path.exists():
            keys |= read_keys(path)
    return keys


def read_keys(path: str | Path) -> set[str]:
    """The keys in one such file. Raises TrainingError where it cannot be read."""
    try:
        size = os.stat(path).st_size
        if size % 8 or size > _LONGEST:
            raise TrainingError(
                f"{path} is no list of keys ({size} bytes): run the takedown from its set again"
            )
        return {f"{key:016x}" for key in np.fromfile(path, "<u8").tolist()}
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror}): put it right") from error
