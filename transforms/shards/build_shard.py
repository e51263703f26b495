"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import UNSET

from transforms.columns import reasons as r
from transforms.columns.pair_columns import PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT
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
from transforms.shards.shard_files import SHARD_SCHEMA, Spool, TarWriter
from transforms.shards.shard_stats import ShardStats, shard_stats
from transforms.shards.stated_wishes import (
    StatedWishes,
    joined_opt_outs,
    reported_opt_outs,
    write_answers,
)
from transforms.storage.parquet_files import parquet_file
from transforms.workers.threads import in_threads
from transforms.workers.unexpected import tell_once

TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
ANSWERS_FILE = "answers.parquet"


@dataclass(frozen=True)
class ShardSettings:
    """How images are fetched, judged and stored; scored where there is a model."""

    rules: ImageRules
    fetch: FetchSettings
    resize: ResizeSettings
    unsafe_model: UnsafeModel | None = None


# What a pair brings with it into its sample.
_OF_SOURCE = ("key", "url", "caption", PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT)


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
    nearly_taken: Event,
) -> ShardStats:
    """Fetches, measures, judges and encodes the images of a shard; writes its tar, its sidecar and
    its rejects to a folder, and the answers by which kept images came. Where nothing is kept, only
    the rejects are to be published.

    Args:
      number: of the shard.
      pairs: columns key (uint64, ascending), url, caption, and perhaps page_url, what the page
        states, and the places of stored images, as for `stored_bodies`.
      evaluation: the index of evaluation images, if there are any.
      count: told how many pairs are fetched, or have failed.
      nearly_taken: set when the next shard may begin.
    """
    spool = Spool(folder / "spool")
    bodies, rules = _bodies(pairs, settings.fetch, nearly_taken), settings.rules
    size_rule = {"min_side": rules.min_side, "max_aspect": rules.max_aspect}
    search = EvaluationSearch(evaluation, len(pairs), **size_rule)
    wishes = StatedWishes(settings.fetch, len(pairs))
    with ImageScores(settings.unsafe_model, spool, **size_rule) as scores:
        measured = measure_images(bodies, len(pairs), spool, count, scores, search, wishes)
        unsafe_scores = scores.finish(measured.columns, lambda waiting: count(len(pairs) - waiting))
    judged = judge_images(measured, rules, search, spool, unsafe_scores)
    judged.measures.update(wishes.columns())
    shown = pairs.set_column(0, "key", key_column(pairs["key"].to_numpy()))
    encoder = _SafeEncoder(settings.resize)
    with (folder / TAR).open("wb") as sink:
        tar = TarWriter(sink)
        rows, unwritable = _add_samples(tar, shown, measured, judged, spool, encoder)
        sha256 = tar.finish()
    spool.close()
    reasons, details = judged.reasons.to_pylist(), list(measured.columns["detail"])
    for row in unwritable:
        reasons[row], details[row] = r.UNDECODABLE, "unwritable"
    _write_rejects(pairs, reasons, details, judged.measures, folder)
    table = pa.Table.from_pylist(rows, SHARD_SCHEMA)
    pq.write_table(table, folder / SIDECAR, compression="zstd")
    write_answers([row["answer"] for row in rows if row["answer"]], folder / ANSWERS_FILE)
    stats = shard_stats(
        number, reasons, details, size=measured.bytes_fetched, sha256=sha256 if rows else None
    )
    return dataclasses.replace(stats, opted_out=reported_opt_outs(rows) or UNSET)


def _bodies(pairs: pa.Table, settings: FetchSettings, nearly_taken: Event) -> Iterator[Fetched]:
    """What is stored in shards already, then what is fetched."""
    if "source_path" not in pairs.column_names:
        yield from fetch_all(pairs["url"].to_pylist(), settings, nearly_taken)
        return
    stored = pairs["source_path"].is_valid().to_numpy()
    for rows in filter(len, (np.flatnonzero(stored), np.flatnonzero(~stored))):
        part = pairs.take(pa.array(rows))
        if stored[rows[0]]:
            bodies = stored_bodies(part, settings.max_image_bytes)
        else:
            bodies = fetch_all(part["url"].to_pylist(), settings, nearly_taken)
        for fetched in bodies:
            yield dataclasses.replace(fetched, index=int(rows[fetched.index]))
    nearly_taken.set()


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
    names = [name for name in _OF_SOURCE if name in pairs.column_names]
    texts = pairs.select(names).take(pa.array(kept)).to_pylist()
    images = ((columns["image"][row], spool.get(measured.places[row])) for row in kept)
    measures = [name for name in judged.measures if name in (*SHARD_SCHEMA.names, "answer")]
    rows, unwritable = [], []
    for row, text, encoded in zip(kept, texts, encoder.map(encoder, images), strict=True):
        if encoded is None:
            unwritable.append(int(row))
            continue
        sample = (
            dict.fromkeys(_OF_SOURCE)
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
        _add_statements(sample)
        tar.add_sample(sample, encoded.body, encoded.extension)
        rows.append(sample)
    return rows, unwritable


def _add_statements(sample: dict[str, Any]) -> None:
    """Completes what is stated of a sample: by its page, and of where its image is from."""
    sample["page_license"] = sample.pop(SOURCE_LICENSE)
    opt_outs = (sample.pop(SOURCE_OPTED_OUT), sample["opted_out"])
    sample["opted_out"] = joined_opt_outs(",".join(filter(None, opt_outs)).split(","))
    if sample["answer"]:
        sample["answer"] |= {"key": sample["key"], "url": sample["url"]}


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
        rejects.write(rejected_rows(whole, why, detail, r.STEP_OF_IMAGES, measures))
