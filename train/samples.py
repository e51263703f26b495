"""Samples out of WebDataset shards, in their order, from any of them on."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from train.errors import TrainingError
from train.shard_streams import ShardStream

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_WANTED = (*IMAGE_EXTENSIONS, "txt")
_BLOCK = 512
_GZIP = b"\x1f\x8b"


class Sample(NamedTuple):
    key: str
    image: bytes | None  # None: it has none
    text: str | None
    scattered: bool = False  # its key was there before, and neither part is whole


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
        number, key, fields, of = -1, None, {}, 0
        parts: set[str] = set()  # keys of those that lack a file
        for name, size, tar in _members(stream):
            folder, slash, base = name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not dot or not stem:  # such as .DS_Store
                continue
            if (folder + slash + stem, tar) != (key, of):
                if number >= 0:
                    sample = _sample(key, fields, parts)
                    if number >= first:
                        yield sample
                number, key, fields, of = number + 1, folder + slash + stem, {}, tar
            extension = extension.lower()
            if extension in _WANTED and extension not in fields:
                fields[extension] = _exactly(stream, size) if number >= first else b""
        if number >= first:
            yield _sample(key, fields, parts)


def _sample(key: str, fields: dict[str, bytes], parts: set[str]) -> Sample:
    image = next((fields[e] for e in IMAGE_EXTENSIONS if e in fields), None)
    text = fields.get("txt", b"").decode("utf-8", "replace").strip()
    whole = image is not None and "txt" in fields
    scattered = not whole and key in parts
    if not whole:
        parts.add(key)
    return Sample(key, image, text or None, scattered)


def _members(stream: ShardStream) -> Iterator[tuple[str, int, int]]:
    """(name, size, which tar) of each file, the stream standing at its bytes; what is not read of
    them is skipped. Behind a tar's end another may follow, as `cat` puts them together.

    Ours, because tarfile takes 80 us for a sample of three members where this takes 24, and
    decoding its image 800.
    """
    long_name, ends = None, 0
    while header := stream.read(_BLOCK):
        if not header.strip(b"\0"):
            ends += 1
            continue
        size = _checked_size(header, stream)
        end = stream.at + size + -size % _BLOCK
        kind = header[156:157]
        if kind == b"L":  # GNU's: the next member's name
            long_name = _string(_exactly(stream, size))
        elif kind == b"x":  # POSIX's
            long_name = _pax_path(_exactly(stream, size)) or long_name
        elif kind in (b"0", b"\0"):
            name, prefix = _string(header[:100]), _string(header[345:500])
            if prefix and header[257:263] == b"ustar\0":
                name = f"{prefix}/{name}"
            yield long_name or name, size, ends
            long_name = None
        if stream.size is not None and end > stream.size:
            raise _damaged(stream, "it ends too early")
        stream.skip(end - stream.at)


def _checked_size(header: bytes, stream: ShardStream) -> int:
    try:
        # Its own checksum counts as eight spaces.
        wrong = sum(header) - sum(header[148:156]) + 8 * 32 != int(header[148:156].strip(b" \0"), 8)
        size = int(header[124:136].strip(b" \0") or b"0", 8)
    except ValueError:
        wrong, size = True, 0
    if wrong or len(header) < _BLOCK:
        at = stream.at - len(header)
        if at == 0 and header.startswith(_GZIP):
            raise TrainingError(
                f"{stream.shard} is compressed: have it unpacked while it is read, by "
                "--shards='pipe:gzip -dc FILE' (a command's output: 'pipe:COMMAND | gzip -dc')"
            )
        raise _damaged(stream, f"no tar header at byte {at}")
    return size


def _exactly(stream: ShardStream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise _damaged(stream, "it ends too early")
    return data


def _damaged(stream: ShardStream, why: str) -> TrainingError:
    return TrainingError(f"{stream.shard} is damaged ({why}): replace it")


def _string(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _pax_path(records: bytes) -> str | None:
    """Of "LENGTH KEY=VALUE" lines, the value of path."""
    while records:
        length, _, _ = records.partition(b" ")
        key, _, value = records[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "replace")
        records = records[int(length) :]
    return None
