"""Attempts kept apart: of several that may still be alive, only one publishes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from alignset.transforms.storage.files import exists, is_local, open_to_read, write_atomically


class SupersededError(RuntimeError):
    """The command was started again meanwhile, and this start of it must not write."""


@dataclass(frozen=True)
class Fence:
    """A fencing token: what a runner still runs for a command that died stays behind it.

    On a local file system locks make sure of it; on an object store, which has none, the token is
    looked at right before.

    Args:
      path: of the file that holds the token of the newest start.
      token: of this start.
    """

    path: str
    token: str

    def take(self) -> None:
        """Shuts out all other starts, after what they are publishing just now."""
        if not is_local(self.path):
            write_atomically(self.path, lambda sink: sink.write(self.token.encode()))
            return
        with open(self.path, "a+b") as file:  # written where it lies: the lock is on this file
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(self.token.encode())

    def newest(self) -> str:
        """The token of the start that took it last; empty before the first and after the run."""
        if not exists(self.path):
            return ""
        with open_to_read(self.path) as source:
            return source.read().decode()

    def finished_starts(self) -> set[str]:
        """The tokens of the starts that ended in order, though not with the run."""
        if not exists(self._ends):
            return set()
        with open_to_read(self._ends) as source:
            return set(source.read().decode().split())

    def note_end(self) -> None:
        """Has others know that this start has not died: it was stopped, or raised an error."""
        tokens = " ".join(sorted({*self.finished_starts(), self.token}))
        write_atomically(self._ends, lambda sink: sink.write(tokens.encode()))

    @property
    def _ends(self) -> str:
        return f"{self.path}.ended"

    def check(self) -> None:
        """Raises SupersededError where this is no more the newest start."""
        if self.newest() != self.token:
            raise SupersededError("the command was started again; this is left of an earlier start")

    @contextmanager
    def publishing(self, path: str) -> Iterator[None]:
        """Within it nobody else publishes what the file at `path` stands for.

        Raises:
          SupersededError: this is no more the newest start.
        """
        with ExitStack() as locks:
            if is_local(self.path):
                for name, kind in ((self.path, fcntl.LOCK_SH), (path, fcntl.LOCK_EX)):
                    try:
                        file = locks.enter_context(open(name, "r+b"))
                    except FileNotFoundError:
                        break  # `check` says why
                    fcntl.flock(file, kind)
            self.check()
            yield
