"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
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
from alignset.transforms.images.displayed_picture import Pixels, rgb_pixels
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import step_of
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.rule import Limit, Rows, Stage
from alignset.transforms.rules.verdicts import faults, first_of
from alignset.transforms.shards.arrivals import Arrivals
from alignset.transforms.shards.descriptors import descriptors_path, write_descriptors
from alignset.transforms.shards.dropped_thumbnails import dropped_thumbnails
from alignset.transforms.shards.image_places import stored_bodies
from alignset.transforms.shards.score_images import FAILED_RULE, MOST_SHOWN
from alignset.transforms.shards.shard_files import TarWriter
from alignset.transforms.shards.shard_images import ShardImages
from alignset.transforms.shards.shard_pairs import (
    InputHashes,
    ShardPairs,
    shared_images,
    stored_rows,
)
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_samples import add_samples, write_responses, write_sidecar
from alignset.transforms.shards.shard_settings import ShardSettings
from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.shards.stated_opt_outs import reported_opt_outs
from alignset.transforms.shards.stored_evidence import stored_evidence
from alignset.transforms.storage.files import PieceFile
from alignset.transforms.storage.parquet_files import parquet_file
from alignset.transforms.workers.attempts import DONE

TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
_PICTURES_AT_ONCE = 32
RESPONSES_FILE, DESCRIPTORS = "responses.parquet", "descriptors.parquet"


def places_of(number: int, out: str, settings: ShardSettings) -> dict[str, str]:
    """Where each file belongs that `build_shard` may write; rejects first, so that no pair is ever
    lost, and the stats last."""
    to = ShardPlaces(out)
    places = {REJECTS: to.rejected(number), SIDECAR: to.sidecar(number), TAR: to.tar(number)}
    places[RESPONSES_FILE] = to.responses(number)
    if settings.descriptors:
        places[DESCRIPTORS] = descriptors_path(settings.descriptors, number)
    return places | {DONE: to.stats(number)}


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
    its rejects to a folder, and the answers by which kept images came; where nothing is kept, only
    its rejects.

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
    list_details = settings.blocklists.match_pairs(urls, texts, table["key"].to_numpy())
    to_fetch, hashes = list_details.is_null().to_numpy(zero_copy_only=False), None
    if settings.rules.verified:
        hashes = InputHashes(*settings.rules.verified, table)
        to_fetch &= ~hashes.bad
    sharing = shared_images(table, to_fetch)
    if hashes:
        hashes.leave_out_stored(table, sharing)
    images = ShardImages(len(sharing.rows), settings, folder)
    first_pairs = table.take(pa.array(sharing.rows))
    with Arrivals(images, evaluation, sharing.pair_counter(count)) as arrivals:
        bodies = _unscreened(first_pairs, settings, nearly_taken)
        arrivals.take_in(
            settings.screen(bodies, first_pairs["url"].to_pylist()) if settings.screen else bodies
        )
        pairs = ShardPairs(table, sharing, images, list_details, arrivals.judge(), hashes)
    pairs.add_evidence(stored_evidence(table))
    judge_custom(pairs)
    with PieceFile(folder / TAR, "wb") as sink:
        tar = TarWriter(sink)
        samples = add_samples(tar, pairs)
        sha256_of_tar = tar.finish()
    if samples:
        write_sidecar(samples, folder / SIDECAR, pairs)
        write_responses(pairs, folder / RESPONSES_FILE)
    else:
        (folder / TAR).unlink()
    if settings.descriptors and number < HOLDOUT:
        write_descriptors(pairs, folder / DESCRIPTORS)
    _write_rejects(pairs, folder)
    images.spool.close()
    sha256, size = sha256_of_tar if samples else None, images.bytes_fetched
    stats = shard_stats(number, pairs.reasons, pairs.details, size=size, sha256=sha256)
    return dataclasses.replace(stats, opted_out=reported_opt_outs(samples) or UNSET)


def _unscreened(pairs: pa.Table, settings: ShardSettings, nearly_taken: Event) -> Iterator[Fetched]:
    how = settings.fetch, nearly_taken, settings.blocklists.match_url
    is_stored = stored_rows(pairs)
    if not is_stored.any():
        yield from fetch_all(pairs["url"].to_pylist(), *how)
        return
    for rows in filter(len, (np.flatnonzero(is_stored), np.flatnonzero(~is_stored))):
        part = pairs.take(pa.array(rows))
        if is_stored[rows[0]]:
            bodies = stored_bodies(part, settings.fetch.max_image_bytes)
        else:
            bodies = fetch_all(part["url"].to_pylist(), *how)
        for arrival in bodies:
            yield dataclasses.replace(arrival, index=int(rows[arrival.index]))
    nearly_taken.set()


def _write_rejects(pairs: ShardPairs, folder: Path) -> None:
    settings, sizes = pairs.images.settings, pairs.sizes
    (whole,) = pairs.table.combine_chunks().to_batches()
    reasons, details = pa.array(pairs.reasons, pa.string()), pa.array(pairs.details, pa.string())
    measures = {
        **pairs.measures,
        **pairs.of_languages,
        **pairs.carried,
        "width": pa.array([size and size[0] for size in sizes], pa.int32()),
        "height": pa.array([size and size[1] for size in sizes], pa.int32()),
        "thumbnail": dropped_thumbnails(pairs),
    }
    schema, steps = with_columns(REJECTED, pairs.rules.written_columns), step_of(pairs.rules.images)
    with parquet_file(str(folder / REJECTS), schema, str(folder)) as rejects:
        rows = rejected_rows(whole, reasons, details, steps, measures, schema)
        if settings.forget_blocked:
            rows = without_contents(rows, pc.equal(rows["reason"], given.BLOCKED))
        rejects.write(rows)


def judge_custom(pairs: ShardPairs) -> None:
    """Drops the pairs that rules of users drop, and adds what these measured."""
    rules, texts = pairs.rules, pairs.captions
    if not rules.columns:
        return
    rows = Rows()
    failed_rule = np.array(pairs.measures[FAILED_RULE].to_pylist(), object)
    for limit in rules.computing(Stage.TEXT):  # a text that was kept has passed them
        rows[limit.measure.column] = computed(limit, Rows(text=texts.to_pylist()), len(texts))[0]
    own = rules.computing(Stage.PAIR)
    alive = [pair for pair in pairs.kept_pairs.tolist() if failed_rule[pair] is None]
    for limit in own:
        rows[limit.measure.column] = np.full(len(texts), np.nan)
    if own:
        part, pictures, size = list[int](), list[Pixels](), 0
        for count, pair in enumerate(alive, 1):
            # What all other rules keep is known by now, and its picture gone.
            image = examine(pairs.stored_file(pair)[0], keep_picture=True, hashed=False)
            if isinstance(image, Image) and image.picture:
                part.append(pair)
                pictures.append(rgb_pixels(image.picture))
                size += pictures[-1].nbytes
            else:  # it was decoded once: whatever this is, is new
                failed_rule[pair] = own[-1].name
            if len(part) == _PICTURES_AT_ONCE or size >= MOST_SHOWN or count == len(alive):
                _ask(own, part, pictures, texts, rows, failed_rule)
                part, pictures, size = [], [], 0
    rows[given.RULE_FAILED] = np.array([name is not None for name in failed_rule], np.bool_)
    all_faults = faults([*own, given.OF_FAILED_IMAGE_RULES], rows, rules.numbers)
    for pair, reason in enumerate(first_of(all_faults).to_pylist()):
        if reason is not None:
            pairs.drop(pair, reason, failed_rule[pair] if reason == given.RULE_FAILED else None)
    pairs.measures |= {
        name: pa.array(rows[name], from_pandas=True) for name in rules.columns if name in rows
    }


def _ask(
    own: list[Limit],
    part: list[int],
    pictures: Sequence[Pixels],
    texts: pa.StringArray,
    rows: Rows,
    failed_rule: npt.NDArray[Any],
) -> None:
    """Puts what the rules measure of some pairs into their rows."""
    inputs = Rows(pixels=[*pictures], text=[texts[row].as_py() for row in part])
    places = np.array(part, np.int64)
    for limit in own:
        values, failures = computed(limit, inputs, len(part))
        rows[limit.measure.column][places] = values
        failed_rule[places[failures]] = limit.name
