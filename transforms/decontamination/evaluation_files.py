"""The images of evaluation sets, with their names, out of the files that hold them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.images.file_formats import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from alignset.transforms.storage.files import open_to_read, shown_path
from alignset.transforms.storage.tar_members import tar_members

# What cannot be read is counted and told: else it would silently not be kept out.
EVALUATION_SUFFIXES = (*IMAGE_SUFFIXES, *OTHER_IMAGE_SUFFIXES)
MAX_BYTES = 1 << 26  # of an image; a larger one is counted as unreadable
_FILES_AT_ONCE = 256  # of one image each; a tar or a Parquet file is a part of its own


class NamedImage(NamedTuple):
    """An image of an evaluation file.

    Attributes:
      name: within its file: a tar's member, a Parquet file's row or the path that it gives; empty
        where the file is the image.
      body: its bytes; empty where they are more than MAX_BYTES, or not there.
    """

    name: str
    body: bytes


def parts_of(files: Sequence[EvaluationFile]) -> list[tuple[EvaluationFile, ...]]:
    """Files to be read by one worker at a time, in an order that depends on them alone."""
    parts: list[list[EvaluationFile]] = []
    for file in sorted(files, key=lambda file: (file.name, file.path)):
        fits = parts and len(parts[-1]) < _FILES_AT_ONCE and not _holds_many(parts[-1][-1])
        if fits and not _holds_many(file):
            parts[-1].append(file)
        else:
            parts.append([file])
    return [tuple(part) for part in parts]


def _holds_many(file: EvaluationFile) -> bool:
    return file.path.lower().endswith((".tar", ".parquet"))


def set_folders(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The folder that all files of a dataset are in, with its last slash, by the dataset's name."""
    paths: dict[str, set[str]] = {}
    for name, path in files:
        paths.setdefault(name, set()).add(path[: path.rfind("/") + 1])
    shared = {name: os.path.commonprefix([*of]) for name, of in paths.items()}  # noqa: RUF071
    return {name: prefix[: prefix.rfind("/") + 1] for name, prefix in shared.items()}


def check_images(path: str) -> None:
    """Reads the footer of a Parquet file.

    Raises:
      ValueError: it has no column of images.
    """
    with open_to_read(path) as source:
        _image_column(pq.ParquetFile(source).schema_arrow, path)


def named_images(path: str) -> Iterator[NamedImage]:
    """The images in one file, in their order.

    Raises:
      ValueError: a Parquet file has no column of images.
    """
    suffix = path.lower()
    with open_to_read(path) as source:
        if suffix.endswith(".tar"):
            for member in tar_members(source):
                if member.name.lower().endswith(EVALUATION_SUFFIXES):
                    source.seek(member.at)
                    fits = member.plain and member.size <= MAX_BYTES
                    body = source.read(member.size) if fits else b""
                    yield NamedImage(shown_path(member.name), body)
        elif suffix.endswith(".parquet"):
            yield from _parquet_images(source, path)
        else:
            body = source.read(MAX_BYTES + 1)
            yield NamedImage("", body if len(body) <= MAX_BYTES else b"")


def find_images(path: str, names: Collection[str]) -> dict[str, bytes]:
    """The bytes of some images of one file, by their names; little else of a tar is read."""
    wanted = set(names)
    if not path.lower().endswith(".tar"):
        return {image.name: image.body for image in named_images(path) if image.name in wanted}
    found: dict[str, bytes] = {}
    with open_to_read(path) as source:
        for member in tar_members(source):
            name = shown_path(member.name)
            if name in wanted and member.plain and member.size <= MAX_BYTES:
                source.seek(member.at)
                found.setdefault(name, source.read(member.size))
            if len(found) == len(wanted):
                break
    return found


def _parquet_images(source: BinaryIO, path: str) -> Iterator[NamedImage]:
    """Images as `datasets` stores them, a struct with `bytes`, or a plain column of bytes."""
    file = pq.ParquetFile(
        source, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )
    name = _image_column(file.schema_arrow, path)
    # One row at once: 64 rows of a dictionary may have 64 times the largest value.
    for row, batch in enumerate(file.iter_batches(batch_size=1, columns=[name])):
        images = batch.column(0)
        shown = _given_path(images) or str(row)
        if pa.types.is_struct(images.type):
            images = pc.struct_field(images, "bytes")
        if isinstance(images, pa.DictionaryArray):
            images = images.dictionary_decode()
        for body in images:
            fits = body.is_valid and body.as_buffer().size <= MAX_BYTES
            yield NamedImage(shown, body.as_py() if fits else b"")


def _given_path(images: pa.Array) -> str:
    """The path in the struct of one image; empty where it has none."""
    at = images.type.get_field_index("path") if pa.types.is_struct(images.type) else -1
    if at < 0 or not pa.types.is_string(images.type.field(at).type):
        return ""
    path = pc.struct_field(images, "path").view(pa.binary())[0].as_py()  # of any bytes
    return (path or b"").decode("utf-8", "backslashreplace")


def _image_column(schema: pa.Schema, path: str) -> str:
    for name in ("image", "jpg", "png", "webp", "bytes"):
        if schema.names.count(name) == 1 and _holds_bytes(schema.field(name).type):
            return name
    raise ValueError(
        f"evaluation images: {path} has no column image, jpg, png, webp or bytes of bytes; "
        f"it has {', '.join(schema.names)}"
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.binary(), pa.large_binary())
