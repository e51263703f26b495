"""Files in this process's memory under `mem://`, as an object store has them."""

import io
from pathlib import Path
from typing import BinaryIO

from alignset.transforms.storage.files import open_to_read
from alignset.transforms.storage.stores import STORES, Answer, Remote, RemoteError

FILES: dict[str, bytes] = {}


class MemoryStore:
    """A store whose objects have no versions but their bytes."""

    def open_at(self, path: str, start: int = 0) -> Answer:
        body = self._body(path)
        stream = io.BytesIO(body[start:])
        return Answer(stream.read, stream.close, len(body), body.hex())

    def list_all(self, prefix: str) -> list[Remote]:
        return [
            Remote(path, len(body))
            for path, body in sorted(FILES.items())
            if path.startswith(prefix)
        ]

    def put(self, path: str, file: BinaryIO) -> None:
        file.seek(0)
        FILES[path] = file.read()

    def copy(self, source: str, path: str) -> None:
        FILES[path] = self._body(source)

    def remove(self, paths: list[str]) -> None:
        for path in paths:
            FILES.pop(path, None)

    def put_if(self, path: str, body: bytes, version: str | None) -> str:
        there = FILES[path].hex() if path in FILES else None
        if there != version:
            raise RemoteError("it is another", 412)
        FILES[path] = body
        return body.hex()

    @staticmethod
    def _body(path: str) -> bytes:
        if path not in FILES:
            raise FileNotFoundError(path)
        return FILES[path]


STORES["mem"] = MemoryStore()


def read(path: str) -> bytes:
    """What a file or an object holds."""
    with open_to_read(path) as source:
        return source.read()


def names_in(folder: str) -> list[str]:
    """The paths of what is in a folder."""
    return sorted(FILES if folder.startswith("mem:") else map(str, Path(folder).iterdir()))
