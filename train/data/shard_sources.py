"""Where shards lie: files, object stores, web servers, commands, each opened at a byte."""

import functools
import io
import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from datetime import timedelta
from typing import IO, Any, Protocol

import fsspec

from alignset.train.errors import SettingsError

PIPE = "pipe:"
TIMEOUT_S = 60
_BLOCK = 1 << 20
_STORE_BLOCK = 1 << 23  # one request each


class Source(Protocol):
    """The source of a shard."""

    def read(self, count: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def seekable(self) -> bool: ...
    def close(self) -> None: ...


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


def open_source(shard: str, at: int) -> tuple[Source, int | None]:
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


def _open_http(url: str, at: int) -> tuple[Source, int | None]:
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


def has_ranges(file: Source) -> bool:
    if isinstance(file, _Command):
        return False
    response = getattr(file, "raw", None)
    headers = getattr(response, "headers", None)
    return headers is None or headers.get("Accept-Ranges", "none") != "none"


def _read_over(file: Source, count: int) -> Source:
    while count > 0:
        got = len(file.read(min(_BLOCK, count)))
        if not got:
            raise OSError(f"ended {count} bytes before the place that was reached before")
        count -= got
    return file


class _Command(io.RawIOBase):
    """The output of a shell command; its failure is an error at its end."""

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


def is_final(error: Exception) -> bool:
    """Whether trying again is of no use."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in (408, 425, 429)
    return isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)


def reason_of(error: Exception) -> str:
    """A driver's message, on a line."""
    return f"{type(error).__name__}: {error}"[:200].replace("\n", " ")
