"""The type of the finished runs that many tests look at; conftest.py makes them."""

from pathlib import Path
from typing import NamedTuple


class Golden(NamedTuple):
    """The golden set, and the run of the command over it."""

    pairs: Path
    flags: tuple[str, ...]
    fates: list  # of golden.Fate
    output: Path
    said: str  # on stderr, and printed
