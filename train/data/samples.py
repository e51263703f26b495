"""Samples out of WebDataset shards: the files of a tar, header by header, and grouped by key."""

import json
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from train.data.shard_streams import ShardStream
from train.errors import TrainingError

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LONGEST_IMAGE = 1 << 25  # bytes; a larger one is not read
LONGEST_TEXT = 1 << 14  # bytes of a text that are read: its first 64 tokens are learned from
LONGEST_JSON = 1 << 20  # bytes; of a longer one nothing is read
_LONGEST_NAME = 1 << 12  # bytes: as long as a path can be
_MOST_PARTS = 1 << 20  # keys that are remembered, 70 bytes each
# Of a tar.
_BLOCK = 512
_GZIP = b"\x1f\x8b"
_LONGEST_EXTRA = 1 << 20  # bytes of what headers say of the member behind them
_LARGEST = 1 << 60  # bytes of a member; no file has a place beyond
_EXTRAS = (b"L", b"K", b"x", b"X", b"g")
_FILES = (b"0", b"\0", b"7")
_BARE = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders: nothing follows
_SIGNED = struct.Struct("148b8x356b")
_NUMBER = re.compile(rb" *([0-7]*)(?:[\0 ].*)?", re.DOTALL)


class Sample(NamedTuple):
    key: str
    image: bytes | None  # None: it has none
    text: str | None
    scattered: bool = False  # its key was there before, and neither part is whole
    too_large: bool = False  # its image has more than LONGEST_IMAGE bytes


@dataclass
class Scan:
    """What is noted of each sample while a shard is read without its images."""

    starts: list[int] = field(default_factory=list)  # the byte where its headers begin
    image_bytes: list[int] = field(default_factory=list)  # 0: it has no image


def read_samples(
    shards: Iterable[str], caption_field: str = ""
) -> Iterator[tuple[str, bytes, str]]:
    """(key, image bytes, text) of each sample that has both, in the order of the shards.

    Args:
      caption_field: as `shard_samples` has it.

    Raises:
      TrainingError: a shard cannot be read, is no tar file, or ends too early.
    """
    for shard in shards:
        for sample in shard_samples(shard, caption_field=caption_field):
            if sample.image is not None and sample.text is not None:
                yield sample.key, sample.image, sample.text


def caption_lines(text: str) -> list[str]:
    """The captions of an image whose text has one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def json_captions(data: bytes | None, field: str) -> str | None:
    """The captions in a field of an object, a text or a list of them, one a line; None: none."""
    try:
        value = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    value = value.get(field) if isinstance(value, dict) else None
    texts = value if isinstance(value, list) else [value]
    lines = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    # JSON may name halves of characters, which are none.
    whole = "\n".join(filter(None, lines)).encode("utf-8", "replace")
    return whole[:LONGEST_TEXT].decode("utf-8", "ignore") or None


def shard_samples(
    shard: str | ShardStream,
    first: int = 0,
    *,
    at: int = 0,
    scan: Scan | None = None,
    caption_field: str = "",
    text_file: str = "txt",
) -> Iterator[Sample]:
    """The samples of one shard, from a byte on where a sample begins.

    Members that follow each other and are named alike up to the first dot of the last part of the
    path are one sample, as WebDataset has it.

    Args:
      shard: by its name, or as a stream that stands at `at`, which is closed.
      first: so many are left out, and only their headers read.
      scan: is filled. Images are not read then, and empty.
      caption_field: of KEY.json, which has the text or a list of texts; empty: `text_file` has it.
      text_file: the extension of the file that is a sample's text, as cls for its class's number.
    """
    text_file = "json" if caption_field else text_file
    wanted = (*IMAGE_EXTENSIONS, text_file)
    with ShardStream(shard, at) if isinstance(shard, str) else shard as stream:
        number, key, of = -1, "", 0
        fields: dict[str, bytes | None] = {}
        parts: set[int] = set()  # keys of those that lack a file
        for name, size, tar, place in TarMembers(stream):
            folder, slash, base = name.rpartition("/")
            stem, dot, extension = base.partition(".")
            if not dot or not stem or len(name) > _LONGEST_NAME:  # such as .DS_Store
                continue
            if (folder + slash + stem, tar) != (key, of):
                if number >= 0:
                    sample = _sample(key, fields, parts, text_file, caption_field)
                    if number >= first:
                        yield sample
                number, key, fields, of = number + 1, folder + slash + stem, {}, tar
                if scan is not None:
                    scan.starts.append(place)
                    scan.image_bytes.append(0)
            extension = extension.lower()
            if extension in wanted and extension not in fields:
                if scan is not None and extension != text_file:
                    scan.image_bytes[-1] = size
                read = number >= first and (scan is None or extension == text_file)
                fields[extension] = _field(stream, extension, size) if read else b""
        if number >= first:
            yield _sample(key, fields, parts, text_file, caption_field)


def _field(stream: ShardStream, extension: str, size: int) -> bytes | None:
    """What is used of a file; None of one that is too large."""
    if extension not in (*IMAGE_EXTENSIONS, "json"):
        return _exactly(stream, min(size, LONGEST_TEXT))
    longest = LONGEST_JSON if extension == "json" else LONGEST_IMAGE
    return _exactly(stream, size) if size <= longest else None


def _sample(
    key: str,
    fields: dict[str, bytes | None],
    parts: set[int],
    text_file: str,
    caption_field: str,
) -> Sample:
    images = [fields[extension] for extension in IMAGE_EXTENSIONS if extension in fields]
    if caption_field:
        text = json_captions(fields.get("json"), caption_field)
    else:
        text = (fields.get(text_file) or b"").decode("utf-8", "replace").strip()
    whole = bool(images) and text_file in fields
    scattered = not whole and hash(key) in parts
    if not whole and len(parts) < _MOST_PARTS:
        parts.add(hash(key))
    return Sample(key, images[0] if images else None, text or None, scattered, images[:1] == [None])


class TarMembers:
    """(name, size, which tar, where its headers begin) of each regular file, the stream standing at
    its bytes; what is not read of them is skipped. Behind a tar's end another may follow, as `cat`
    puts them together.

    Ours, because tarfile takes 80 us for a sample of three members where this takes 24, and
    decoding its image 800; and there are tars that tarfile reads for ever, or into all memory.
    """

    def __init__(self, stream: ShardStream):
        self._stream, self._ends = stream, 0
        self._whole = 0  # where the last member ends, if there was one

    def __iter__(self) -> "TarMembers":
        return self

    def __next__(self) -> tuple[str, int, int, int]:
        stream, extra, start = self._stream, _Extra(), -1
        while True:
            if self._whole:
                _skip_to(stream, self._whole)
            place, self._whole = stream.at, 0
            header = stream.read(_BLOCK)
            if not header:
                raise StopIteration
            if not header.strip(b"\0"):
                self._ends += 1
                continue
            start = place if start < 0 else start
            size, kind = _checked_size(header, stream), header[156:157]
            self._whole = stream.at + size
            if kind in _EXTRAS:
                extra = _with(extra, kind, size, stream)
                continue
            if kind == b"S" and header[482]:  # GNU's sparse file: blocks that tell its holes
                while _exactly(stream, _BLOCK)[504]:
                    pass
            size = 0 if kind in _BARE else size if extra.size is None else extra.size
            self._whole = stream.at + size
            if kind in _FILES and not extra.sparse:
                name = _name(header) if extra.name is None else extra.name
                return name, size, self._ends, start
            extra, start = _Extra(), -1


def _skip_to(stream: ShardStream, whole: int) -> None:
    """Goes on behind a member's bytes and the zeros that fill its last block."""
    filled = whole + -whole % _BLOCK
    if stream.size is None or filled <= stream.size:
        stream.skip(filled - stream.at)
    if stream.at < filled:
        raise _damaged(stream, "it ends too early")


class _Extra(NamedTuple):
    """What headers say of the member behind them."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False


def _with(extra: _Extra, kind: bytes, size: int, stream: ShardStream) -> _Extra:
    if kind in (b"K", b"g"):  # where a link leads, and what holds for all members
        return extra
    if size > _LONGEST_EXTRA:
        raise _damaged(stream, f"a name or header of {size} bytes at byte {stream.at}")
    body = _exactly(stream, size)
    if kind == b"L":  # GNU's: the next member's name
        return extra._replace(name=_string(body))
    end = 0
    while end < len(body) and body[end]:  # POSIX's records, "LENGTH KEY=VALUE\n"
        space = body.find(b" ", end, end + 9)
        length = body[end : max(space, end)]
        stop = end + int(length) if length.isdigit() else 0
        if not space + 3 <= stop <= len(body):
            raise _damaged(stream, f"a header's record of no length before byte {stream.at}")
        end = stop
        key, _, value = body[space + 1 : end - 1].partition(b"=")
        if key == b"path":
            extra = extra._replace(name=value.decode("utf-8", "backslashreplace"))
        elif key == b"size":
            size = int(value) if value.isdigit() and len(value) < 20 else -1
            extra = extra._replace(size=_possible(size, stream))
        elif key.startswith(b"GNU.sparse."):
            extra = extra._replace(sparse=True)
    return extra


def _checked_size(header: bytes, stream: ShardStream) -> int:
    if len(header) < _BLOCK or not _has_right_sum(header):
        at = stream.at - len(header)
        if at == 0 and header.startswith(_GZIP):
            raise TrainingError(
                f"{stream.shard} is compressed: have it unpacked while it is read, by "
                "--shards='pipe:gzip -dc FILE' (a command's output: 'pipe:COMMAND | gzip -dc')"
            )
        raise _damaged(stream, f"no tar header at byte {at}")
    if header[124] == 0x80:  # GNU's, of a size that octal digits do not hold
        return _possible(int.from_bytes(header[125:136], "big"), stream)
    return _possible(_octal(header, 124, 136), stream)


def _has_right_sum(header: bytes) -> bool:
    stated = _octal(header, 148, 156)
    total = sum(header) - sum(header[148:156]) + 8 * 32  # the sum itself counts as eight spaces
    # To old writers, bytes beyond ASCII are negative.
    return stated == total or stated == sum(_SIGNED.unpack(header)) + 8 * 32


def _octal(header: bytes, start: int, stop: int) -> int:
    """A number as headers have it; -1 where it is none."""
    number = _NUMBER.fullmatch(header, start, stop)
    return int(number[1] or b"0", 8) if number else -1


def _possible(size: int, stream: ShardStream) -> int:
    if not 0 <= size < _LARGEST:
        raise _damaged(stream, f"a member without a size before byte {stream.at}")
    return size


def _name(header: bytes) -> str:
    name, prefix = _string(header[:100]), _string(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _exactly(stream: ShardStream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise _damaged(stream, "it ends too early")
    return data


def _damaged(stream: ShardStream, why: str) -> TrainingError:
    return TrainingError(f"{stream.shard} is damaged ({why}): replace it")


def _string(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")
