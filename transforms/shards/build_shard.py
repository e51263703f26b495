"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET

from alignset.transforms.columns.rejects import (
    REJECTED,
    rejected_rows,
    with_columns,
    without_contents,
)
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.fetching.fetch import Fetched, fetch_all
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import step_of
from alignset.transforms.shards.arrivals import Arrivals
from alignset.transforms.shards.descriptors import write_descriptors
from alignset.transforms.shards.image_places import stored_bodies
from alignset.transforms.shards.input_hashes import InputHashes
from alignset.transforms.shards.judge_custom import judge_custom
from alignset.transforms.shards.shard_examples import write_record
from alignset.transforms.shards.shard_files import TarWriter
from alignset.transforms.shards.shard_images import ShardImages
from alignset.transforms.shards.shard_pairs import ShardPairs, shared_images
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_samples import add_samples, write_answers, write_sidecar
from alignset.transforms.shards.shard_settings import ShardSettings
from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.shards.stated_opt_outs import reported_opt_outs
from alignset.transforms.storage.files import PieceFile
from alignset.transforms.storage.parquet_files import parquet_file

TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
ANSWERS_FILE = "answers.parquet"
RECORD, THUMBNAILS, DESCRIPTORS = "record.json", "record.thumbnails", "descriptors.parquet"


def build_shard(
    number: int,
    table: pa.Table,
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
      table: columns key (uint64, ascending), url, caption, and perhaps page_url, what the page
        states, and the places of stored images, as for `stored_bodies`.
      evaluation: the index of evaluation images, if there are any.
      count: called with the number of pairs that are fetched or failed.
      nearly_taken: set when the next shard may begin.
    """
    # Of a retry, pairs come here that were never asked of its lists.
    urls, texts = (table[name].combine_chunks() for name in ("url", "caption"))
    blocked = settings.blocklists.of_pairs(urls, texts, table["key"].to_numpy())
    wanted, hashes = blocked.is_null().to_numpy(zero_copy_only=False), None
    if settings.rules.verified:
        hashes = InputHashes(*settings.rules.verified, table)
        wanted &= ~hashes.bad
    shared = shared_images(table, wanted)
    images = ShardImages(len(shared.rows), settings, folder)
    asked = table.take(pa.array(shared.rows))
    with Arrivals(images, evaluation, shared.counted(count)) as arrivals:
        arrivals.take_in(_bodies(asked, settings, nearly_taken))
        pairs = ShardPairs(table, shared, images, blocked, arrivals.judged(), hashes)
    judge_custom(pairs)
    with PieceFile(folder / TAR, "wb") as sink:
        tar = TarWriter(sink)
        samples = add_samples(tar, pairs)
        sha256_of_tar = tar.finish()
    write_sidecar(samples, folder / SIDECAR, pairs)
    write_answers(pairs, folder / ANSWERS_FILE)
    if settings.descriptors and number < HOLDOUT:
        write_descriptors(pairs, folder / DESCRIPTORS)
    _write_rejects(pairs, folder)
    write_record(pairs, folder / RECORD, folder / THUMBNAILS)
    images.spool.close()
    sha256, size = sha256_of_tar if samples else None, images.bytes_fetched
    stats = shard_stats(number, pairs.reasons, pairs.details, size=size, sha256=sha256)
    return dataclasses.replace(stats, opted_out=reported_opt_outs(samples) or UNSET)


def _bodies(pairs: pa.Table, settings: ShardSettings, nearly_taken: Event) -> Iterator[Fetched]:
    """What is stored in shards already, then what is fetched; screened where that is asked for."""
    bodies = _unscreened(pairs, settings, nearly_taken)
    return settings.screen(bodies, pairs["url"].to_pylist()) if settings.screen else bodies


def _unscreened(pairs: pa.Table, settings: ShardSettings, nearly_taken: Event) -> Iterator[Fetched]:
    how = settings.fetch, nearly_taken, settings.blocklists.of_url
    if "source_path" not in pairs.column_names:
        yield from fetch_all(pairs["url"].to_pylist(), *how)
        return
    is_stored = pairs["source_path"].is_valid().to_numpy()
    for rows in filter(len, (np.flatnonzero(is_stored), np.flatnonzero(~is_stored))):
        part = pairs.take(pa.array(rows))
        if is_stored[rows[0]]:
            bodies = stored_bodies(part, settings.fetch.max_image_bytes)
        else:
            bodies = fetch_all(part["url"].to_pylist(), *how)
        for fetched in bodies:
            yield dataclasses.replace(fetched, index=int(rows[fetched.index]))
    nearly_taken.set()


def _write_rejects(pairs: ShardPairs, folder: Path) -> None:
    settings, sizes = pairs.images.settings, pairs.sizes
    (whole,) = pairs.table.combine_chunks().to_batches()
    reasons, details = pa.array(pairs.reasons, pa.string()), pa.array(pairs.details, pa.string())
    measures = (
        pairs.measures
        | pairs.of_languages
        | pairs.carried
        | {
            side: pa.array([size and size[place] for size in sizes], pa.int32())
            for place, side in enumerate(("width", "height"))
        }
    )
    schema, steps = with_columns(REJECTED, pairs.rules.written_columns), step_of(pairs.rules.images)
    with parquet_file(str(folder / REJECTS), schema, str(folder)) as rejects:
        rows = rejected_rows(whole, reasons, details, steps, measures, schema)
        if settings.forget_blocked:
            rows = without_contents(rows, pc.equal(rows["reason"], given.BLOCKED))
        rejects.write(rows)
