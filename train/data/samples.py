"""Samples out of WebDataset shards: the files of a tar, grouped by key."""

import json
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from alignset.train.data.shard_streams import ShardStream
from alignset.train.errors import TrainingError
from alignset.transforms.storage.tar_members import COMPRESSED, BrokenTar, Member, members_of_stream

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LONGEST_IMAGE = 1 << 25  # bytes; a larger one is not read
LONGEST_JSON = 1 << 20  # bytes; of a longer one nothing is read
LONGEST_TEXT = 1 << 14  # bytes of a text that are read: its first 64 tokens are learned from
LANGUAGE_FIELDS = ("language", "lang", "LANGUAGE")
_LONGEST_LANGUAGE = 32  # characters of a code
_LONGEST_NAME = 1 << 12  # bytes: as long as a path can be
FIELD = "json."  # of a KEY.json: what the place of a text in a field begins with
TXT = ("txt",)
_LONGEST = dict.fromkeys(IMAGE_EXTENSIONS, LONGEST_IMAGE) | {"json": LONGEST_JSON}


class ShardSample(NamedTuple):
    key: str
    image: bytes | None  # None: it has none, or too large a one
    texts: tuple[str | None, ...]  # of each place
    language: str = ""  # a code; empty where nothing says it, or it was not to be read
    start: int = 0  # the byte of its shard where its headers begin
    image_bytes: int = 0  # also of an image that was not read

    @property
    def text(self) -> str | None:
        """All its texts, in lines."""
        return "\n".join(filter(None, self.texts)) or None

    @property
    def too_large(self) -> bool:
        return self.image_bytes > LONGEST_IMAGE


class ShardPair(NamedTuple):
    key: str
    image: bytes
    text: str
    language: str  # as a ShardSample has it


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
    """The code of a text's language, as `alignset curate` and LAION name the field; empty: none.

    >>> json_language({"LANGUAGE": " PT-br "}), json_language({"language": 3})
    ('pt-br', '')
    """
    codes = (fields[name] for name in LANGUAGE_FIELDS if isinstance(fields.get(name), str))
    code = next(codes, "")[:_LONGEST_LANGUAGE].strip().lower()
    return code.encode("utf-8", "replace").decode()


def json_captions(fields: dict[str, Any], field: str) -> str | None:
    """The captions in a field of an object, a text or a list of them, one a line; None: none."""
    value = fields.get(field)
    texts = value if isinstance(value, list) else [value]
    lines = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    # JSON may name halves of characters, which are none.
    joined = "\n".join(filter(None, lines)).encode("utf-8", "replace")
    return joined[:LONGEST_TEXT].decode("utf-8", "ignore") or None


def shard_samples(
    shard: str | ShardStream,
    first: int = 0,
    *,
    at: int = 0,
    images: bool = True,
    places: Collection[str] = TXT,
    languages: bool = False,
) -> Iterator[ShardSample]:
    """The samples of one shard, from a byte on where a sample begins.

    Members that follow each other and are named alike up to the first dot of the last part of the
    path are one sample, as WebDataset has it.

    Args:
      shard: by its name, or as a stream that stands at `at`, which is closed.
      first: so many are left out, and only their headers read.
      images: whether they are read; else they are empty.
      places: of a sample's texts: a file's extension, as txt, or cls for its class's number; or
        json.FIELD, with a text or a list of texts.
      languages: whether KEY.json is read for the text's language.
    """
    text_files = {"json" if place.startswith(FIELD) else place for place in places}
    text_files |= {"json"} if languages else set()

    def text(place: str) -> str | None:
        if place.startswith(FIELD):
            return json_captions(document, place.removeprefix(FIELD))
        return (fields.get(place) or b"").decode("utf-8", "replace").strip() or None

    with ShardStream(shard, at) if isinstance(shard, str) else shard as stream:
        named = ((*_key_and_extension(file.name), file) for file in shard_files(stream))
        groups = groupby((one for one in named if one[0]), lambda one: (one[0], one[2].tar))
        for number, ((key, _), files) in enumerate(groups):
            fields: dict[str, bytes | None] = {}
            sizes: dict[str, int] = {}
            start = -1
            for _, extension, file in files:
                start = file.start if start < 0 else start
                is_image = extension in IMAGE_EXTENSIONS
                if extension in fields or not (is_image or extension in text_files):
                    continue
                fields[extension], sizes[extension] = b"", file.size
                if file.size > _LONGEST.get(extension, file.size):
                    fields[extension] = None
                elif number >= first and (images or not is_image):
                    # Where the shard ends before, going on to the next file raises.
                    longest = _LONGEST.get(extension, LONGEST_TEXT)
                    fields[extension] = stream.read(min(file.size, longest))
            if number < first:
                continue
            document = json_object(fields.get("json"))
            image = next((name for name in IMAGE_EXTENSIONS if name in fields), "")
            language, size = json_language(document), sizes.get(image, 0)
            texts = tuple(map(text, places))
            yield ShardSample(key, fields.get(image), texts, language, start, size)


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


def read_pairs(shards: Iterable[str], **options: Any) -> Iterator[ShardPair]:
    """Reads each sample that has an image and a text, in the order of the shards.

    Args:
      options: as `shard_samples` has them.

    Raises:
      TrainingError: a shard cannot be read, is not a tar file, or ends too early.
    """
    for shard in shards:
        for sample in shard_samples(shard, **options):
            if sample.image is not None and sample.text is not None:
                yield ShardPair(sample.key, sample.image, sample.text, sample.language)
