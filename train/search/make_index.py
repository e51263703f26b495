"""An index made of images: decoded, embedded, and written as a whole."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from alignset.train.data.images import decode_image
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.decode_upload import shrink
from alignset.train.search.index_files import (
    DOCUMENT,
    FORMAT,
    OLDER,
    ROWS,
    IndexDocument,
    factory_for,
    faiss,
    make_faiss_index,
    measured_recall,
    row_schema,
)
from alignset.train.search.pictures import PictureSource, manifest_hash

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder

REASONS = ("no_image", "undecodable", "repeated_key")
# A thumbnail is read with all of its group: 1.5 MB in 0.3 ms.
GROUP_ROWS = 256
Row = dict[str, object]


@dataclass
class Making:
    """How an index is made.

    Attributes:
      tell: gets how many samples more were read.
      say: gets a line when rows are sorted into cells.
      left_out: number of rejected samples by reason.
    """

    batch_size: int
    thumbnail_px: int
    threads: int
    tell: Callable[[int], object]
    say: Callable[[str], object]
    left_out: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))


class RowWriter:
    """Rows on their way into a file, whose vectors are kept aside for faiss."""

    def __init__(self, file: IO[bytes], vectors: IO[bytes], dimensions: int):
        self._schema, self._vectors = row_schema(dimensions), vectors
        # Neither thumbnails nor vectors become smaller, and texts are few beside them.
        self.file = pq.ParquetWriter(
            file, self._schema, compression="none", use_dictionary=False, write_statistics=False
        )
        self.hash = hashlib.sha256()
        self._held: list[pa.Table] = []

    def add(self, rows: list[Row], vectors: np.ndarray) -> None:
        """Args: vectors: float16[n, d]."""
        self._vectors.write(vectors.tobytes())
        self.hash.update(vectors.tobytes())
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        table = pa.Table.from_pylist(rows, self._schema.remove(len(self._schema) - 1))
        self._held.append(table.append_column(self._schema.field("vector"), column))
        if sum(map(len, self._held)) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self.file.write_table(pa.concat_tables(self._held), GROUP_ROWS)
            self._held.clear()


def make_index(
    folder: Path, sources: list[PictureSource], model: DualEmbedder, making: Making
) -> IndexDocument:
    """Makes an index of these sources, in place of the one that is there.

    Raises:
      SettingsError: nothing could be taken in.
      TrainingError: a source cannot be read, an embedding has no length, or another command works
        on the index.
    """
    documents: list[IndexDocument] = []
    with _only_one(folder), tempfile.TemporaryFile(dir=folder) as spool:
        write_whole(
            folder / ROWS,
            lambda file: documents.append(_write(folder, file, spool, sources, model, making)),
        )
        (document,) = documents
        for path in folder.glob("vectors-*.faiss*"):
            if path.name != document.vectors:
                path.unlink()
        if (folder / OLDER).exists():
            (folder / OLDER).unlink()
            shutil.rmtree(folder / "parts", ignore_errors=True)
    return document


def _write(
    folder: Path,
    file: IO[bytes],
    spool: IO[bytes],
    sources: list[PictureSource],
    model: DualEmbedder,
    making: Making,
) -> IndexDocument:
    # Before the shards are read, which may change meanwhile.
    manifests = {of: manifest_hash(of) for of in {os.path.dirname(of.place): 0 for of in sources}}
    writer, keys = RowWriter(file, spool, model.width), set[str]()
    with writer.file:
        counts = dict[str, int]()
        for source in sources:
            before = len(keys)
            for rows, images in _rows(source, making, keys):
                writer.add(rows, _unit(model.embed_images(images), source.place))
            counts[source.place] = len(keys) - before
        writer.flush()
        if not keys:
            reasons = ", ".join(f"{count} {why}" for why, count in making.left_out.items() if count)
            raise SettingsError(
                f"nothing could be taken into the index ({reasons or 'no samples'}): name shards "
                "or a folder of images that can be opened"
            )
        factory, recall = factory_for(len(keys)), 1.0
        if factory.startswith("IVF"):
            making.say(f"sorting {len(keys):,} rows into cells")
        spool.flush()  # read from the file, and not held in memory
        index = make_faiss_index(
            np.memmap(spool, np.float16, "r", shape=(len(keys), model.width)), factory
        )
        name = f"vectors-{writer.hash.hexdigest()[:16]}.faiss"
        write_whole(
            folder / name,
            lambda file: faiss.write_index(index, faiss.PyCallbackIOWriter(file.write)),
        )
        if factory.startswith("IVF"):
            recall = round(measured_recall(index), 4)
        place = os.path.abspath(model.name) if os.path.isdir(model.name) else model.name
        document = IndexDocument(
            *(FORMAT, place, model.digest, model.width, counts, manifests, name, factory, recall)
        )
        text = json.dumps(dataclasses.asdict(document)).encode("utf-8", "replace")
        writer.file.add_key_value_metadata({DOCUMENT: text})
    return document


def _rows(
    source: PictureSource, making: Making, keys: set[str]
) -> Iterator[tuple[list[Row], list[Image.Image]]]:
    """Rows without their vectors, and their images; a batch at a time.

    Args:
      keys: of the rows so far. A key counts once it was decoded: a whole image may follow a damaged
        one.
    """
    pictures = source.pictures()
    with ThreadPoolExecutor(making.threads) as pool:
        while batch := list(islice(pictures, making.batch_size)):
            rows, images = list[Row](), list[Image.Image]()
            looks = pool.map(lambda picture: _look(picture.data, making.thumbnail_px), batch)
            for picture, look in zip(batch, looks, strict=True):
                if look is None or picture.key in keys:
                    reason = "undecodable" if look is None else "repeated_key"
                    making.left_out["no_image" if picture.data is None else reason] += 1
                    continue
                image, fields = look
                keys.add(picture.key)
                images.append(image)
                rows.append({**picture._asdict(), "host": host_of(picture.url), **fields})
                del rows[-1]["data"]
            if rows:
                yield rows, images
            making.tell(len(batch))


def _look(data: bytes | None, thumbnail_px: int) -> tuple[Image.Image, Row] | None:
    """An image as it is embedded, and what its row says of it; None where it is not decoded."""
    if data is None:
        return None
    try:
        image = decode_image(data)
        small = image.copy()
        small.thumbnail((thumbnail_px, thumbnail_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
        thumbnail = io.BytesIO()
        small.save(thumbnail, "WEBP", quality=75, method=2)
        fields: Row = {
            "width": image.width,
            "height": image.height,
            "phash": int(str(imagehash.phash(image)), 16),  # the first bit is the highest
            "thumbnail": thumbnail.getvalue(),
        }
        shrink(image)  # a batch of whole photographs of 16 million pixels would take 1.6 GB
    except Exception:  # Pillow raises many kinds; one bad image is not a reason to stop
        return None
    return image, fields


def _unit(vectors: np.ndarray, place: str) -> np.ndarray:
    """float16[n, d], unit length."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise TrainingError(
            f"the model gives an embedding of {place} that is not a direction: it diverged, take "
            "an earlier one"
        )
    return (vectors / lengths).astype(np.float16)


def host_of(url: str) -> str:
    """In lower case, without the port; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keeps a second command off an index that is being made."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"another command is making the index in {str(folder)!r}: wait for it to end"
            ) from error
        yield
