"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.columns import reasons as r
from transforms.columns.pair_columns import PAGE_URL
from transforms.columns.rejects import REJECTED, key_column, rejected_rows
from transforms.decontamination.evaluation_index import EvaluationIndex
from transforms.fetching.fetch import Fetched, FetchSettings, fetch_all
from transforms.images.examine import Image, turn_of
from transforms.images.resize import Encoded, Encoder, EncodingError, ResizeSettings
from transforms.safety.model_files import UnsafeModel
from transforms.shards.evaluation_search import EvaluationSearch
from transforms.shards.measure_images import (
    ImageRules,
    Judged,
    Measured,
    judge_images,
    measure_images,
    stored_bodies,
)
from transforms.shards.score_images import ImageScores
from transforms.shards.shard_examples import write_record
from transforms.shards.shard_files import SHARD_SCHEMA, Spool, TarWriter
from transforms.shards.shard_record import ShardPairs
from transforms.shards.shard_stats import ShardStats, shard_stats
from transforms.storage.parquet_files import parquet_file
from transforms.workers.threads import in_threads
from transforms.workers.unexpected import tell_once

TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
RECORD, THUMBNAILS = "record.json", "record.thumbnails"


@dataclass(frozen=True)
class ShardSettings:
    """How images are fetched, judged and stored; scored where there is a model.

    Attributes:
      thumbnails: examples of each kind that have a picture in the report.
    """

    rules: ImageRules
    fetch: FetchSettings
    resize: ResizeSettings
    unsafe_model: UnsafeModel | None = None
    thumbnails: int = 0


class _SafeEncoder:
    """Encodes images for the shard. Whatever one makes an encoder raise costs that one alone."""

    def __init__(self, settings: ResizeSettings) -> None:
        self._encode = Encoder(settings)
        # Bytes that stay as they are need no second core.
        self.map = map if settings.resize_mode == "original" else in_threads

    def __call__(self, item: tuple[Image, bytes]) -> Encoded | None:
        image, body = item
        try:
            with turn_of(image.width * image.height):
                return self._encode(body, image)
        except EncodingError:
            return None
        except Exception as error:
            tell_once("encoding an image", error)
            return None


def build_shard(
    number: int,
    pairs: pa.Table,
    settings: ShardSettings,
    evaluation: EvaluationIndex | None,
    folder: Path,
    count: Callable[[int], None],
) -> ShardStats:
    """Fetches, measures, judges and encodes the images of a shard; writes its tar, its sidecar and
    its rejects to a folder. Where nothing is kept, only the rejects are to be published.

    Args:
      number: of the shard.
      pairs: columns key (uint64, ascending), url, caption, and perhaps page_url and the places of
        stored images, as for `stored_bodies`.
      evaluation: the index of evaluation images, if there are any.
      count: told how many pairs are fetched, or have failed.
    """
    spool = Spool(folder / "spool")
    bodies, rules = _bodies(pairs, settings.fetch), settings.rules
    size_rule = {"min_side": rules.min_side, "max_aspect": rules.max_aspect}
    search = EvaluationSearch(evaluation, len(pairs), **size_rule)
    with ImageScores(settings.unsafe_model, spool, **size_rule) as scores:
        measured = measure_images(bodies, len(pairs), spool, count, scores, search)
        unsafe_scores = scores.finish(measured.columns, lambda waiting: count(len(pairs) - waiting))
    judged = judge_images(measured, rules, search, spool, unsafe_scores)
    shown = pairs.set_column(0, "key", key_column(pairs["key"].to_numpy()))
    encoder = _SafeEncoder(settings.resize)
    with (folder / TAR).open("wb") as sink:
        tar = TarWriter(sink)
        rows, unwritable = _add_samples(tar, shown, measured, judged, spool, encoder)
        sha256 = tar.finish()
    reasons, details = judged.reasons.to_pylist(), list(measured.columns["detail"])
    for row in unwritable:
        reasons[row], details[row] = r.UNDECODABLE, "unwritable"
    sizes = {side: pa.array(measured.columns[side], pa.int32()) for side in ("width", "height")}
    _write_rejects(pairs, reasons, details, judged.measures | sizes, folder)
    ends = ShardPairs(*_columns(pairs), reasons, details, measured, judged.measures)
    write_record(ends, rules, spool, settings.thumbnails, folder / RECORD, folder / THUMBNAILS)
    spool.close()
    table = pa.Table.from_pylist(rows, SHARD_SCHEMA)
    pq.write_table(table, folder / SIDECAR, compression="zstd")
    return shard_stats(
        number, reasons, details, size=measured.bytes_fetched, sha256=sha256 if rows else None
    )


def _bodies(pairs: pa.Table, settings: FetchSettings) -> Iterator[Fetched]:
    """What is stored in shards already, then what is fetched."""
    if "source_path" not in pairs.column_names:
        yield from fetch_all(pairs["url"].to_pylist(), settings)
        return
    stored = pairs["source_path"].is_valid().to_numpy()
    for rows in filter(len, (np.flatnonzero(stored), np.flatnonzero(~stored))):
        part = pairs.take(pa.array(rows))
        if stored[rows[0]]:
            bodies = stored_bodies(part, settings.max_image_bytes)
        else:
            bodies = fetch_all(part["url"].to_pylist(), settings)
        for fetched in bodies:
            yield dataclasses.replace(fetched, index=int(rows[fetched.index]))


def _add_samples(
    tar: TarWriter,
    pairs: pa.Table,
    measured: Measured,
    judged: Judged,
    spool: Spool,
    encoder: _SafeEncoder,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Adds the kept images to a tar in the order of their keys.

    Returns:
      the rows of the sidecar, and the numbers of the pairs whose images cannot be encoded.
    """
    columns = measured.columns
    kept = np.flatnonzero(judged.reasons.is_null().to_numpy(zero_copy_only=False))
    names = [name for name in ("key", "url", "caption", PAGE_URL) if name in pairs.column_names]
    texts = pairs.select(names).take(pa.array(kept)).to_pylist()
    images = ((columns["image"][row], spool.get(measured.places[row])) for row in kept)
    measures = [name for name in judged.measures if name in SHARD_SCHEMA.names]
    rows, unwritable = [], []
    for row, text, encoded in zip(kept, texts, encoder.map(encoder, images), strict=True):
        if encoded is None:
            unwritable.append(int(row))
            continue
        sample = (
            {PAGE_URL: None}
            | text
            | {
                "status": "success",
                "error_message": None,
                "width": encoded.width,
                "height": encoded.height,
                "original_width": columns["width"][row],
                "original_height": columns["height"][row],
                "sha256": columns["sha256"][row],
                "phash": format(columns["phash"][row], "016x"),
                **{name: judged.measures[name][row].as_py() for name in measures},
            }
        )
        tar.add_sample(sample, encoded.body, encoded.extension)
        rows.append(sample)
    return rows, unwritable


def _columns(pairs: pa.Table) -> tuple[npt.NDArray[np.uint64], pa.StringArray, pa.StringArray]:
    (whole,) = pairs.combine_chunks().to_batches()
    return whole["key"].to_numpy(), whole["url"], whole["caption"]


def _write_rejects(
    pairs: pa.Table,
    reasons: list[str | None],
    details: list[str | None],
    measures: dict[str, pa.Array],
    folder: Path,
) -> None:
    (whole,) = pairs.combine_chunks().to_batches()
    why, detail = pa.array(reasons, pa.string()), pa.array(details, pa.string())
    with parquet_file(str(folder / REJECTS), REJECTED, str(folder)) as rejects:
        rejects.write(rejected_rows(whole, why, detail, measures))
