"""Who writes a shard: of several workers that were given it, the last."""

from __future__ import annotations

import uuid

from transforms.files import exists, open_to_read, write_atomically


class ClaimLostError(RuntimeError):
    """Another worker has begun the shard after this one."""


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
        self._path, self._mark = path, f"{start} {uuid.uuid4().hex}"
        write_atomically(path, lambda sink: sink.write(self._mark.encode()))

    def check(self) -> None:
        """Returns where nobody came after.

        Raises:
          ClaimLostError: somebody did.
          OSError: the mark is gone, since the run has ended.
        """
        if _read(self._path) != self._mark:
            raise ClaimLostError(f"another worker has begun {self._path} anew; left to it")


def claimed(path: str, start: str) -> str:
    """The newest mark there, empty where there is none of this start of the command."""
    mark = _read(path) if exists(path) else ""
    return mark if mark.startswith(f"{start} ") else ""


def _read(path: str) -> str:
    with open_to_read(path) as source:
        return source.read().decode()
