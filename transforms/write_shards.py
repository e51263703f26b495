"""The image plane: one shard is one element; a worker fetches, measures, judges and writes it."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms import reasons as r
from transforms.evaluation import Hashed, evaluation_distances, evaluation_reasons
from transforms.fetch import Fetched, FetchSettings, fetch_all
from transforms.files import exists, is_local, open_to_read, publish, write_atomically
from transforms.image_size import size_reasons
from transforms.images import Image, Unusable, examine
from transforms.plan_shards import plan_path
from transforms.rejects import key_column, rejected_rows, write_rejected
from transforms.resize import Encoder, EncodingError, ResizeSettings
from transforms.shard_files import SHARD_SCHEMA, Spool, TarWriter
from transforms.threads import in_threads

Stats = dict[str, Any]
LOG = logging.getLogger("alignset")
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class ImageRules:
    """The numbers by which images are judged."""

    min_side: int
    max_aspect: float
    min_evaluation_distance: int


class _Looked(NamedTuple):
    """One fetched URL, looked at."""

    fetched: Fetched
    image: Image | Unusable | None  # None where the fetch failed
    sha256: str | None


def _look(fetched: Fetched) -> _Looked:
    if fetched.body is None:
        return _Looked(fetched, None, None)
    return _Looked(fetched, examine(fetched.body), hashlib.sha256(fetched.body).hexdigest())


def stored_bodies(pairs: pa.Table) -> Iterator[Fetched]:
    """The images of pairs that come from shards, read from where they are.

    Args:
      pairs: columns source_path (string), source_at and source_size (int64: place in the file).
    """
    rows = pairs.select(["source_path", "source_at", "source_size"])
    order = pc.sort_indices(rows, [("source_path", "ascending"), ("source_at", "ascending")])
    path, source = None, None
    try:
        for index in order.to_pylist():
            row = rows.slice(index, 1).to_pylist()[0]
            if source is None or row["source_path"] != path:
                if source is not None:
                    source.close()
                path, source = row["source_path"], open_to_read(row["source_path"])
            source.seek(row["source_at"])
            yield Fetched(index, source.read(row["source_size"]), None)
    finally:
        if source is not None:
            source.close()


def _bodies(pairs: pa.Table, settings: FetchSettings) -> Iterator[Fetched]:
    if "source_path" in pairs.column_names:
        return stored_bodies(pairs)
    return fetch_all(pairs["url"].to_pylist(), settings)


class _Measured(NamedTuple):
    """The images of one shard, as columns in the order of its pairs."""

    columns: dict[str, list[Any]]
    places: list[tuple[int, int]]  # in the spool
    bytes_fetched: int


def _measure(bodies: Iterable[Fetched], size: int, spool: Spool) -> _Measured:
    """Looks at each image as it arrives and puts its bytes aside."""
    names = ("width", "height", "phash", "sha256", "reason", "detail", "image")
    columns: dict[str, list[Any]] = {name: [None] * size for name in names}
    places = [(0, 0)] * size
    bytes_fetched = 0
    begun = told = time.monotonic()
    for done, (fetched, image, sha256) in enumerate(in_threads(_look, bodies)):
        now = time.monotonic()
        if now - told > SECONDS_BETWEEN_LINES:
            LOG.info("%d of %d images, %.0f a second", done, size, done / (now - begun))
            told = now
        row = fetched.index
        columns["sha256"][row] = sha256
        if image is None:
            columns["reason"][row], columns["detail"][row] = r.FETCH_FAILED, fetched.detail
        elif isinstance(image, Unusable):
            columns["reason"][row], columns["detail"][row] = image.reason, image.detail
        else:
            columns["width"][row], columns["height"][row] = image.width, image.height
            columns["phash"][row] = image.phash
            columns["image"][row] = image
            places[row] = spool.put(fetched.body or b"")
        bytes_fetched += len(fetched.body or b"")
    return _Measured(columns, places, bytes_fetched)


class _Judged(NamedTuple):
    """Why each image of a shard is dropped, or null; and how near it is to evaluation images."""

    reasons: pa.StringArray
    distances: pa.Array  # int32[n], bits; null where there is no image or nothing to be near to


def _judge(columns: dict[str, list[Any]], rules: ImageRules, evaluation: np.ndarray) -> _Judged:
    width = pa.array(columns["width"], pa.int32())
    height = pa.array(columns["height"], pa.int32())
    phashes = np.array([phash or 0 for phash in columns["phash"]], np.uint64)
    unknown = np.array([phash is None for phash in columns["phash"]], np.bool_)
    if not len(evaluation):
        unknown[:] = True
    distances = pa.array(evaluation_distances(phashes, evaluation), mask=unknown)
    reasons = pc.coalesce(
        pa.array(columns["reason"], pa.string()),
        size_reasons(width, height, min_side=rules.min_side, max_aspect=rules.max_aspect),
        evaluation_reasons(distances, min_distance=rules.min_evaluation_distance),
    )
    return _Judged(reasons, distances)


class _WriteShard(beam.DoFn):
    def __init__(
        self,
        plan: str,
        out: str,
        rules: ImageRules,
        fetch: FetchSettings,
        resize: ResizeSettings,
    ) -> None:
        self.plan, self.out = plan, out
        self.rules, self.fetch, self.resize = rules, fetch, resize

    def setup(self) -> None:
        self.encoder = Encoder(self.resize)

    def process(self, shard: int, evaluation: list[Hashed]) -> Iterator[Stats]:
        stats_path = f"{self.out}/shards/{shard:05d}_stats.json"
        if exists(stats_path):  # written last, so the shard is whole
            with open_to_read(stats_path) as source:
                yield json.load(source)
            return
        with open_to_read(plan_path(self.plan, shard)) as source:
            pairs = pq.read_table(source)
        hashes = np.array([h for file in evaluation for h in file.phashes], np.uint64)
        scratch = str(Path(self.plan).parent) if is_local(self.plan) else None
        with tempfile.TemporaryDirectory(prefix="shard-", dir=scratch) as folder:
            stats = self._write(shard, pairs, np.unique(hashes), Path(folder))
        text = json.dumps(stats, indent=2, sort_keys=True).encode()
        write_atomically(stats_path, lambda sink: sink.write(text))
        LOG.info("shard %05d: kept %d of %d", shard, stats["successes"], stats["count"])
        yield stats

    def _write(self, shard: int, pairs: pa.Table, evaluation: np.ndarray, folder: Path) -> Stats:
        spool = Spool(folder / "spool")
        measured = _measure(_bodies(pairs, self.fetch), len(pairs), spool)
        columns = measured.columns
        judged = _judge(columns, self.rules, evaluation)
        shown = pairs.set_column(0, "key", key_column(pairs["key"].to_numpy()))
        kept = np.flatnonzero(judged.reasons.is_null().to_numpy(zero_copy_only=False))
        tar = folder / "shard.tar"
        with tar.open("wb") as sink:
            writer = TarWriter(sink)
            rows, failed = self._add_samples(writer, shown, kept, measured, judged, spool)
            tar_sha256 = writer.finish()
        spool.close()
        reasons, details = judged.reasons.to_pylist(), columns["detail"]
        for row in failed:
            reasons[row], details[row] = r.UNDECODABLE, "unwritable"
        whole = pairs.select(["key", "url", "caption"]).combine_chunks().to_batches()
        if whole:
            why, detail = pa.array(reasons, pa.string()), pa.array(details, pa.string())
            rejected = pa.Table.from_batches([rejected_rows(whole[0], why, detail)])
            write_rejected(rejected, f"{self.out}/rejected/images-{shard:05d}.parquet")
        table = pa.Table.from_pylist(rows, SHARD_SCHEMA)
        base = f"{self.out}/shards/{shard:05d}"
        write_atomically(
            f"{base}.parquet", lambda sink: pq.write_table(table, sink, compression="zstd")
        )
        publish(tar, f"{base}.tar")
        return _stats(shard, reasons, details, measured.bytes_fetched, tar_sha256)

    def _add_samples(
        self,
        writer: TarWriter,
        pairs: pa.Table,
        kept: np.ndarray,
        measured: _Measured,
        judged: _Judged,
        spool: Spool,
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Writes the kept images in the order of their keys; those that cannot be encoded are
        returned as row numbers."""
        columns = measured.columns
        rows, failed = [], []
        texts = pairs.select(["key", "url", "caption"]).take(pa.array(kept)).to_pylist()
        distances = judged.distances.to_pylist()
        images = ((columns["image"][row], spool.get(measured.places[row])) for row in kept)
        for row, text, encoded in zip(kept, texts, in_threads(self._encode, images), strict=True):
            if encoded is None:
                failed.append(int(row))
                continue
            body, extension, width, height = encoded
            sample = text | {
                "status": "success",
                "error_message": None,
                "width": width,
                "height": height,
                "original_width": columns["width"][row],
                "original_height": columns["height"][row],
                "sha256": columns["sha256"][row],
                "phash": format(columns["phash"][row], "016x"),
                "unsafe_score": None,
                "evaluation_distance": distances[row],
            }
            writer.add_sample(sample, body, extension)
            rows.append(sample)
        return rows, failed

    def _encode(self, item: tuple[Image, bytes]) -> tuple[bytes, str, int, int] | None:
        image, body = item
        try:
            return self.encoder(body, image)
        except EncodingError:
            return None


def _stats(
    shard: int, reasons: list[str | None], details: list[str | None], size: int, sha256: str
) -> Stats:
    """img2dataset's stats without its clock, so that a shard's files are always the same, and
    the counts of the funnel."""
    counts = Counter(reason or "success" for reason in reasons)
    status = Counter(
        "success" if reason is None else f"{reason}: {detail}" if detail else reason
        for reason, detail in zip(reasons, details, strict=True)
    )
    return {
        "shard": shard,
        "count": len(reasons),
        "successes": counts["success"],
        "failed_to_download": counts[r.FETCH_FAILED],
        "failed_to_resize": counts[r.NOT_AN_IMAGE] + counts[r.UNDECODABLE],
        "bytes_downloaded": size,
        "status_dict": dict(sorted(status.items())),
        "reasons": {reason: n for reason, n in sorted(counts.items()) if reason != "success"},
        "sha256": sha256,
    }


@dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Numbers of shards to their files, and to their stats. A finished shard is not done again.

    Args:
      plan: the folder in which `PlanShards` listed their pairs.
      out: the output folder.
      evaluation: a PCollection of `Hashed`.
    """

    plan: str
    out: str
    rules: ImageRules
    fetch: FetchSettings
    resize: ResizeSettings
    evaluation: beam.PCollection

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        write = _WriteShard(self.plan, self.out, self.rules, self.fetch, self.resize)
        return shards | beam.Reshuffle() | beam.ParDo(write, beam.pvalue.AsList(self.evaluation))
