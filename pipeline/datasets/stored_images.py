"""Images from a shard's tar, read only in part: its samples are in the order of their keys."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

import pyarrow as pa

from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.parquet_files import read_columns
from alignset.transforms.storage.tar_members import BLOCK, BrokenTar, tar_members

CHUNK = 1 << 16
SHOWN_PX = 240  # of the longer side
MAX_BYTES = 1 << 26  # of an image's file
_MAGIC_AT = 257
_CODEC = "utf-8", "surrogateescape"
_NO_IMAGES = ("json", "txt")
_DIGESTS = pa.schema([("key", pa.string()), ("sha256", pa.string())])
_HEX = 64  # digits of a SHA-256

Header = tuple[int, str, int]  # its place, in bytes; the name of its member, and that one's bytes
Headers = dict[int, list[Header]]  # by the number of their chunk of a tar


def shown_picture(body: bytes | None, missing: str = "not found in its shard") -> bytes | str:
    """A small JPEG of an image file as displayed, or why there is none."""
    if not body:
        return missing
    try:
        return thumbnail(body, SHOWN_PX)
    except ValueError as error:
        return str(error)


def images_in(tar: str, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The files of the images of some samples, by their keys; what is not there is left out.

    An image of the web may hold headers of tars, which mislead the bisection. So the file that it
    finds is compared with the sidecar's SHA-256; if it is another one, the tar is read header by
    header. Re-encoded images have another SHA-256, and hold none of a stranger's bytes.
    """

    def is_own(key: str, body: bytes) -> bool:
        return hashlib.sha256(body).hexdigest() == digests.get(key)

    digests, unsure, headers = _digests(tar), dict[str, bytes](), Headers()
    with open_to_read(tar) as source, suppress(BrokenTar):
        size = source.seek(0, 2)
        for key in keys:
            body = read_image(source, size, key, headers) or b""
            if key in digests and not is_own(key, body):
                unsure[key] = body
            elif body:
                yield key, body
        is_first = True
        for member in tar_members(source) if unsure else ():
            key, _, extension = member.name.partition(".")
            if member.plain and extension not in _NO_IMAGES and member.size <= MAX_BYTES:
                body = _read(source, member.at, member.size) if is_first or key in unsure else b""
                if is_first and not is_own(key, body):  # all are re-encoded
                    yield from ((key, body) for key, body in unsure.items() if body)
                    break
                is_first = False
                if key in unsure:
                    yield key, body


def _digests(tar: str) -> dict[str, str]:
    """The SHA-256 of the images of a shard as they came, in hex, by their keys."""
    sidecar, digests = f"{tar.removesuffix('.tar')}.parquet", dict[str, str]()
    with suppress(BrokenInputError):
        for batch in read_columns(sidecar, _DIGESTS) if exists(sidecar) else ():
            rows = zip(batch["key"].to_pylist(), batch["sha256"].to_pylist(), strict=True)
            digests |= {key: digest for key, digest in rows if len(digest or "") == _HEX}
    return digests


def read_image(
    source: BinaryIO, size: int, key: str, headers: Headers | None = None
) -> bytes | None:
    """The file of the image of a sample, found by bisection; None where it is not there.

    Args:
      source: a tar whose samples are in the order of their keys, the image first in each.
      size: its bytes.
      headers: those that were read, which is added to: a store takes a request for each chunk.
    """
    headers = {} if headers is None else headers
    source = getattr(source, "raw", source)  # a store's buffer would bring 16 MiB with each read

    def headers_in(number: int) -> list[Header]:
        if number not in headers:
            headers[number] = [*_headers_in(source, number)]
        return headers[number]

    chunks = -(-size // CHUNK)
    start, low, high = 0, 0, chunks  # start: the last chunk that begins before the sample
    while low < high:
        middle = (low + high) // 2
        found = next((n for n in range(middle, high) if headers_in(n)), None)
        if found is not None and headers_in(found)[0][1].partition(".")[0] < key:
            start, low = found, found + 1
        else:
            high = middle
    for at, name, bytes_stored in (of for n in range(start, chunks) for of in headers_in(n)):
        stem, _, extension = name.partition(".")
        if stem >= key:
            is_image = stem == key and extension not in _NO_IMAGES
            is_sane = 0 <= bytes_stored <= MAX_BYTES
            return _read(source, at + BLOCK, bytes_stored) if is_image and is_sane else None
    return None


def _headers_in(source: BinaryIO, number: int) -> Iterator[Header]:
    chunk = _read(source, number * CHUNK, CHUNK)
    for at in range(0, len(chunk), BLOCK):
        if chunk.startswith(b"ustar", at + _MAGIC_AT):
            with suppress(tarfile.HeaderError, ValueError):
                member = tarfile.TarInfo.frombuf(chunk[at : at + BLOCK], *_CODEC)
                yield number * CHUNK + at, member.name, member.size


def _read(source: BinaryIO, at: int, size: int) -> bytes:
    """So many bytes, fewer at the end of the file: a file without a buffer may give parts."""
    source.seek(at)
    parts, rest = [], size
    while rest and (part := source.read(rest)):
        parts.append(part)
        rest -= len(part)
    return b"".join(parts)
