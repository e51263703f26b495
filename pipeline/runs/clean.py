"""What a command worked with, taken away at its end."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from alignset.pipeline.runs.run_lock import LOCK
from alignset.transforms.storage.files import is_local, remove, remove_leftovers
from alignset.transforms.storage.matching import match
from alignset.transforms.storage.object_stores import remove_objects

# What the next command would go on from.
_FIRST = ("base.json", "takedown.json")


def clean_work(out: str, work: str) -> None:
    """Takes the work folder of an output away: first what a command would go on from, and the lock
    last, on which other commands wait."""
    if is_local(work):
        for path in sorted(Path(work).glob("*"), key=_when_to_go):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or another run's by now
            Path(work).rmdir()
        remove_leftovers(out)
        return
    for name in _FIRST:
        remove(f"{work}/{name}")
    # A folder's own list leaves out what begins in _, as the lock does.
    remove_objects([path for path, _ in match(f"{work}/")])


def _when_to_go(path: Path) -> tuple[bool, bool]:
    return path.name == LOCK, path.name not in _FIRST
