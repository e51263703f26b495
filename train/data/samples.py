"""Samples out of WebDataset shards: the files of a tar, grouped by key."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alignset.train.data.shard_streams import ShardStream
from alignset.train.errors import TrainingError
from alignset.transforms.storage.tar_members import COMPRESSED, BrokenTar, Member, members_of_stream

LONGEST_TEXT = 1 << 14  # bytes of a text that are read: its first 64 tokens are learned from


def caption_lines(text: str) -> list[str]:
    """The captions of an image whose text has one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def json_object(data: bytes | None) -> dict[str, Any]:
    """The object in a KEY.json; empty where there is none."""
    try:
        value = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def json_language(fields: dict[str, Any]) -> str:
    """The code of a text's language, as `alignset curate` and LAION name the field; empty: none."""
    codes = (fields[name] for name in LANGUAGE_FIELDS if isinstance(fields.get(name), str))
    code = next(codes, "")[:_LONGEST_LANGUAGE].strip().lower()
    return code.encode("utf-8", "replace").decode()


def json_captions(fields: dict[str, Any], field: str) -> str | None:
    """The captions in a field of an object, a text or a list of them, one a line; None: none."""
    value = fields.get(field)
    texts = value if isinstance(value, list) else [value]
    lines = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    # JSON may name halves of characters, which are none.
    whole = "\n".join(filter(None, lines)).encode("utf-8", "replace")
    return whole[:LONGEST_TEXT].decode("utf-8", "ignore") or None


IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LONGEST_IMAGE = 1 << 25  # bytes; a larger one is not read
LONGEST_JSON = 1 << 20  # bytes; of a longer one nothing is read
LANGUAGE_FIELDS = ("language", "lang", "LANGUAGE")
_LONGEST_LANGUAGE = 32  # characters of a code
_LONGEST_NAME = 1 << 12  # bytes: as long as a path can be
_MOST_PARTS = 1 << 20  # keys that are remembered, 70 bytes each


class ShardSample(NamedTuple):
    key: str
    image: bytes | None  # None: it has none
    text: str | None
    scattered: bool = False  # its key was there before, and neither part is whole
    too_large: bool = False  # its image has more than LONGEST_IMAGE bytes
    language: str = ""  # a code; empty where nothing says it, or it was not to be read


@dataclass
class Scan:
    """Facts about each sample, from reading a shard without its images."""

    starts: list[int] = field(default_factory=list)  # the byte where its headers begin
    image_bytes: list[int] = field(default_factory=list)  # 0: it has no image


def shard_samples(
    shard: str | ShardStream,
    first: int = 0,
    *,
    at: int = 0,
    scan: Scan | None = None,
    caption_field: str = "",
    text_file: str = "txt",
    languages: bool = False,
) -> Iterator[ShardSample]:
    """The samples of one shard, from a byte on where a sample begins.

    Members that follow each other and are named alike up to the first dot of the last part of the
    path are one sample, as WebDataset has it.

    Args:
      shard: by its name, or as a stream that stands at `at`, which is closed.
      first: so many are left out, and only their headers read.
      scan: is filled. Images are not read then, and empty.
      caption_field: of KEY.json, which has the text or a list of texts; empty: `text_file` has it.
      text_file: the extension of the file that is a sample's text, as cls for its class's number.
      languages: whether KEY.json is read for the text's language.
    """
    text_file = "json" if caption_field else text_file
    text_files = {text_file, "json"} if languages else {text_file}
    extensions = {*IMAGE_EXTENSIONS, *text_files}
    with ShardStream(shard, at) if isinstance(shard, str) else shard as stream:
        number, key, of = -1, "", 0
        fields: dict[str, bytes | None] = {}
        parts: set[int] = set()  # keys of those that lack a file
        for name, _, size, _, place, tar in shard_files(stream):
            own, extension = _key_and_extension(name)
            if not own:
                continue
            if (own, tar) != (key, of):
                if number >= 0:
                    sample = _sample(key, fields, parts, text_file, caption_field)
                    if number >= first:
                        yield sample
                number, key, fields, of = number + 1, own, {}, tar
                if scan is not None:
                    scan.starts.append(place)
                    scan.image_bytes.append(0)
            if extension in extensions and extension not in fields:
                if scan is not None and extension not in text_files:
                    scan.image_bytes[-1] = size
                is_read = number >= first and (scan is None or extension in text_files)
                fields[extension] = _field(stream, extension, size) if is_read else b""
        if number >= first:
            yield _sample(key, fields, parts, text_file, caption_field)


def _key_and_extension(name: str) -> tuple[str, str]:
    """The key and extension of a file; ("", "") for another file, such as .DS_Store."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    if not dot or not stem or len(name) > _LONGEST_NAME:
        return "", ""
    return folder + slash + stem, extension.lower()


def shard_files(stream: ShardStream) -> Iterator[Member]:
    """The regular files of a shard, the stream standing at the bytes of each; behind a tar's end
    another may follow.

    Raises:
      TrainingError: the shard is damaged.
    """
    try:
        for member in members_of_stream(stream):
            if member.plain:
                name = member.name.encode("utf-8", "surrogateescape")
                yield member._replace(name=name.decode("utf-8", "backslashreplace"))
    except BrokenTar as error:
        if error.fault == COMPRESSED:
            raise TrainingError(
                f"{stream.shard} is compressed: have it unpacked while it is read, by "
                "--shards='pipe:gzip -dc FILE' (a command's output: 'pipe:COMMAND | gzip -dc')"
            ) from error
        raise TrainingError(f"{stream.shard} is damaged ({error}): replace it") from error


def _field(stream: ShardStream, extension: str, size: int) -> bytes | None:
    """The used part of a file; None for a file that is too large.

    Raises:
      TrainingError: the shard ends before.
    """
    longest = LONGEST_TEXT
    if extension in (*IMAGE_EXTENSIONS, "json"):
        longest = LONGEST_JSON if extension == "json" else LONGEST_IMAGE
        if size > longest:
            return None
    data = stream.read(min(size, longest))
    if len(data) < min(size, longest):
        raise TrainingError(
            f"{stream.shard} is damaged (it is cut off at byte {stream.at}, within a member): "
            "replace it"
        )
    return data


def _sample(
    key: str,
    fields: dict[str, bytes | None],
    parts: set[int],
    text_file: str,
    caption_field: str,
) -> ShardSample:
    images = [fields[extension] for extension in IMAGE_EXTENSIONS if extension in fields]
    document = json_object(fields.get("json"))
    if caption_field:
        text = json_captions(document, caption_field)
    else:
        text = (fields.get(text_file) or b"").decode("utf-8", "replace").strip()
    whole = bool(images) and text_file in fields
    is_scattered = not whole and hash(key) in parts
    if not whole and len(parts) < _MOST_PARTS:
        parts.add(hash(key))
    return ShardSample(
        key,
        images[0] if images else None,
        text or None,
        is_scattered,
        images[:1] == [None],
        json_language(document),
    )


class ShardPair(NamedTuple):
    key: str
    image: bytes
    text: str
    language: str  # a code; empty where nothing says it, or it was not to be read


def read_pairs(
    shards: Iterable[str], caption_field: str = "", *, languages: bool = False
) -> Iterator[ShardPair]:
    """Reads each sample that has an image and a text, in the order of the shards.

    Args:
      caption_field, languages: as `shard_samples` has them.

    Raises:
      TrainingError: a shard cannot be read, is not a tar file, or ends too early.
    """
    for shard in shards:
        for sample in shard_samples(shard, caption_field=caption_field, languages=languages):
            if sample.image is not None and sample.text is not None:
                yield ShardPair(sample.key, sample.image, sample.text, sample.language)
