"""Files of the web that can be read and not written (`https://`, `http://`, `hf://`), by fsspec."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from typing import Any, BinaryIO, cast

SCHEMES = ("https", "http", "hf")
_IN_MEMORY = 1 << 26  # bytes of a file that its host sends only whole


def open_web_file(path: str) -> BinaryIO:
    """Opens a file for reading at any place; one that its host sends only whole is copied first.

    Raises:
      FileNotFoundError: there is none.
    """
    system = _file_system(path)
    file = system.open(path, "rb")
    if file.seekable() and _has_ranges(file):
        return cast("BinaryIO", file)
    with system.open(path, "rb", block_size=0) as file:
        copy = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
        shutil.copyfileobj(file, copy, 1 << 20)
    copy.seek(0)
    return cast("BinaryIO", copy)


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
        return [(pattern, _size(system, pattern))] if system.isfile(pattern) else []
    files: dict[str, dict[str, Any]] = {}
    with suppress(FileNotFoundError):
        files = system.glob(pattern, detail=True)
    return [(f"hf://{name}", details["size"]) for name, details in files.items() if details["size"]]


def web_file_exists(path: str) -> bool:
    """Whether there is a file at this URL."""
    return bool(_file_system(path).isfile(path))


def _size(system: Any, path: str) -> int:
    size: int | None = system.info(path)["size"]
    if size is not None:
        return size
    with open_web_file(path) as file:  # its host does not say
        return file.seek(0, 2)


def _file_system(path: str) -> Any:
    import fsspec

    return fsspec.core.url_to_fs(path)[0]
