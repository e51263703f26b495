"""The bytes of a shard, wherever it lies, as one stream that outlives failures on the way."""

import hashlib
import logging
import os
import time

from alignset.train.data.shard_sources import (
    PIPE,
    Source,
    has_ranges,
    is_final,
    open_source,
    reason_of,
)
from alignset.train.errors import SettingsError, TrainingError

TRIES = 5  # of one read, each a second or more after the last: 1 + 2 + 4 + 8 = 15 s
_BLOCK = 1 << 20


class ShardStream:
    """A shard's bytes in order.

    Where its source fails, it is opened again and read on from the same byte, so that nothing
    comes twice: by seeking, by HTTP's Range, and where neither goes (a command, a plain web server)
    by reading over what was had.

    Attributes:
      at: the next byte.
      size: of the whole shard, bytes, or None where the source does not say.
      seeks: whether it could be opened at any byte, as far as is known.
    """

    def __init__(self, shard: str, at: int = 0):
        self.shard, self.at = shard, at
        self.size: int | None = None
        self.seeks = not shard.startswith(PIPE)
        self._file: Source | None = None

    def __enter__(self) -> "ShardStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer only where the shard ends.

        Raises:
          TrainingError: it failed TRIES times on end, or is not there.
        """
        for attempt in range(1, TRIES + 1):
            try:
                data = self._read(count)
            except (SettingsError, TrainingError):
                raise
            except Exception as error:  # drivers raise many kinds
                self._close()
                if attempt == TRIES or is_final(error):
                    raise TrainingError(
                        f"{self.shard} cannot be read at byte {self.at} ({reason_of(error)}), "
                        f"tried {attempt} times: put it right; the same command resumes"
                    ) from error
                logging.getLogger(__name__).warning(
                    "%s failed at byte %d (%s): trying again", self.shard, self.at, reason_of(error)
                )
                time.sleep(2 ** (attempt - 1))
            else:
                self.at += len(data)
                return data
        raise AssertionError("the last try returns or raises")

    def skip(self, count: int) -> None:
        """Leaves out the next `count` bytes, without reading them where the source can seek."""
        if self._file is not None and self._file.seekable():
            self._file.seek(count, os.SEEK_CUR)
            self.at += count
            return
        end = self.at + count
        while self.at < end and self.read(min(_BLOCK, end - self.at)):
            pass

    def _read(self, count: int) -> bytes:
        if self.size is not None and self.at >= self.size:
            return b""
        if self._file is None:
            self._file, size = open_source(self.shard, self.at)
            if self.size not in (None, size):
                raise TrainingError(
                    f"{self.shard} had {self.size} bytes and now has {size}: it was changed while "
                    "it was read; put the old one back, or train in a new --run"
                )
            self.size, self.seeks = size, has_ranges(self._file)
        data = self._file.read(count)
        if len(data) < count and self.size is not None and self.at + len(data) < self.size:
            raise OSError(f"ended after {self.at + len(data)} of {self.size} bytes")
        return data

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


_END_BYTES = 1 << 16


def fingerprint(shard: str) -> str:
    """Tells shards apart without reading all of them: size, and a hash of both ends.

    Equal for copies of one shard, in whatever place; of a command it is "command", and of a web
    server that knows no ranges it has only the first end.
    """
    if shard.startswith(PIPE):
        return "command"
    with ShardStream(shard) as stream:
        digest = hashlib.sha256(stream.read(_END_BYTES))
    size = stream.size
    if size is None or not stream.seeks:
        return f"{size}:{digest.hexdigest()[:16]}:first"
    with ShardStream(shard, max(0, size - _END_BYTES)) as stream:
        digest.update(stream.read(_END_BYTES))
    return f"{size}:{digest.hexdigest()[:16]}"
