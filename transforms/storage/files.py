"""Files that appear whole or not at all, on this machine and in stores."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import logging
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from alignset.transforms.storage.stores import (
    copy_remote,
    find_remote,
    list_remote,
    open_remote,
    put_file,
    put_if,
    remove_remote,
    scheme,
)

LOG = logging.getLogger("alignset")
PIECE = 1 << 20


class PieceFile(io.FileIO):
    """A file that is written a MiB at a time.

    Linux keeps what is written in pieces of 2 MiB and more in huge pages of its cache; to find
    these took up to ten times as long as the writing (Linux 6.18).
    """

    def write(self, data: Any) -> int:
        """Writes all of it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            rest = rest[super().write(rest[:PIECE]) or 0 :]
        return size


def is_local(path: str) -> bool:
    """Whether a path is on this machine's own file system."""
    return "://" not in path


def shown_path(path: str) -> str:
    """A path or a member's name for documents, which are UTF-8; the bytes of a name need not be."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def open_to_read(path: str) -> BinaryIO:
    """Opens a file as it is: its bytes are never decompressed on the way."""
    return Path(path).open("rb") if is_local(path) else open_remote(path)


def _flush_to_disk(file: BinaryIO) -> None:
    """Waits for the disk, or after a power cut a name could stand over an empty file."""
    file.flush()
    os.fsync(file.fileno())


def _aside(path: str) -> Path:
    return Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex}")


def write_atomically(path: str, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Writes a file aside and renames it, or uploads it, so that a killed run leaves no half.

    Args:
      content: the bytes, or what writes them.
    """

    def write(sink: BinaryIO) -> None:
        sink.write(content) if isinstance(content, bytes) else content(sink)

    if not is_local(path):
        with tempfile.TemporaryFile() as whole:
            write(whole)
            put_file(whole, path)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with io.BufferedWriter(PieceFile(aside, "wb")) as sink:
            write(sink)
            _flush_to_disk(sink)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def create(path: str, body: bytes) -> bool:
    """Writes a small file, no other writer's, where there is none, and returns whether it did.

    Makes no folder.
    """
    if not is_local(path):
        return put_if(path, body, None) is not None
    aside = _aside(path)
    try:
        with aside.open("wb") as sink:
            sink.write(body)
            _flush_to_disk(sink)
        try:
            os.link(aside, path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            with open(path, "xb") as sink:  # some mounts have no links: not whole for a moment
                sink.write(body)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def remove_leftovers(folder: str) -> None:
    """Removes what killed runs were writing aside in a local folder and those in it."""
    for aside in Path(folder).rglob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}", aside.name) and aside.is_file():
            aside.unlink()


def publish(local: Path, path: str) -> None:
    """Moves a finished file of this machine to its place, whole or not at all."""
    with local.open("rb") as source:  # where there is none, no folder is made for it
        if not is_local(path):
            put_file(source, path)
            return
        _flush_to_disk(source)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(local, path)  # both are in the output folder


def move(source: str, path: str) -> None:
    """Puts a file in another place of its file system.

    Raises:
      FileNotFoundError: there is no such file.
    """
    if not is_local(source):
        copy_remote(source, path)
        remove_remote([source])
        return
    os.stat(source)  # where there is none, no folder is made for it
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, path)


def copy_file(source: str, path: str) -> None:
    """Copies a file, whole or not at all."""
    if scheme(source) == scheme(path) != "":
        copy_remote(source, path)
        return
    with open_to_read(source) as file:
        write_atomically(path, lambda sink: shutil.copyfileobj(file, sink, PIECE))


def carry_file(source: str, path: str) -> None:
    """Has a finished file at another place too, whole or not at all; once done, does nothing again.

    Local files share their bytes where the file system can: they are replaced, and never changed.
    """
    if exists(path):
        return
    if is_local(source) and is_local(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(source, path)
            return
    copy_file(source, path)


def remove(path: str) -> None:
    """Removes a file, if it is there."""
    if is_local(path):
        Path(path).unlink(missing_ok=True)
    else:
        remove_remote([path])


def exists(path: str) -> bool:
    """Whether there is a file at this path."""
    return Path(path).exists() if is_local(path) else bool(find_remote(path))


@lru_cache
def process_folder(pid: int) -> tempfile.TemporaryDirectory[str]:
    """A folder that ends with the process: another with its number must not find old files."""
    return tempfile.TemporaryDirectory(prefix=f"alignset-{pid}-")


def local_copy(path: str) -> str:
    """The path of a file on this machine: itself, or a copy made once by this process."""
    if is_local(path):
        return path
    copy = Path(process_folder(os.getpid()).name) / hashlib.sha256(path.encode()).hexdigest()
    if not copy.exists():
        copy_file(path, str(copy))
    return str(copy)


@lru_cache
def tell_links(place: str, count: int) -> None:
    """Logs once how many symbolic links of a folder or a pattern are not followed."""
    links = "a symbolic link" if count == 1 else f"{count:,} symbolic links"
    why = "a link may point to any file of this machine; put the files themselves there"
    LOG.warning("%r has %s, left out: %s", place, links, why)


def _walk(root: str, *, hidden: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Each folder from a root on, with its files; no symbolic links, nor hidden files unless they
    are wanted."""
    folders, link_count = [root], 0
    while folders:
        folder, files = folders.pop(), []
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not hidden:
                    continue
                if entry.is_symlink():
                    link_count += 1
                elif entry.is_dir():
                    folders.append(entry.path)
                else:
                    files.append(entry.path)
        yield folder, files
    if link_count:
        tell_links(root, link_count)


def _glob(pattern: str) -> set[str]:
    """Like `glob.glob`, which at a `**` would follow links, and in circles."""
    start, stars, end = f"/{pattern}/".partition("/**/")
    if not stars:
        return set(glob.glob(pattern))
    names = set[str]()
    for root in glob.glob(start[1:] or ("/" if pattern.startswith("/") else ".")):
        for folder, files in _walk(root):
            found = _glob(f"{glob.escape(folder)}/{end.rstrip('/')}") if end else files
            names.update(name for name in found if not os.path.islink(name))
    return names if start else {name.removeprefix("./") for name in names}


def match(pattern: str, *, links: bool = False, hidden: bool = False) -> list[tuple[str, int]]:
    """The files under a folder, or that a glob or a path names: (path, bytes), sorted.

    A folder may be anybody's, and a symbolic link in it may point to any file of this machine.
    Such a link is left out, with one line in the log.

    Args:
      links: whether a user wrote the pattern, so that links that it names are followed; not those
        in a folder, or behind a `**`.
      hidden: whether files under a folder whose names begin with `.` or `_` count too.
    """
    files = list[tuple[str, int]]()
    if is_local(pattern):
        folder = Path(pattern).is_dir()
        root = pattern.rstrip("/") or "/"
        if folder and (links or not os.path.islink(root)):
            names = [name for _, files in _walk(root, hidden=hidden) for name in files]
        else:
            names = [*_glob(pattern)]
        if not links and (linked := {name for name in names if os.path.islink(name.rstrip("/"))}):
            tell_links(pattern, len(linked))
            names = [name for name in names if name not in linked]
        for name in names:
            with suppress(OSError):  # it may be gone again: a run may resume here
                status = os.stat(name)
                files += [(name, status.st_size)] if stat.S_ISREG(status.st_mode) else []
    else:
        objects = [] if pattern.endswith("/") else list_remote(pattern)
        folder = not objects and "*" not in pattern
        if folder:
            objects = list_remote(f"{pattern.rstrip('/')}/**")
        files = [(file.path, file.size) for file in objects]
    if folder and not hidden:
        files = [item for item in files if not Path(item[0]).name.startswith((".", "_"))]
    return sorted(files)
