"""Files in this process's memory under `mem://`, as Beam sees an object store."""

import io
from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from alignset.transforms.storage.files import open_to_read

FILES: dict[str, bytes] = {}


class _Written(io.BytesIO):
    """Appears when it is closed, as an object does."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def close(self) -> None:
        if not self.closed:
            FILES[self.path] = self.getvalue()
        super().close()


class MemoryFiles(FileSystem):
    """Found by Beam as the subclass for its scheme."""

    @classmethod
    def scheme(cls) -> str:
        return "mem"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        return folder, name

    def mkdirs(self, path: str) -> None:
        pass

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path, body in sorted(FILES.items()):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(body))

    def create(self, path: str, *_: object, **__: object) -> io.BytesIO:
        return _Written(path)

    def open(self, path: str, *_: object, **__: object) -> io.BytesIO:
        if path not in FILES:
            raise BeamIOError(f"no such object: {path}")
        return io.BytesIO(FILES[path])

    def copy(self, sources: list[str], destinations: list[str]) -> None:
        for source, destination in zip(sources, destinations, strict=True):
            FILES[destination] = FILES[source]

    def rename(self, sources: list[str], destinations: list[str]) -> None:
        self.copy(sources, destinations)
        self.delete(sources)

    def exists(self, path: str) -> bool:
        return path in FILES

    def size(self, path: str) -> int:
        return len(FILES[path])

    def last_updated(self, path: str) -> float:
        return 0.0

    def checksum(self, path: str) -> str:
        return str(hash(FILES[path]))

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, len(FILES[path]))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            for name in [p for p in FILES if p == path or (path[-1] == "/" and p.startswith(path))]:
                del FILES[name]


def read(path: str) -> bytes:
    """What a file or an object holds."""
    with open_to_read(path) as source:
        return source.read()


def names_in(folder: str) -> list[str]:
    """The paths of what is in a folder."""
    return sorted(FILES if folder.startswith("mem:") else map(str, Path(folder).iterdir()))
