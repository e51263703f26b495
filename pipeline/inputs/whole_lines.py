"""The bytes of a text file up to where it is broken, compressed or not, in whole lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from alignset.pipeline.inputs.splits import Split
from alignset.transforms.pages.archives import CUT_OFF, GZIP, ZSTD, Broken, Stream, read_compressed
from alignset.transforms.storage.broken_files import (
    CUT_SHORT,
    DAMAGED,
    WRONG_FORMAT,
    FileFault,
    broken_file,
)
from alignset.transforms.storage.files import open_to_read

LONGEST_ROW = 1 << 25  # bytes of a row that is surely read
_READ = 1 << 20
_MAGIC = {"gzip": GZIP, "zstd": ZSTD}
_SKIPPABLE = ("zstd", b"\x2a\x4d\x18")  # what follows the first byte of a frame without data


class WholeLines(io.RawIOBase):
    """A text file, decompressed. Where it cannot be decompressed further it ends, before the line
    that is cut there, and `fault` says why.

    The rows depend on the file's bytes alone, and not on how much is asked for at once.
    """

    def __init__(self, split: Split) -> None:
        self.fault: Exception | None = None
        self._path, self._source = split.path, open_to_read(split.path)
        self._pieces = self._whole_lines(_pieces(self._source, split.compression))
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._source.close()
        super().close()

    def read(self, size: int = -1) -> bytes:
        parts: list[memoryview] = []
        missing = size if size >= 0 else 1 << 62
        while missing:
            if not self._rest:
                piece = next(self._pieces, b"")
                if not piece:
                    break
                self._rest = memoryview(piece)
            parts.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)

    def check(self) -> None:
        """Raises what ended the reading before the file's end."""
        if self.fault:
            raise self.fault

    def _whole_lines(self, pieces: Iterator[bytes | bytearray]) -> Iterator[bytes]:
        parts: list[bytes | bytearray] = []  # of a line whose end has not come
        size = 0
        try:
            for piece in pieces:
                end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
                if end or size > LONGEST_ROW:  # a longer one is not a row for any reader
                    yield b"".join([*parts, piece[: end or len(piece)]])
                    parts, size, piece = [], 0, piece[end or len(piece) :]
                if piece:
                    parts.append(piece)
                    size += len(piece)
        except (FileFault, OSError) as error:
            if broken_file(self._path, error) is None:
                raise
            self.fault = error
            return
        yield b"".join(parts)


def _pieces(source: BinaryIO, compression: str) -> Iterator[bytes | bytearray]:
    """The file, decompressed, piece by piece; none is empty.

    Raises:
      FileFault: it cannot be decompressed further.
    """
    raw = iter(partial(source.read, _READ), b"")
    if not compression:
        yield from raw
        return
    stream = Stream(raw)
    stream.has(4)
    head = bytes(stream.data[: len(_MAGIC[compression])])
    if not _MAGIC[compression].startswith(head) and (compression, head[1:]) != _SKIPPABLE:
        raise FileFault(WRONG_FORMAT, f"no {compression} begins in it")
    text_bytes = 0
    for event in read_compressed(stream, _MAGIC[compression]):
        if isinstance(event, Broken):
            if event.detail == CUT_OFF:
                fault = f"it is cut off: its {compression} ends after {text_bytes:,} bytes of text"
                raise FileFault(CUT_SHORT, fault)
            fault = f"its {compression} is damaged after {text_bytes:,} bytes of text"
            raise FileFault(DAMAGED, fault)
        if event:
            text_bytes += len(event)
            yield event
    if not head:
        raise FileFault(CUT_SHORT, "it is cut off: it has no bytes")
