"""Files of the web that can be read and not written (`https://`, `http://`, `hf://`), by fsspec."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, cast

SCHEMES = ("https", "http", "hf")
SILENCE_S = 20.0  # that a host may take to connect, to answer, or between two parts of a file
_LONGEST_COPY = 1 << 35  # bytes, and half of the free disk, of a file that is sent only whole
_IN_MEMORY = 1 << 26  # bytes of a file that its host sends only whole
SLOW_S, _SLOW = 60.0, 1 << 10  # after so long a host sends so many bytes a second
_MISSING = (404, 410)


def open_web_file(path: str) -> BinaryIO:
    """Opens a file for reading at any place; one that its host sends only whole is copied first.

    Raises:
      FileNotFoundError: there is none.
    """
    system = _file_system(path)
    try:
        file = system.open(path, "rb")
    except FileNotFoundError as error:
        raise _failure(path, error) from error
    if file.seekable() and _has_ranges(file):
        return cast("BinaryIO", file)
    with system.open(path, "rb", block_size=0) as file:
        return _copy(file, path)


def _copy(file: Any, path: str) -> BinaryIO:
    """A copy on this machine of a file that may not end, or trickle."""
    most = min(_LONGEST_COPY, shutil.disk_usage(tempfile.gettempdir()).free // 2)
    start_s, size = time.monotonic(), 0
    copy = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
    try:
        while piece := file.read(1 << 20):
            size += len(piece)
            if size > most or _is_slow(start_s, size):
                what = f"has more than {most:,} bytes" if size > most else "comes too slowly"
                raise OSError(
                    f"{path} {what}, and its host sends it only whole: download it, and pass the "
                    "file"
                )
            copy.write(piece)
        copy.seek(0)
    except BaseException as error:
        copy.close()
        if isinstance(error, OSError) or not isinstance(error, Exception):
            raise
        raise OSError(f"{path} cannot be read: {error}") from error
    return cast("BinaryIO", copy)


def _is_slow(start_s: float, size: int) -> bool:
    took_s = time.monotonic() - start_s
    return took_s > SLOW_S and size < took_s * _SLOW


def _failure(path: str, error: FileNotFoundError) -> OSError:
    """The error of a file that its host did not send; fsspec says of each that it is not there."""
    cause: Any = error.__cause__
    status = getattr(cause, "status", None)
    if cause is None or status in _MISSING:
        return error
    if type(cause).__name__ == "TooManyRedirects":
        why = "its host redirects in circles"
    elif status:
        why = f"its host answers {status} {cause.message}".rstrip()
    elif isinstance(cause, TimeoutError):
        why = f"its host does not answer within {SILENCE_S:g} s"
    else:
        why = f"{type(cause).__name__} {cause}".rstrip()
    return OSError(f"{path} cannot be read: {why}")


def _has_ranges(file: Any) -> bool:
    """Whether the host sends a part of the file; fsspec finds out where it reads one."""
    with suppress(ValueError):
        file.seek(1)
        file.read(1)
        file.seek(0)
        return True
    return False


def match_web_files(pattern: str) -> list[tuple[str, int]]:
    """The files that a path or a glob names: (path, bytes). A URL of http has no globs.

    Raises:
      OSError: the host refuses, or does not answer.
    """
    system = _file_system(pattern)
    if not pattern.startswith("hf://"):
        try:
            return [(pattern, _size(system, pattern))]
        except FileNotFoundError as error:
            failure = _failure(pattern, error)
            if failure is error:
                return []
            raise failure from error
    files: dict[str, dict[str, Any]] = {}
    with suppress(FileNotFoundError):
        files = system.glob(pattern, detail=True)
    return [(f"hf://{name}", details["size"]) for name, details in files.items() if details["size"]]


def web_file_exists(path: str) -> bool:
    """Whether there is a file at this URL.

    Raises:
      OSError: its host does not answer.
    """
    system = _file_system(path)
    if path.startswith("hf://"):
        return bool(system.isfile(path))
    try:
        system.info(path)
    except FileNotFoundError as error:
        if error.__cause__ is None or hasattr(error.__cause__, "status"):
            return False
        raise _failure(path, error) from error
    return True


def _size(system: Any, path: str) -> int:
    size: int | None = system.info(path)["size"]
    if size is not None:
        return size
    with open_web_file(path) as file:  # its host does not say
        return file.seek(0, 2)


def _file_system(path: str) -> Any:
    import fsspec

    if path.startswith("hf://"):
        return fsspec.core.url_to_fs(path)[0]
    import aiohttp

    # aiohttp's own limit is for a whole file: five minutes.
    limits = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    client = {"timeout": limits, "response_class": _timed_response()}
    return fsspec.core.url_to_fs(path, client_kwargs=client)[0]


@cache
def _timed_response() -> type[Any]:
    """The response of which fsspec reads a part of a file: one that may not trickle."""
    import aiohttp

    class TimedResponse(aiohttp.ClientResponse):
        async def read(self) -> bytes:
            start_s, body = time.monotonic(), bytearray()
            while piece := await self.content.readany():
                body += piece
                if _is_slow(start_s, len(body)):
                    self.close()
                    raise OSError(f"{self.url} comes too slowly: download it, and pass the file")
            return bytes(body)

    return TimedResponse
