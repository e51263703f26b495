"""An index made, or brought to what its sources have now. `index.json` is written when all else is
there, so a command that is killed leaves the index that was there before."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image

from alignset.train.data.images import decode_image
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.decode_upload import shrink
from alignset.train.search.index_files import (
    DOCUMENT,
    FORMAT,
    IndexDocument,
    column_vectors,
    factory_for,
    make_faiss_index,
    measured_recall,
    part_path,
    read_index,
    read_part,
    read_parts,
    row_schema,
    vector_column,
    write_faiss_index,
    write_index,
)
from alignset.train.search.pictures import Picture, PictureSource, manifest_hash, place_of

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder

REASONS = ("no_image", "undecodable", "repeated_key")
_BATCHES_HELD = 32  # of rows that are in memory at once, with their thumbnails
_GIVEN = ("key", "caption", "url", "unsafe_score", "in_sidecar")  # before an image is decoded
Row = dict[str, object]
Say = Callable[[str], None]


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


class Added(NamedTuple):
    """Result of a command: the index, how many rows are new, and how many rows it took out, since
    their shards have changed or are gone."""

    document: IndexDocument
    rows: int
    removed_rows: int


def check_model(document: IndexDocument, model: DualEmbedder, folder: Path) -> None:
    """Raises SettingsError where an index is of another model."""
    if document.digest != model.digest:
        raise SettingsError(
            f"the index in {str(folder)!r} was made by the model {document.model} "
            f"({document.digest[:12]}) and not by {model.name} ({model.digest[:12]}): pass the "
            "--model that it was made by, or another --index"
        )


def add_sources(
    folder: Path, sources: list[PictureSource], model: DualEmbedder, making: Making, say: Say
) -> Added:
    """Makes an index of these sources, or brings the one that is there to what they have now. Rows
    of other sources stay, but for shards that are gone from their folder.

    Args:
      say: gets a line when rows are sorted into cells.

    Raises:
      SettingsError: the index is of another model, or nothing could be taken in.
      TrainingError: a source cannot be read, or another command works on the index.
    """
    with _only_one(folder):
        old = read_index(folder) if (folder / DOCUMENT).exists() else None
        generation, old_parts = 1, dict[str, str]()
        if old is not None:
            check_model(old, model, folder)
            generation, old_parts = old.generation + 1, old.parts
        origins = [
            f"{source.identity}\0{model.digest}".encode(errors="replace") for source in sources
        ]
        # By the name of a source's part, up to the dot that a generation follows.
        stems = {
            hashlib.sha256(origin).hexdigest()[:16]: source
            for origin, source in zip(origins, sources, strict=True)
        }
        places = {stem: place_of(source.where) for stem, source in stems.items()}
        folders = {os.path.dirname(place) for place in places.values()}
        # Before the shards are read, which may change meanwhile.
        manifests = {} if old is None else {**old.manifests}
        manifests |= {of: manifest_hash(of) for of in folders}
        parts: dict[str, str] = {}
        for name, place in old_parts.items():
            stem = name.partition(".")[0]
            changed = place in places.values() or (
                os.path.isdir(os.path.dirname(place)) and not os.path.exists(place)
            )
            if stem in stems or not changed:
                parts[name] = places.get(stem, place)
        rows_before = sum(len(read_part(folder, name)) for name in parts)
        known = {name.partition(".")[0] for name in parts}
        keys = {key for name in parts for key in _keys_of(folder, name)}
        for stem in [stem for stem in stems if stem not in known]:
            name = f"{stem}.{generation}"
            _make_part(folder, name, SourceRows(stems[stem], model, making, keys))
            parts[name] = places[stem]
        rows = sum(len(read_part(folder, name)) for name in parts)
        if not rows and old is None:
            reasons = ", ".join(f"{count} {why}" for why, count in making.left_out.items() if count)
            raise SettingsError(
                f"nothing could be taken into the index ({reasons or 'no samples'}): name shards "
                "or a folder of images that can be opened"
            )
        used = set(map(os.path.dirname, parts.values()))
        document = IndexDocument(
            FORMAT,
            generation,
            os.path.abspath(model.name) if os.path.isdir(model.name) else model.name,
            model.digest,
            model.width,
            parts,
            rows,
            factory_for(rows),
            1.0,
            {of: digest for of, digest in sorted(manifests.items()) if of in used},
        )
        document = _finish(folder, old, document, say)
        return Added(document, rows - rows_before, (old.rows if old else 0) - rows_before)


def _make_part(folder: Path, name: str, rows: SourceRows) -> None:
    """Writes a part, unless a command that was killed left it, and it repeats no key."""
    path = part_path(folder, name)
    if path.exists() and rows.keys.isdisjoint(own_keys := _keys_of(folder, name)):
        rows.keys.update(own_keys)
    else:
        write_whole(path, rows.write)


def _keys_of(folder: Path, name: str) -> list[str]:
    keys: list[str] = read_part(folder, name)["key"].to_pylist()
    return keys


def write_table(rows: pa.Table, file: IO[bytes]) -> None:
    """Writes rows as an Arrow file."""
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


def _finish(
    folder: Path, old: IndexDocument | None, document: IndexDocument, say: Say
) -> IndexDocument:
    """Has faiss index the rows, writes `index.json`, and deletes what no longer belongs to the
    index."""
    if old and [*old.parts] == [*document.parts]:
        document = dataclasses.replace(old, parts=document.parts, manifests=document.manifests)
    else:
        if document.kind == "cells":
            say(f"sorting {document.rows:,} rows into cells")
        vectors = (part["vector"] for part in read_parts(folder, document))
        pieces = [piece for column in vectors for piece in column_vectors(column)]
        index = make_faiss_index(pieces, document.dimensions, document.factory)
        write_faiss_index(document.vectors_path(folder), index)
        recall = round(measured_recall(index), 4) if document.kind == "cells" else 1.0
        document = dataclasses.replace(document, recall=recall)
    write_index(folder, document)
    own_paths = {part_path(folder, name) for name in document.parts} | {
        document.vectors_path(folder)
    }
    for path in [*(folder / "parts").iterdir(), *folder.glob("vectors-*")]:
        if path not in own_paths:
            path.unlink()
    return document


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keeps a second command off an index that is being changed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"another command is changing the index in {str(folder)!r}: wait for it to end"
            ) from error
        yield
