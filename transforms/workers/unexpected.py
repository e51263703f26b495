"""Unforeseen errors of our own code for somebody's bytes: a reason of theirs, logged once a
kind."""

from __future__ import annotations

import logging
import traceback

LOG = logging.getLogger("alignset")
_TOLD: set[tuple[str, str]] = set()  # of this process


def tell_once(where: str, error: Exception) -> None:
    """Logs an error that nobody foresaw, with the line of code that raised it, once for each line.

    Args:
      where: what was being done, as in "looking at an image".
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    if (where, place) not in _TOLD:
        _TOLD.add((where, place))
        LOG.warning("%s raised %r at %s: please report it", where, error, place)
