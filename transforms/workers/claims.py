"""Who writes a shard: of several workers that were given it, the last."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from alignset.transforms.storage.files import (
    exists,
    is_local,
    open_to_read,
    publish,
    remove,
    write_atomically,
)
from alignset.transforms.storage.stores import copy_remote
from alignset.transforms.workers.fencing import Fence

CLAIM = ".claim"  # how a mark's name ends


class ClaimLostError(RuntimeError):
    """Another worker has begun the shard after this one."""


class Mark(NamedTuple):
    """The mark that an attempt leaves at a shard when it begins.

    Fields:
      start: of the command, for which it was begun. attempt: 1 for the first of that start.
      unique: tells it from all others.
      suspect: an attempt before may have died of the shard's images.
    """

    start: str
    attempt: int
    unique: str
    suspect: bool = False

    def is_suspect(self, finished_starts: Collection[str]) -> bool:
        """Whether the next attempt is suspect.

        Args:
          finished_starts: the starts of the command that ended in order.
        """
        return self.suspect or self.start not in finished_starts


class Claim:
    """A worker's mark that it has begun a shard, in place of the mark of any before it.

    A runner gives a shard to another worker when it believes the first one dead; that one may
    still run, on a slow host or cut off from the runner alone. Both would then publish what each
    has fetched, a tar of the one beside the table of the other. So a worker looks whether it is
    still the last, right before it publishes a file.

    An attempt that finds another's mark cannot know how that ended. A process that dies by a signal
    reports nothing, so all are suspect except attempts of a start that ended in order.

    Args:
      path: of the file with the mark.
      fence: of this start of the command, for which it was begun.
    """

    def __init__(self, path: str, fence: Fence) -> None:
        last = read_mark(path) if exists(path) else None
        attempts = last.attempt if last and last.start == fence.token else 0
        suspect = last is not None and last.is_suspect(fence.finished_starts())
        self.path = path
        self.mark = Mark(fence.token, attempts + 1, uuid.uuid4().hex, suspect)
        text = " ".join(map(str, (*self.mark[:3], int(suspect)))).encode()
        write_atomically(path, lambda sink: sink.write(text))

    def check(self) -> None:
        """Returns where nobody came after.

        Raises:
          ClaimLostError: somebody did.
          OSError: the mark is gone, since the run has ended.
        """
        if read_mark(self.path) != self.mark:
            raise ClaimLostError(f"another worker has begun {self.path} anew; left to it")

    def publish(self, local: Path, path: str) -> None:
        """Moves a finished file of this machine to its place.

        In an object store it is uploaded aside and copied there: an upload takes as long as a
        worker is slow, and another may have published the shard before it ends.

        Raises:
          ClaimLostError: in an object store: somebody came after.
        """
        if is_local(path):  # a lock keeps attempts apart (`Fence.publishing`): the first one wins
            publish(local, path)
            return
        aside = f"{self.path}.{self.mark.unique}.{local.name}"
        publish(local, aside)
        self.check()
        copy_remote(aside, path)
        remove(aside)


def suspects(paths: Iterable[str], fence: Fence) -> list[str]:
    """Which of some marks were left by attempts that may have died of what they worked on."""
    finished_starts = fence.finished_starts()
    return [path for path in paths if read_mark(path).is_suspect(finished_starts)]


def current_mark(path: str, start: str) -> Mark | None:
    """The newest mark there, None where there is none of this start of the command."""
    mark = read_mark(path) if exists(path) else None
    return mark if mark and mark.start == start else None


def read_mark(path: str) -> Mark:
    """The newest mark there."""
    with open_to_read(path) as source:
        start, attempt, unique, suspect = source.read().decode().split()
    return Mark(start, int(attempt), unique, suspect == "1")
