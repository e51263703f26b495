"""Files of an index's folder, and how they are made.

    rows.parquet         texts, sizes, thumbnails and embeddings; its metadata is the document
    vectors-HASH.faiss   faiss's index of all rows, named by a hash of the vectors

`rows.parquet` appears whole, when faiss's file is there. A command that was killed leaves the
former index, and perhaps a file that the next command deletes. Images whose files are in the former
index keep their rows, and others are embedded.

Up to EXACT_ROWS all rows are compared. Beyond, faiss sorts rows into cells (an inverted file), and
compares a query with the rows of the nearest cells. Both hold vectors in half precision.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import faiss as typed_faiss
import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from alignset.called import give
from alignset.train.data.images import UPLOAD_PX, decode_image, parts_by_pixels
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.known_rows import WRITING, KnownRows
from alignset.train.search.pictures import (
    Picture,
    PictureSource,
    find_sources,
    manifest_hash,
    unread_pictures,
)

if TYPE_CHECKING:
    import torch

    from alignset.train.model.embed import DualEmbedder

FORMAT = 8
ROWS = "rows.parquet"
DOCUMENT = b"index"  # of the metadata
faiss: Any = typed_faiss  # its stubs lack much of what it has
EXACT_ROWS = 50_000  # 7 CPU-ms of 640 dimensions
_ROWS_A_CELL = 40  # to train a cell on; faiss warns below 39
_ROWS_ADDED = 1 << 14  # at once, since faiss takes them in single precision
CELL_SHARE = 1 / 10  # of the cells are searched for a query
_QUERIES = 200  # that recall is measured by
GROUP_ROWS = 256  # a thumbnail is read with all of its group: 1.5 MB in 0.3 ms
TELL_S = 10.0  # between two reports of progress, where there is no terminal
_KNOWN = ["width", "height", "phash", "image_sha256", "thumbnail", "vector"]
# Rows without their vectors, and float16[n, d], some at a time.
Tables = Iterator[tuple[pa.Table, np.ndarray]]


def row_schema(dimensions: int) -> pa.Schema:
    """The columns of the rows."""
    columns = {
        **dict.fromkeys(("key", "caption", "url", "host"), pa.string()),  # empty: unknown
        **dict.fromkeys(("width", "height"), pa.int32()),
        "unsafe_score": pa.float32(),  # null: not scored
        "phash": pa.uint64(),
        "image_sha256": pa.string(),
        "in_sidecar": pa.bool_(),  # whether the table beside its shard named it
        "thumbnail": pa.binary(),  # WebP
        "vector": pa.list_(pa.float16(), dimensions),  # of unit length
    }
    return pa.schema(
        [pa.field(name, kind, nullable=name == "unsafe_score") for name, kind in columns.items()]
    )


@dataclass
class IndexDocument:
    """Facts about an index.

    Attributes:
      model, digest: the name it was given by, and the hash of its weights and preprocessing.
      dimensions: of its embeddings. thumbnail_px: of the longer side of its thumbnails.
      sources: how many rows there are of each shard, or of a folder of images (with a slash at its
        end), in the order of the rows.
      manifests: SHA-256 of the manifest of each folder of shards or images, as it was read; empty
        where there was none.
      vectors: the name of faiss's file.
      factory: what faiss's index_factory makes the search of.
      recall: recall@10 of images of the index against a search of all rows.
    """

    model: str
    digest: str
    dimensions: int
    sources: dict[str, int]
    manifests: dict[str, str]
    thumbnail_px: int
    vectors: str = ""
    factory: str = ""
    recall: float = 1.0
    format: int = FORMAT

    @property
    def rows(self) -> int:
        return sum(self.sources.values())

    @property
    def kind(self) -> str:
        """ "exact", or "cells" where only the nearest cells of many are searched."""
        return "cells" if self.factory.startswith("IVF") else "exact"


def factory_for(rows: int) -> str:
    """faiss's name of the index that so many rows get.

    >>> factory_for(50_000), factory_for(1_000_000)
    ('SQfp16', 'IVF4096,SQfp16')
    """
    if rows <= EXACT_ROWS:
        return "SQfp16"
    cells = min(1 << round(math.log2(4 * math.sqrt(rows))), max(1, rows // _ROWS_A_CELL))
    return f"IVF{cells},SQfp16"


def read_faiss_index(path: Path) -> Any:
    """The index in a file, which anybody may have written; raises RuntimeError where it is none."""
    limits = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    try:  # faiss would make room for what a file says
        _limit_faiss(*[path.stat().st_size] * 2)
        index = faiss.read_index(str(path))
    finally:
        _limit_faiss(*limits)
    if not isinstance(index, faiss.IndexScalarQuantizer | faiss.IndexIVFScalarQuantizer):
        raise RuntimeError("it is an index of another kind")
    return index


def _limit_faiss(vector_bytes: int, loops: int) -> None:
    faiss.set_deserialization_vector_byte_limit(vector_bytes)
    faiss.set_deserialization_loop_limit(loops)


def make_faiss_index(vectors: np.ndarray, factory: str) -> Any:
    """faiss's index of all rows.

    Args:
      vectors: float16[n, d].
    """
    count, dimensions = vectors.shape
    index = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.by_residual = False  # half precision of the vectors themselves, as in the rows
        step = max(1, count // (_ROWS_A_CELL * index.nlist))
        index.train(vectors[::step].astype(np.float32))
    for first in range(0, count, _ROWS_ADDED):
        index.add(vectors[first : first + _ROWS_ADDED].astype(np.float32))
    return index


class Neighbours:
    """Finds the nearest rows of a query. Several threads may use it at once."""

    def __init__(self, index: Any, cell_share: float = CELL_SHARE):
        self._index, self._cell_share = index, cell_share
        self._cells: int = getattr(index, "nlist", 0)  # 0: all rows are compared
        if self._cells:
            index.make_direct_map()  # of rows to their cells, for `vectors_of`

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """int64[m] -> float32[m, d]."""
        vectors: np.ndarray = self._index.reconstruct_batch(rows)
        return vectors

    def nearest(
        self, query: np.ndarray, k: int, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows, the nearest first; fewer where fewer may be found.

        Args:
          query: float32[d], unit length.
          mask: bool[n], the rows that may be found; None: all.

        Returns:
          float32[m] of cosines and int64[m] of rows.
        """
        total = fitting = len(self)
        options: dict[str, Any] = {}
        if mask is not None:
            fitting = int(np.count_nonzero(mask))
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        k = min(k, fitting)
        if not k:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        # Fewer rows of each cell may be found: more cells are searched.
        probes = min(self._cells, math.ceil(self._cells * self._cell_share * total / fitting))
        for nprobe in (probes, self._cells):
            parameters = faiss.SearchParameters(**options)
            if self._cells:
                parameters = faiss.SearchParametersIVF(nprobe=nprobe, **options)
            scores, rows = (
                found[0] for found in self._index.search(query[None], k, params=parameters)
            )
            # What passes a filter may lie far off all together: then all cells are searched.
            if (rows >= 0).all():
                break
        order = np.lexsort((rows, -scores))
        return scores[order], rows[order]


def measured_recall(index: Any) -> float:
    """The share of the ten nearest of all cells that a search finds, for rows of the index."""
    some, every = Neighbours(index), Neighbours(index, cell_share=1.0)
    sample = np.linspace(0, len(some) - 1, min(_QUERIES, len(some))).astype(np.int64)
    near = [(some.nearest(q, 10)[1], every.nearest(q, 10)[1]) for q in some.vectors_of(sample)]
    return sum(len(np.intersect1d(*pair)) for pair in near) / sum(len(of) for _, of in near)


def make_index(
    folder: Path,
    sources: list[PictureSource],
    model: DualEmbedder,
    *,
    batch_size: int = 32,
    thumbnail_px: int = 256,
    threads: int = 1,
    tell: Callable[[int], object] = lambda count: None,
) -> tuple[IndexDocument, Counter[str]]:
    """Makes an index of these sources, in place of the one that is there.

    Args:
      tell: gets how many samples more were read.

    Returns:
      facts about the index, and the number of samples that are left out by reason.

    Raises:
      SettingsError: nothing could be taken in.
      TrainingError: a source cannot be read, an embedding has no length, or another command works
        on the index.
    """
    from alignset.train.model.embed import embed_ahead, finite  # only now: torch is slow

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"another command is making the index in {str(folder)!r}: wait for it to end"
            ) from error
        # Before the shards are read, which may change meanwhile.
        folders = dict.fromkeys(os.path.dirname(source.path) for source in sources)
        manifests = {path: manifest_hash(path) for path in folders}
        name = os.path.abspath(model.name) if os.path.isdir(model.name) else model.name
        counts = {source.path: 0 for source in sources}
        document = IndexDocument(name, model.digest, model.width, counts, manifests, thumbnail_px)
        marks = {"format": FORMAT, "digest": model.digest, "thumbnail_px": thumbnail_px}
        is_same = lambda m: marks.items() <= json.loads(m[DOCUMENT]).items()  # noqa: E731
        schema = row_schema(model.width)
        known = KnownRows(folder / ROWS, pa.schema([schema.field(of) for of in _KNOWN]), is_same)
        left_out, keys = Counter[str](), set[str]()
        size = batch_size * model.devices  # of images that are made small at once
        batches = (
            (source.path, batch)
            for source in sources
            for batch in parts_by_pixels(source.pictures(), size)
        )

        def read(batch: tuple[str, list[Picture]], pool: Executor) -> tuple[Any, list[Any]]:
            rows, images = list[dict[str, Any]](), list[Any]()
            known_rows = map(known.find, batch[1])
            looks = pool.map(partial(_look, thumbnail_px, model), batch[1], known_rows)
            for picture, (image, fields) in zip(batch[1], looks, strict=True):
                is_read = image is not None or "vector" in fields
                # A key counts once it was decoded: a whole image may follow a damaged one.
                if not is_read or picture.key in keys:
                    why = "repeated_key" if is_read else "undecodable"
                    left_out["no_image" if picture.data is None else why] += 1
                else:
                    keys.add(picture.key)
                    images += [] if image is None else [image]
                    rows.append(picture._replace(data=None)._asdict() | fields)
            return (*batch, rows), images

        def tables() -> Tables:
            known_count = 0
            ahead = embed_ahead(model, batches, read, threads=threads)
            for (path, batch, rows), vectors in ahead:
                if rows:
                    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
                    with np.errstate(invalid="ignore"):  # a vector of zeros is no direction
                        computed = iter(finite(vectors / lengths))
                    document.sources[path] += len(rows)
                    known_count += len(rows) - len(vectors)
                    table = pa.Table.from_pylist(rows, schema.remove(len(schema) - 1))
                    values = [row.get("vector") or next(computed) for row in rows]
                    yield table, np.array(values, np.float16)
                tell(len(batch))
            if not keys:
                reasons = ", ".join(f"{count} {why}" for why, count in left_out.items())
                raise SettingsError(
                    f"nothing could be taken into the index ({reasons or 'no samples'}): name "
                    "shards or a folder of images that can be opened"
                )
            if known_count:
                say(f"{known_count:,} of {document.rows:,} images were in the index before")

        write_index(folder, tables(), document)
    return document, left_out


def write_index(folder: Path, tables: Tables, document: IndexDocument) -> None:
    """Writes an index in place of the one that is there. Vectors are in memory once, in faiss's
    index.

    Args:
      document: says how many rows there are when the last was read; gets the facts of the search.
    """

    def write(file: IO[bytes]) -> None:
        held: list[pa.Table] = []
        schema = row_schema(document.dimensions)
        with (
            tempfile.TemporaryFile(dir=folder) as spool,
            pq.ParquetWriter(file, schema, **WRITING) as writer,
        ):
            for table, vectors in tables:
                spool.write(vectors.tobytes())
                held.append(
                    table.append_column(
                        schema.field("vector"),
                        pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1]),
                    )
                )
                if sum(map(len, held)) >= GROUP_ROWS:
                    writer.write_table(pa.concat_tables(held), GROUP_ROWS)
                    held.clear()
            if held:
                writer.write_table(pa.concat_tables(held), GROUP_ROWS)
            spool.flush()
            vectors = np.memmap(spool, np.float16, "r", shape=(document.rows, document.dimensions))
            document.factory = factory_for(document.rows)
            if document.kind == "cells":
                say(f"sorting {document.rows:,} rows into cells")
            index = make_faiss_index(vectors, document.factory)
            digest = hashlib.sha256(vectors)  # type: ignore[arg-type]
            document.vectors = f"vectors-{digest.hexdigest()[:16]}.faiss"
            write_whole(
                folder / document.vectors,
                lambda file: faiss.write_index(index, faiss.PyCallbackIOWriter(file.write)),
            )
            if document.kind == "cells":
                document.recall = round(measured_recall(index), 4)
            writer.add_key_value_metadata({DOCUMENT: json.dumps(dataclasses.asdict(document))})

    write_whole(folder / ROWS, write)
    for path in folder.glob("vectors-*.faiss*"):
        if path.name != document.vectors:
            path.unlink()


def _look(
    thumbnail_px: int, model: DualEmbedder, picture: Picture, known: dict[str, Any] | None
) -> tuple[torch.Tensor | None, dict[str, Any]]:
    """An image as it is embedded, if it can be decoded and is not known, and what its row says."""
    fields: dict[str, Any] = {"host": ""}  # in lower case, without the port
    with suppress(ValueError):
        fields["host"] = urlsplit(picture.url).hostname or ""
    if known:
        return None, fields | known
    fields["image_sha256"] = picture.image_sha256
    try:
        image = decode_image(picture.data or b"")
        small = image.copy()
        small.thumbnail((thumbnail_px, thumbnail_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
        thumbnail = io.BytesIO()
        small.save(thumbnail, "WEBP", quality=75, method=2)
        fields |= {"width": image.width, "height": image.height, "thumbnail": thumbnail.getvalue()}
        fields["phash"] = int(str(imagehash.phash(image)), 16)  # the first bit is the highest
        # A batch of whole photographs of 16 million pixels would take 1.6 GB.
        image.thumbnail((UPLOAD_PX, UPLOAD_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    except Exception:  # Pillow raises many kinds; one bad image is not a reason to stop
        return None, fields
    return model.prepare(image, picture.key), fields


def say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def run_index(flags: argparse.Namespace) -> int:
    """Makes an index, and prints what it is as one line of JSON."""
    from alignset.train.model.embed import open_embedder

    sources = find_sources(flags.data)
    model = open_embedder(flags.model)
    seconds = 0.5 if sys.stderr.isatty() else TELL_S
    with tqdm(unit=" samples", mininterval=seconds, delay=seconds, file=sys.stderr) as bar:
        document, left_out = make_index(
            flags.index,
            sources,
            model,
            batch_size=flags.batch_size,
            thumbnail_px=flags.thumbnail_px,
            threads=flags.threads,
            tell=bar.update,
        )
    count, unread = unread_pictures(flags.data)
    if unread:
        say(f"left out, since their formats are not read: {unread}; convert them to PNG or JPEG")
        left_out["other_format"] = count
    told = {"index": str(flags.index), "rows": document.rows, "left_out": dict(left_out)}
    told |= {"search": document.kind, "recall@10": document.recall, "model": document.model}
    give(told, json.dumps(told))
    return 0
