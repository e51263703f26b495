"""The bytes of a shard, wherever it lies, as one stream that outlives failures on the way."""

import functools
import hashlib
import io
import logging
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from datetime import timedelta
from typing import IO, Any, Protocol

import fsspec

from train.errors import SettingsError, TrainingError

PIPE = "pipe:"
TRIES = 5  # of one read, each a second or more after the last: 1 + 2 + 4 + 8 = 15 s
TIMEOUT_S = 60
_BLOCK = 1 << 20
_STORE_BLOCK = 1 << 23  # one request each
_END_BYTES = 1 << 16


class _Source(Protocol):
    """What a shard is read from."""

    def read(self, count: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def seekable(self) -> bool: ...
    def close(self) -> None: ...


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
        self._file: _Source | None = None

    def __enter__(self) -> "ShardStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer only where the shard ends.

        Raises:
          TrainingError: it failed TRIES times on end, or is not there.
        """
        for tried in range(1, TRIES + 1):
            try:
                data = self._read(count)
            except (SettingsError, TrainingError):
                raise
            except Exception as error:  # drivers raise many kinds
                self._close()
                if tried == TRIES or _is_final(error):
                    raise TrainingError(
                        f"{self.shard} cannot be read at byte {self.at} ({_reason(error)}), tried "
                        f"{tried} times: put it right; the same command goes on"
                    ) from error
                logging.getLogger(__name__).warning(
                    "%s failed at byte %d (%s): trying again", self.shard, self.at, _reason(error)
                )
                time.sleep(2 ** (tried - 1))
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
            self._file, size = _open(self.shard, self.at)
            if self.size not in (None, size):
                raise TrainingError(
                    f"{self.shard} had {self.size} bytes and now has {size}: it was changed while "
                    "it was read; put the old one back, or train in a new --run"
                )
            self.size, self.seeks = size, _has_ranges(self._file)
        data = self._file.read(count)
        if len(data) < count and self.size is not None and self.at + len(data) < self.size:
            raise OSError(f"ended after {self.at + len(data)} of {self.size} bytes")
        return data

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


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


@functools.lru_cache
def open_store(scheme: str, bucket: str) -> fsspec.AbstractFileSystem:
    """S3 and Google's by pyarrow, which curation needs anyway: s3fs pins an older botocore."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    if scheme == "gs":
        # Of Arrow's own 15 minutes.
        limit: dict[str, Any] = {"retry_time_limit": timedelta(seconds=TIMEOUT_S)}
        if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):  # Google's own variable
            scheme, _, host = emulator.rpartition("://")
            limit |= {"anonymous": True, "scheme": scheme or "http", "endpoint_override": host}
        return ArrowFSWrapper(fs.GcsFileSystem(**limit))
    # Boto3's variables, which Arrow does not look at.
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if server:
        return ArrowFSWrapper(fs.S3FileSystem(endpoint_override=server))
    return ArrowFSWrapper(fs.FileSystem.from_uri(f"s3://{bucket}")[0])  # finds the bucket's region


def file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL, and the path in it.

    Raises:
      SettingsError: nothing is installed that reads such URLs.
    """
    scheme, _, path = url.partition("://")
    try:
        if scheme in ("s3", "gs"):
            return open_store(scheme, path.partition("/")[0]), path
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise SettingsError(
            f"{url} cannot be read: fsspec's driver for {scheme}:// says {str(error)!r:.200}"
        ) from error


def _open(shard: str, at: int) -> tuple[_Source, int | None]:
    """The shard's bytes from `at` on, and its size where that is known."""
    if shard.startswith(PIPE):
        return _read_over(_Command(shard.removeprefix(PIPE)), at), None
    if shard.startswith(("http://", "https://")):
        return _open_http(shard, at)
    if "://" not in shard:
        file = open(shard, "rb", buffering=_BLOCK)  # noqa: SIM115 (ShardStream closes it)
        file.seek(at)
        return file, os.fstat(file.fileno()).st_size
    files, path = file_system(shard)
    size = files.info(path)["size"]  # before it is opened, or a missing one may fail only later
    file = io.BufferedReader(files.open(path, "rb"), _STORE_BLOCK)
    file.seek(at)
    return file, size


def _open_http(url: str, at: int) -> tuple[_Source, int | None]:
    """One request, and one more for the rest after a failure.

    By the standard library: fsspec needs aiohttp for it and asks once for every block.
    """
    headers = {"User-Agent": "alignset"} | ({"Range": f"bytes={at}-"} if at else {})
    request = urllib.request.Request(url, headers=headers)
    response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    length = response.headers.get("Content-Length")
    size = None if length is None else int(length)
    if response.status == 206:
        return io.BufferedReader(response, _BLOCK), size and at + size
    return _read_over(io.BufferedReader(response, _BLOCK), at), size


def _has_ranges(file: _Source) -> bool:
    if isinstance(file, _Command):
        return False
    response = getattr(file, "raw", None)
    headers = getattr(response, "headers", None)
    return headers is None or headers.get("Accept-Ranges", "none") != "none"


def _read_over(file: _Source, count: int) -> _Source:
    while count > 0:
        got = len(file.read(min(_BLOCK, count)))
        if not got:
            raise OSError(f"ended {count} bytes before the place that was reached before")
        count -= got
    return file


class _Command(io.RawIOBase):
    """What a shell command prints; its failure is an error at its end."""

    def __init__(self, command: str):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
        self._process = subprocess.Popen(
            command, shell=True, stdout=subprocess.PIPE, stderr=self._errors, bufsize=_BLOCK
        )
        assert self._process.stdout is not None  # a pipe, as was asked for
        self._output: IO[bytes] = self._process.stdout

    def read(self, count: int = -1) -> bytes:
        data = self._output.read(count)
        if len(data) < count and (code := self._process.wait()):
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            raise OSError(f"exit status {code}" + (f", {lines[-1]:.100}" if lines else ""))
        return data

    def close(self) -> None:
        self._output.close()  # it may end by SIGPIPE
        self._process.terminate()
        self._process.wait()
        self._errors.close()
        super().close()


def _is_final(error: Exception) -> bool:
    """Whether trying again is of no use."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in (408, 425, 429)
    return isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200].replace("\n", " ")
