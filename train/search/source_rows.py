"""The rows of a source's images: decoded, measured, embedded, and drawn small."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from alignset.train.data.images import decode_image
from alignset.train.errors import TrainingError
from alignset.train.search.decode_upload import shrink
from alignset.train.search.index_files import row_schema, vector_column
from alignset.train.search.pictures import Picture, PictureSource

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder

REASONS = ("no_image", "undecodable", "repeated_key")
_BATCHES_HELD = 32  # of rows that are in memory at once, with their thumbnails
_GIVEN = ("key", "caption", "url", "unsafe_score", "in_sidecar")  # before an image is decoded
Row = dict[str, object]


@dataclass
class Making:
    """How an index is made.

    Attributes:
      tell: gets how many samples more were read.
      left_out: number of rejected samples by reason.
    """

    batch_size: int
    thumbnail_px: int
    threads: int
    tell: Callable[[int], object]
    left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))


class SourceRows:
    """The rows of one source, made as they are written.

    Args:
      keys: of the rows that the index has. Keys of new rows are added.
    """

    def __init__(
        self,
        source: PictureSource,
        model: DualEmbedder,
        making: Making,
        keys: set[str],
    ):
        self._source, self._model = source, model
        self._making, self.keys = making, keys

    def write(self, file: IO[bytes]) -> None:
        """Writes them as an Arrow file.

        Raises:
          TrainingError: the source cannot be read, or an embedding has no length.
        """
        schema = row_schema(self._model.width)
        batches = self._batches()
        with pa.ipc.new_file(file, schema) as writer:
            while tables := list(islice(batches, _BATCHES_HELD)):
                writer.write_table(pa.concat_tables(tables).combine_chunks())

    def _batches(self) -> Iterator[pa.Table]:
        schema = row_schema(self._model.width)
        pictures = self._source.pictures()
        with ThreadPoolExecutor(self._making.threads) as pool:
            while batch := list(islice(pictures, self._making.batch_size)):
                candidates = list(self._candidates(batch))
                results = pool.map(self._decode, [data for _, data in candidates])
                rows, images = self._collect(
                    zip((row for row, _ in candidates), results, strict=True)
                )
                if rows:
                    vectors = self._unit(self._model.embed_images(images))
                    fields = pa.Table.from_pylist(rows, schema.remove(len(schema) - 1))
                    yield fields.append_column(schema.field("vector"), vector_column(vectors))
                self._making.tell(len(batch))

    def _candidates(self, batch: list[Picture]) -> Iterator[tuple[Row, bytes]]:
        """The images that may come in: what a row has of each before it is decoded, and its file.
        A key counts once it was decoded: a whole image may follow a damaged one."""
        for picture in batch:
            if picture.data is None:
                self._making.left_out["no_image"] += 1
            elif picture.key in self.keys:
                self._making.left_out["repeated_key"] += 1
            else:
                row = {name: getattr(picture, name) for name in _GIVEN}
                yield row | {"host": host_of(picture.url)}, picture.data

    def _collect(
        self, results: Iterator[tuple[Row, tuple[Image.Image, Row] | None]]
    ) -> tuple[list[Row], list[Image.Image]]:
        """The whole rows and the images of what could be decoded."""
        rows, images = [], []
        for row, result in results:
            if result is None:
                self._making.left_out["undecodable"] += 1
            elif row["key"] in self.keys:
                self._making.left_out["repeated_key"] += 1
            else:
                image, fields = result
                self.keys.add(str(row["key"]))
                rows.append(row | fields)
                images.append(image)
        return rows, images

    def _decode(self, data: bytes) -> tuple[Image.Image, Row] | None:
        try:
            image = decode_image(data)
            fields: Row = {
                "width": image.width,
                "height": image.height,
                "phash": int(str(imagehash.phash(image)), 16),  # the first bit is the highest
                "thumbnail": thumbnail_of(image, self._making.thumbnail_px),
            }
            # A batch of whole photographs of 16 million pixels would take 1.6 GB.
            shrink(image)
        except Exception:  # Pillow raises many kinds; one bad image is not a reason to stop
            return None
        return image, fields

    def _unit(self, vectors: np.ndarray) -> np.ndarray:
        """float16[n, d], unit length."""
        vectors = np.asarray(vectors, np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise TrainingError(
                f"the model gives an embedding of {self._source.where} that is not a direction: it "
                "diverged, take an earlier one"
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
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=75, method=2)
    return file.getvalue()
