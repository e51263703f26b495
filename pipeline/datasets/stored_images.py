"""Images from a shard's tar, read only in part: its samples are in the order of their keys."""

from __future__ import annotations

import tarfile
from typing import BinaryIO

from PIL import Image as PillowImage

from alignset.transforms.images.examine import Unusable, examine
from alignset.transforms.images.thumbnail import small_picture
from alignset.transforms.storage.files import exists, is_local, open_to_read
from alignset.transforms.storage.tar_members import BLOCK

CHUNK = 1 << 16
MAX_BYTES = 1 << 26  # of an image's file
_MAGIC_AT = 257
_NO_IMAGES = ("json", "txt")


def stored_picture(path: str, key: str, box: tuple[int, int]) -> PillowImage.Image | str:
    """The image of a sample, as displayed and no larger than a box, or why there is none.

    Args:
      path: of the tar. box: px, width and height.
    """
    body = stored_image(path, key)
    return "not found in its shard" if body is None else shown_picture(body, box)


def shown_picture(body: bytes, box: tuple[int, int]) -> PillowImage.Image | str:
    """The image in a file, as displayed and no larger than a box, or why there is none."""
    try:
        image = examine(body)
        if isinstance(image, Unusable):
            return f"{image.reason}: {image.detail}"
        return small_picture(body, image, box)
    except Exception as error:  # Pillow raises some ten kinds
        return f"cannot be shown: {error}"


def stored_image(tar: str, key: str) -> bytes | None:
    """The file of the image of a sample; None where it is not there."""
    if is_local(tar) and not exists(tar):
        # Only now: datasets of ours need no kernels here.
        from alignset.transforms.shards.image_places import placed_images, read_places

        places = read_places(tar)
        images = placed_images(places, {int(key, 16)}) if places is not None else ()
        return next((body for _, body in images), None)
    with open_to_read(tar) as source:
        return read_image(source, source.seek(0, 2), key)


def read_image(source: BinaryIO, size: int, key: str) -> bytes | None:
    """The file of the image of a sample, found by bisection; None where it is not there.

    Args:
      source: a tar whose samples are in the order of their keys, the image first in each.
      size: its bytes.
    """
    source = getattr(source, "raw", source)  # a store's buffer would bring 16 MiB with each read
    low, high, first = 0, -(-size // BLOCK), None
    while low < high:
        middle = (low + high) // 2
        header = _next_header(source, middle, high)
        if header and header[1].name.partition(".")[0] < key:
            low = header[0] + 1
        else:
            high, first = middle, header or first
    if first is None:
        return None
    at, member = first
    stem, _, extension = member.name.partition(".")
    if stem != key or extension in _NO_IMAGES or not 0 <= member.size <= MAX_BYTES:
        return None
    return _read(source, (at + 1) * BLOCK, member.size)


def _next_header(source: BinaryIO, block: int, end: int) -> tuple[int, tarfile.TarInfo] | None:
    """The first header in blocks `block` to `end`, with the number of its block."""
    while block < end:
        chunk = _read(source, block * BLOCK, min(CHUNK, (end - block) * BLOCK))
        place = chunk.find(b"ustar", _MAGIC_AT)
        while place >= 0:
            at, rest = divmod(place - _MAGIC_AT, BLOCK)
            if not rest and (member := _header(chunk[at * BLOCK : (at + 1) * BLOCK])):
                return block + at, member
            place = chunk.find(b"ustar", place + 1)
        if len(chunk) < BLOCK:
            return None
        block += len(chunk) // BLOCK
    return None


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None


def _read(source: BinaryIO, at: int, size: int) -> bytes:
    """So many bytes, fewer at the end of the file: a file without a buffer may give parts."""
    source.seek(at)
    parts, rest = [], size
    while rest and (part := source.read(rest)):
        parts.append(part)
        rest -= len(part)
    return b"".join(parts)
