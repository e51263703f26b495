"""Who writes a shard: of several workers that were given it, the last."""

from __future__ import annotations

import uuid

from transforms.files import open_to_read, write_atomically


class Claim:
    """A worker's mark that it has begun a shard, in place of the mark of any before it.

    An engine gives a shard to another worker when it believes the first one dead; that one may
    still run, on a slow host or cut off from the engine alone. Both would then publish what each
    has fetched, a tar of the one beside the table of the other. So a worker looks whether it is
    still the last, right before it publishes a file.

    Args:
      path: of the file with the mark.
    """

    def __init__(self, path: str) -> None:
        self._path, self._mark = path, uuid.uuid4().hex.encode()
        write_atomically(path, lambda sink: sink.write(self._mark))

    def check(self) -> None:
        """Returns where nobody came after.

        Raises:
          RuntimeError: somebody did.
          OSError: the mark is gone, since the run has ended.
        """
        with open_to_read(self._path) as source:
            if source.read() != self._mark:
                raise RuntimeError(f"another worker has begun {self._path} anew; left to it")
