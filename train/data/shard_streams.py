"""The bytes of a shard, wherever it lies, as one stream that outlives failures on the way."""

import hashlib
import io
import logging
import os
import subprocess
import tempfile
import time
from typing import Any

from alignset.train.errors import TrainingError
from alignset.transforms.storage.stores import RemoteError, RemoteFile

LOG = logging.getLogger(__name__)
PIPE = "pipe:"
_BLOCK, _END_BYTES = 1 << 20, 1 << 16
HEADERS = 1 << 12  # bytes: the headers, JSON and text of most samples; of others, more is read


class ShardStream:
    """A shard's bytes in order.

    Where its source fails, it is opened again and read on from the same byte, so that nothing
    comes twice; a command by reading over what was had. A store has a patience of its own, five
    minutes, and gets it twice.

    Args:
      at_once: bytes of a local file that are read at once: fewer, where most are skipped.

    Attributes:
      at: the next byte.
      size: of the whole shard, bytes, or None where the source does not say.
      seeks: whether it could be opened at any byte, as far as is known.
    """

    def __init__(self, shard: str, at: int = 0, *, at_once: int = _BLOCK):
        self.shard, self.at, self._at_once = shard, at, at_once
        self.size: int | None = None
        self.seeks = not shard.startswith(PIPE)
        self._is_remote = self.seeks and "://" in shard
        self._file: Any = None

    def __enter__(self) -> "ShardStream":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer only where the shard ends.

        Raises:
          TrainingError: it failed five times on end, a store for ten minutes, or it is not there.
        """
        waits_s = [1] if self._is_remote else [8, 4, 2, 1]
        while True:
            try:
                if self._file is None:
                    self._open()
                data: bytes = self._file.read(count)
                self.at += len(data)
                return data
            except Exception as error:  # drivers raise many kinds
                self.__exit__()
                why = f"at byte {self.at} ({type(error).__name__}: {error}"[:200].replace("\n", " ")
                final = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
                final |= isinstance(error, RemoteError) and error.code < 500
                if final or not waits_s:
                    why += "): put it right; the same command resumes"
                    raise TrainingError(f"{self.shard} cannot be read {why}") from error
                LOG.warning("%s failed %s): trying again", self.shard, why)
                time.sleep(waits_s.pop())

    def skip(self, count: int) -> None:
        """Leaves out the next `count` bytes; in a local file they are not read."""
        if isinstance(self._file, io.BufferedReader) and not self._is_remote:
            self._file.seek(count, os.SEEK_CUR)
            self.at += count
            return
        while count and (piece := self.read(min(_BLOCK, count))):
            count -= len(piece)

    def _open(self) -> None:
        if self._is_remote:
            remote = RemoteFile(self.shard, self.at)
            self.size, self.seeks = remote.size, remote.has_ranges
            self._file = io.BufferedReader(remote, _BLOCK)
        elif self.seeks:
            self._file = open(self.shard, "rb", self._at_once)  # noqa: SIM115 (read on later)
            self._file.seek(self.at)
            self.size = os.fstat(self._file.fileno()).st_size
        else:
            self._file = _Command(self.shard.removeprefix(PIPE), self.at)


class _Command(subprocess.Popen[bytes]):
    """A shell command that prints a shard, from a byte on; its failure is an error at its end."""

    def __init__(self, command: str, at: int):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
        output = subprocess.PIPE
        super().__init__(command, shell=True, stdout=output, stderr=self._errors, bufsize=_BLOCK)
        while at and (piece := self.read(min(_BLOCK, at))):
            at -= len(piece)
        if at:
            raise OSError(f"ended {at} bytes before the byte that was reached before")

    def read(self, count: int) -> bytes:
        data = self.stdout.read(count) if self.stdout else b""
        if len(data) < count and (code := self.wait()):
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            raise OSError(f"exit status {code}" + (f", {lines[-1]:.100}" if lines else ""))
        return data

    def close(self) -> None:
        self.terminate()
        self.__exit__(None, None, None)
        self._errors.close()


def fingerprint(shard: str) -> str:
    """Tells shards apart without reading all of them: size, and a hash of both ends.

    Equal for copies of one shard, in whatever place; of a command it is "command", and of a web
    server that knows no ranges it has only the first end.
    """
    if shard.startswith(PIPE):
        return "command"
    with ShardStream(shard) as stream:
        digest = hashlib.sha256(stream.read(_END_BYTES))
    if stream.size is None or not stream.seeks:
        return f"{stream.size}:{digest.hexdigest()[:16]}:first"
    with ShardStream(shard, max(0, stream.size - _END_BYTES)) as stream:
        digest.update(stream.read(_END_BYTES))
    return f"{stream.size}:{digest.hexdigest()[:16]}"
