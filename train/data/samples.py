"""Samples out of WebDataset shards, in their order, from any of them on."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from train.data.shard_streams import ShardStream
from train.data.tar_members import exactly, tar_members

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_WANTED = (*IMAGE_EXTENSIONS, "txt")
LONGEST_IMAGE = 1 << 25  # bytes; a larger one is not read
LONGEST_TEXT = 1 << 14  # bytes of a text that are read: its first 64 tokens are learned from
_LONGEST_NAME = 1 << 12  # bytes: as long as a path can be
_MOST_PARTS = 1 << 20  # keys that are remembered, 70 bytes each


class Sample(NamedTuple):
    key: str
    image: bytes | None  # None: it has none
    text: str | None
    scattered: bool = False  # its key was there before, and neither part is whole
    too_large: bool = False  # its image has more than LONGEST_IMAGE bytes


def read_samples(shards: Iterable[str]) -> Iterator[tuple[str, bytes, str]]:
    """(key, image bytes, text) of each sample that has both, in the order of the shards.

    Raises:
      TrainingError: a shard cannot be read, is no tar file, or ends too early.
    """
    for shard in shards:
        for sample in shard_samples(shard):
            if sample.image is not None and sample.text is not None:
                yield sample.key, sample.image, sample.text


def read_texts(shards: Iterable[str]) -> Iterator[str]:
    return (text for _, _, text in read_samples(shards))


def caption_lines(text: str) -> list[str]:
    """The captions of an image whose text has one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def shard_samples(shard: str, first: int = 0) -> Iterator[Sample]:
    """All samples of one shard but the `first` ones, of which only the headers are read.

    Members that follow each other and are named alike up to the first dot of the last part of the
    path are one sample, as WebDataset has it.
    """
    with ShardStream(shard) as stream:
        number, key, of = -1, "", 0
        fields: dict[str, bytes | None] = {}
        parts: set[int] = set()  # keys of those that lack a file
        for name, size, tar in tar_members(stream):
            folder, slash, base = name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not dot or not stem or len(name) > _LONGEST_NAME:  # such as .DS_Store
                continue
            if (folder + slash + stem, tar) != (key, of):
                if number >= 0:
                    sample = _sample(key, fields, parts)
                    if number >= first:
                        yield sample
                number, key, fields, of = number + 1, folder + slash + stem, {}, tar
            extension = extension.lower()
            if extension in _WANTED and extension not in fields:
                fields[extension] = _field(stream, extension, size) if number >= first else b""
        if number >= first:
            yield _sample(key, fields, parts)


def _field(stream: ShardStream, extension: str, size: int) -> bytes | None:
    """What is used of a file; None of an image that is too large."""
    if extension == "txt":
        return exactly(stream, min(size, LONGEST_TEXT))
    return exactly(stream, size) if size <= LONGEST_IMAGE else None


def _sample(key: str, fields: dict[str, bytes | None], parts: set[int]) -> Sample:
    images = [fields[extension] for extension in IMAGE_EXTENSIONS if extension in fields]
    text = (fields.get("txt") or b"").decode("utf-8", "replace").strip()
    whole = bool(images) and "txt" in fields
    scattered = not whole and hash(key) in parts
    if not whole and len(parts) < _MOST_PARTS:
        parts.add(hash(key))
    return Sample(key, images[0] if images else None, text or None, scattered, images[:1] == [None])
