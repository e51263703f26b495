"""Pictures to the parts of an index: decoded, measured, embedded, and drawn small."""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from alignset.train.data.images import decode_image
from alignset.train.errors import TrainingError
from alignset.train.model.embedder import Embedder
from alignset.train.search.blocklist import Blocklist
from alignset.train.search.decode_upload import shrink
from alignset.train.search.index_files import (
    PartProgress,
    part_path,
    read_part,
    row_schema,
    vector_column,
    write_part,
)
from alignset.train.search.pictures import Picture, PictureSource

PART_SAMPLES = 1024  # a kill costs the work of so many
REASONS = ("no_image", "undecodable", "repeated_key", "blocked")
Row = dict[str, object]


@dataclass(frozen=True)
class Making:
    """How an index is made.

    Attributes:
      tell: gets how many samples more were read.
    """

    batch_size: int
    thumbnail_px: int
    threads: int
    tell: Callable[[int], None]


class PartBuilder:
    """Makes the parts of an index.

    Args:
      names: of the parts that the index has.
    """

    def __init__(
        self,
        folder: Path,
        model: Embedder,
        blocklist: Blocklist,
        making: Making,
        names: list[str],
    ):
        self._folder, self._model, self._making = folder, model, making
        self._blocklist = blocklist
        # By the names that they were built under: `remove` adds a number.
        self._names = {re.sub(r"\.\d+$", "", name): name for name in names}
        self._keys = {key for name in names for key in self._keys_of(name)}

    def build(self, source: PictureSource) -> Iterator[tuple[str, PartProgress]]:
        """The parts of a source, each as soon as it is there. Those of an earlier command that was
        killed are used as they are.

        Raises:
          TrainingError: the source cannot be read, or an embedding has no length.
        """
        origin = f"{source.identity}\0{self._model.digest}"
        stem = hashlib.sha256(origin.encode(errors="replace")).hexdigest()[:16]
        number, samples = 0, 0
        pictures: Iterator[Picture] | None = None
        while True:
            name = f"{stem}-{number:05d}"
            name = self._names.get(name, name)
            if part_path(self._folder, name).exists():
                progress = read_part(self._folder, name)[1]
                self._keys.update(self._keys_of(name))
                self._making.tell(progress.samples - samples)
                pictures = None
            else:
                pictures = pictures or source.pictures(samples)
                progress = self._build_part(name, islice(pictures, PART_SAMPLES), source, samples)
            samples, number = progress.samples, number + 1
            yield name, progress
            if progress.last:
                return

    def _keys_of(self, name: str) -> list[str]:
        keys: list[str] = read_part(self._folder, name)[0]["key"].to_pylist()
        return keys

    def _build_part(
        self, name: str, pictures: Iterator[Picture], source: PictureSource, before: int
    ) -> PartProgress:
        rows: list[Row] = []
        vectors = [np.empty((0, self._model.width), np.float16)]
        left_out = dict.fromkeys(REASONS, 0)
        samples = 0
        while batch := list(islice(pictures, self._making.batch_size)):
            images = self._decode_all(list(self._allowed(batch, left_out)), rows, left_out)
            if images:
                vectors.append(_unit(self._model.embed_images(images), source))
            samples += len(batch)
            self._making.tell(len(batch))
        progress = PartProgress(before + samples, samples < PART_SAMPLES, left_out)
        schema = row_schema(self._model.width)
        fields = pa.Table.from_pylist(rows, schema.remove(len(schema) - 1))
        table = fields.append_column(schema.field("vector"), vector_column(np.concatenate(vectors)))
        write_part(self._folder, name, table, progress)
        return progress

    def _allowed(
        self, batch: list[Picture], left_out: dict[str, int]
    ) -> Iterator[tuple[Row, bytes]]:
        """The pictures that may come in: what a row has of each before it is decoded, and its file.
        A key counts once it was decoded: a whole picture may follow a damaged one."""
        for picture in batch:
            if picture.data is None:
                left_out["no_image"] += 1
            elif picture.key in self._keys:
                left_out["repeated_key"] += 1
            elif self._blocklist.lines_of(row := _described(picture, picture.data)):
                left_out["blocked"] += 1
            else:
                yield row, picture.data

    def _decode_all(
        self, few: list[tuple[Row, bytes]], rows: list[Row], left_out: dict[str, int]
    ) -> list[Image.Image]:
        """The pictures that can be decoded, of which `rows` gets the rest of their fields."""
        images = []
        with ThreadPoolExecutor(self._making.threads) as pool:
            for (row, _), decoded in zip(few, pool.map(self._decode, few), strict=True):
                if decoded is None:
                    left_out["undecodable"] += 1
                elif row["key"] in self._keys:
                    left_out["repeated_key"] += 1
                else:
                    image, fields = decoded
                    self._keys.add(str(row["key"]))
                    rows.append(row | fields)
                    images.append(image)
        return images

    def _decode(self, picture: tuple[Row, bytes]) -> tuple[Image.Image, Row] | None:
        try:
            image = decode_image(picture[1])
            fields: Row = {
                "width": image.width,
                "height": image.height,
                "phash": int(str(imagehash.phash(image)), 16),  # the first bit is the highest
                "thumbnail": thumbnail_of(image, self._making.thumbnail_px),
            }
            # A batch of whole photographs of 16 million pixels would take 1.6 GB.
            shrink(image)
        except Exception:  # Pillow raises many kinds; one bad image is no reason to stop
            return None
        return image, fields


def _described(picture: Picture, data: bytes) -> Row:
    """What a row has of a picture before it is decoded."""
    return {
        "key": picture.key,
        "caption": picture.caption,
        "url": picture.url,
        "host": host_of(picture.url),
        "unsafe_score": picture.unsafe_score,
        "md5": hashlib.md5(data, usedforsecurity=False).digest(),
        "sha1": hashlib.sha1(data, usedforsecurity=False).digest(),
        "sha256": hashlib.sha256(data).digest(),
    }


def _unit(vectors: np.ndarray, source: PictureSource) -> np.ndarray:
    """float16[n, d], unit length."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise TrainingError(
            f"the model gives an embedding of {source.where} that is no direction: it diverged, "
            "take an earlier one"
        )
    return (vectors / lengths).astype(np.float16)


def host_of(url: str) -> str:
    """In lower case, without the port; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def thumbnail_of(image: Image.Image, side: int) -> bytes:
    """WebP, neither side longer than `side` px."""
    small = (
        image.copy() if max(image.size) <= 2 * side else image.reduce(max(image.size) // (2 * side))
    )
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=75, method=2)
    return file.getvalue()
