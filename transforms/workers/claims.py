"""Who writes a shard: of several workers that were given it, the last."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import NamedTuple

from transforms.storage.files import (
    exists,
    is_local,
    open_to_read,
    publish,
    remove,
    write_atomically,
)
from transforms.storage.object_stores import copy_object


class ClaimLostError(RuntimeError):
    """Another worker has begun the shard after this one."""


class Mark(NamedTuple):
    """What an attempt leaves at a shard when it begins.

    Fields:
      start: of the command, for which it was begun. attempt: 1 for the first of that start.
      unique: tells it from all others.
    """

    start: str
    attempt: int
    unique: str


class Claim:
    """A worker's mark that it has begun a shard, in place of the mark of any before it.

    An engine gives a shard to another worker when it believes the first one dead; that one may
    still run, on a slow host or cut off from the engine alone. Both would then publish what each
    has fetched, a tar of the one beside the table of the other. So a worker looks whether it is
    still the last, right before it publishes a file.

    Args:
      path: of the file with the mark.
      start: of the command, for which it was begun.
    """

    def __init__(self, path: str, start: str) -> None:
        last = claimed(path, start)
        self.path = path
        self.mark = Mark(start, last.attempt + 1 if last else 1, uuid.uuid4().hex)
        text = " ".join(map(str, self.mark)).encode()
        write_atomically(path, lambda sink: sink.write(text))

    def check(self) -> None:
        """Returns where nobody came after.

        Raises:
          ClaimLostError: somebody did.
          OSError: the mark is gone, since the run has ended.
        """
        if _read(self.path) != self.mark:
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
        copy_object(aside, path)
        remove(aside)


def claimed(path: str, start: str) -> Mark | None:
    """The newest mark there, None where there is none of this start of the command."""
    mark = _read(path) if exists(path) else None
    return mark if mark and mark.start == start else None


def _read(path: str) -> Mark:
    with open_to_read(path) as source:
        start, attempt, unique = source.read().decode().split()
    return Mark(start, int(attempt), unique)
