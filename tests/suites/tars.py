"""Tars: the archives of CPython's and Go's own tests, from a file and as a stream. Python's tarfile
says which regular files are in them."""

from __future__ import annotations

import hashlib
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from alignset.train.data.samples import shard_files
from alignset.train.data.shard_streams import ShardStream
from alignset.train.errors import TrainingError
from alignset.transforms.storage.broken_files import FileFault
from alignset.transforms.storage.tar_members import tar_members
from tests.suites.case import Case
from tests.suites.packages import unpacked

_LONGEST_S = 60


def archives() -> Iterator[Path]:
    """Yields the tars."""
    go = (
        unpacked("golang-1.19-src")
        / "usr"
        / "share"
        / "go-1.19"
        / "src"
        / "archive"
        / "tar"
        / "testdata"
    )
    python = unpacked("backports.tarfile") / "tests" / "archivetestdata"
    yield from sorted([*go.glob("*.tar"), *python.glob("*.tar")])


def cases() -> Iterator[Case]:
    """Yields a case for each tar and reader: names and bytes of the regular files."""
    for path in archives():
        theirs = _files(path, _of_tarfile)
        for name, read in (("curation", _of_curation), ("training", _of_training)):
            yield Case(f"{name} {path.name}", theirs, _files(path, read))


Read = Callable[[Path], Iterator[tuple[str, bytes]]]


def _files(path: Path, read: Read) -> tuple[str, ...]:
    """Each file's name and digest, up to the first fault, or to a reader that does not end."""
    found = []
    signal.signal(signal.SIGALRM, _give_up)  # tarfile of some versions reads one for ever
    signal.alarm(_LONGEST_S)
    try:
        for name, body in read(path):
            # The readers have bytes that are not UTF-8 in two ways.
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            found.append(f"{shown} {len(body)} {hashlib.sha256(body).hexdigest()[:8]}")
    except (tarfile.TarError, FileFault, TrainingError, EOFError):
        return (*found, "broken")
    except TimeoutError:
        return (*found, "endless")
    finally:
        signal.alarm(0)
    return tuple(found)


def _give_up(*_: object) -> None:
    raise TimeoutError


def _of_tarfile(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, errors="surrogateescape") as source:
        for member in source:
            if member.isreg() and not member.issparse():
                yield member.name, source.extractfile(member).read()


def _of_curation(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as source:
        for member in tar_members(source):
            if member.plain:
                source.seek(member.at)
                yield member.name, source.read(member.size)


def _of_training(path: Path) -> Iterator[tuple[str, bytes]]:
    with ShardStream(str(path)) as stream:
        for member in shard_files(stream):
            yield member.name, stream.read(member.size)
