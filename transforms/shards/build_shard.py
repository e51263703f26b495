"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here.

A shard is one table of its pairs, to which each step adds columns:

1. `listed`: what pairs say alone gives the first `reason` and `detail`: blocklists, bad hashes.
2. `take_in`: the images of the others come, one for all pairs with its URL, and fill their columns.
3. `with_images`: pairs get the columns of their images, and what keeps them out.
4. `judge`: the rules compare the measures with their thresholds.
5. `judge_custom`: rules of users see the images and texts that are left.
6. The files are selections of the columns: tar, sidecar and responses of pairs without a reason,
   `rejected/` of those with one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.arrivals import joined_opt_outs, screened, take_in
from alignset.transforms.arrivals.images import Images
from alignset.transforms.arrivals.score_images import MOST_SHOWN
from alignset.transforms.arrivals.shard_settings import ShardSettings
from alignset.transforms.arrivals.sharing import (
    SharedImages,
    bad_hashes,
    input_hashes,
    shared_images,
    stored_rows,
)
from alignset.transforms.arrivals.stored_images import stored_bodies, with_stored_evidence
from alignset.transforms.columns.carried import carried_columns
from alignset.transforms.columns.pair_columns import SOURCE_OPTED_OUT
from alignset.transforms.columns.rejects import (
    REJECTED,
    rejected_rows,
    with_columns,
    with_values,
    without_contents,
)
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.fetching.fetch import Fetched, fetch_all
from alignset.transforms.images.displayed_picture import Pixels, rgb_pixels
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import limits, step_of
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.verdicts import faults, first_of
from alignset.transforms.shards.descriptors import descriptors_path, write_descriptors
from alignset.transforms.shards.dropped_thumbnails import dropped_thumbnails, rule_rows
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_samples import write_responses, write_samples
from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.storage.parquet_files import parquet_file
from alignset.transforms.workers.attempts import DONE

TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
_PICTURES_AT_ONCE = 32
RESPONSES_FILE, DESCRIPTORS = "responses.parquet", "descriptors.parquet"
BAD_HASH = "bad_hash"


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
    pairs: pa.Table,
    settings: ShardSettings,
    evaluation: EvaluationIndex | None,
    folder: Path,
    count: Callable[[int], None],
    nearly_taken: Event,
    *,
    is_suspect: bool = False,
) -> ShardStats:
    """Fetches, measures, judges and encodes the images of a shard; writes its tar, its sidecar and
    its rejects to a folder, and the answers by which kept images came; where nothing is kept, only
    its rejects.

    Args:
      number: of the shard.
      pairs: columns key (uint64, ascending), url, caption, and perhaps page_url, what the page
        states, and the places of stored images, as for `stored_bodies`.
      evaluation: the index of evaluation images, if there are any.
      count: called with the number of pairs that are fetched or failed.
      nearly_taken: set when the next shard may begin.
      is_suspect: whether an image crashes its decoder, perhaps.
    """
    rules, pairs = settings.rules, listed(pairs.combine_chunks(), settings)
    sharing = shared_images(pairs, pairs["reason"].is_null().to_numpy(zero_copy_only=False))
    asked = pairs.take(pa.array(sharing.rows))
    images = Images(len(asked), folder, rules.computed_columns)
    bodies = _bodies(asked, settings, nearly_taken)
    if is_suspect:
        bodies = screened(bodies, asked["url"].to_pylist(), settings.resize)
    count_pairs = lambda done: count(done * len(pairs) // max(1, len(asked)))  # noqa: E731
    take_in(bodies, images, settings, evaluation, count_pairs)
    pairs = with_stored_evidence(with_images(pairs, images, sharing, evaluation))
    pairs = judge_custom(judge(pairs, rules), images, rules)
    unwritable, sha256 = write_samples(pairs, images, settings, folder / TAR, folder / SIDECAR)
    is_unwritable = np.isin(np.arange(len(pairs)), unwritable)
    pairs = drop(pairs, pa.array(is_unwritable), given.UNDECODABLE, "unwritable")
    kept = pairs.filter(pairs["reason"].is_null())
    if sha256:
        write_responses(kept, folder / RESPONSES_FILE)
    if settings.descriptors and number < HOLDOUT:
        write_descriptors(kept, images, folder / DESCRIPTORS)
    _write_rejects(pairs, images, settings, folder)
    images.spool.close()
    reasons, details = (pairs[name].to_pylist() for name in ("reason", "detail"))
    return shard_stats(
        *(number, reasons, details),
        size=images.bytes_fetched,
        sha256=sha256,
        opted_out=kept["opted_out"].to_pylist(),
    )


def listed(pairs: pa.Table, settings: ShardSettings) -> pa.Table:
    """Pairs with `reason`, `detail` and `input_hash`. On lists are pairs of a retry, too, which
    were never asked of its lists."""
    urls, texts = (pairs[name].combine_chunks() for name in ("url", "caption"))
    lists = settings.blocklists.match_pairs(urls, texts, pairs["key"].to_numpy())
    hashes = input_hashes(pairs, settings.rules.verified)
    none = pa.nulls(len(pairs), pa.string())
    pairs = with_values(pairs, {"reason": none, "detail": none, "input_hash": hashes})
    pairs = drop(pairs, lists.is_valid(), given.BLOCKED, lists)
    return drop(pairs, bad_hashes(hashes, settings.rules.verified), given.HASH_MISMATCH, BAD_HASH)


def drop(
    pairs: pa.Table,
    which: pa.BooleanArray,
    reasons: str | pa.Array,
    details: str | pa.Array | None = None,
) -> pa.Table:
    """Drops some pairs for a reason each, but those that were dropped before.

    Args:
      which: bool[n]. reasons, details: of each pair, string[n], or of all.

    >>> pairs = pa.table({"reason": ["blocked", None, None], "detail": ["mine:url", None, None]})
    >>> drop(pairs, pa.array([True, True, False]), "too_small")["reason"].to_pylist()
    ['blocked', 'too_small', None]
    """
    which = pc.and_(pc.fill_null(which, False), pairs["reason"].is_null())
    new = {"reason": reasons, "detail": details}
    for name, values in new.items():
        if not isinstance(values, pa.Array):
            values = pa.scalar(values, pa.string())
        new[name] = pc.if_else(which, values, pairs[name])
    return with_values(pairs, new)


def _bodies(pairs: pa.Table, settings: ShardSettings, nearly_taken: Event) -> Iterator[Fetched]:
    how, is_stored = (
        (settings.fetch, nearly_taken, settings.blocklists.match_url),
        stored_rows(pairs),
    )
    for rows in filter(len, (np.flatnonzero(is_stored), np.flatnonzero(~is_stored))):
        part = pairs.take(pa.array(rows))
        if is_stored[rows[0]]:
            bodies = stored_bodies(part, settings.fetch.max_image_bytes)
        else:
            bodies = fetch_all(part["url"].to_pylist(), *how)
        for arrival in bodies:
            yield dataclasses.replace(arrival, index=int(rows[arrival.index]))
    nearly_taken.set()


def with_images(
    pairs: pa.Table,
    images: Images,
    sharing: SharedImages,
    evaluation: EvaluationIndex | None,
) -> pa.Table:
    """Pairs with the columns of their images, null where there is none, and `image`, its row; a
    column that came with the pairs stays. Those are dropped whose image was dropped, or is not the
    file that the input means.

    An image that is stored may be resized, and is compared with no hash.
    """
    columns = {name: pa.array(images[name], kind) for name, kind in images.types.items()}
    columns |= evaluation.columns(images["nearest"]) if evaluation is not None else {}
    columns["is_stored"] = pa.array(stored_rows(pairs)[sharing.rows])
    columns = {name: column.take(sharing.of_pairs) for name, column in columns.items()}
    reasons, details = columns.pop("reason"), columns.pop("detail")
    named = {name: column for name, column in columns.items() if name not in pairs.column_names}
    pairs = with_values(pairs, named | {"image": sharing.of_pairs})
    if SOURCE_OPTED_OUT in pairs.column_names:
        both = (pairs[name].to_pylist() for name in (SOURCE_OPTED_OUT, "opted_out"))
        texts = [",".join(filter(None, details)) for details in zip(*both, strict=True)]
        opted_out = [joined_opt_outs(text.split(",")) for text in texts]
        pairs = with_values(pairs, {"opted_out": pa.array(opted_out, pa.string())})
    pairs = drop(pairs, pc.equal(reasons, given.BLOCKED), reasons, details)
    differs = pc.not_equal(pairs["digest"], pairs["input_hash"])
    pairs = drop(pairs, pc.and_not(differs, pairs["is_stored"]), given.HASH_MISMATCH)
    return drop(pairs, reasons.is_valid(), reasons, details)


def judge(pairs: pa.Table, rules: RuleSettings) -> pa.Table:
    """Drops the pairs that rules of images drop, each for the first of them."""
    entries = [limit for limit in limits(rules.catalogue.images) if limit.stage < Stage.PAIR]
    reasons = first_of(faults(entries, rule_rows(pairs, rules), rules.numbers))
    return drop(pairs, reasons.is_valid(), reasons)


def judge_custom(pairs: pa.Table, images: Images, rules: RuleSettings) -> pa.Table:
    """Drops the pairs that rules of users drop, and adds what these measured."""
    if not rules.computed_columns:
        return pairs
    rows, texts = rule_rows(pairs, rules), pairs["caption"].to_pylist()
    failed_rule = np.array(pairs["failed_rule"].to_pylist(), object)
    for limit in rules.computing(Stage.TEXT):  # a text that was kept has passed them
        rows[limit.measure.column] = computed(limit, Rows(text=texts), len(texts))[0]
    pair_rules = rules.computing(Stage.PAIR)
    for limit in pair_rules:
        rows[limit.measure.column] = np.full(len(texts), np.nan)

    def measure(part: list[int], pictures: Sequence[Pixels]) -> None:
        inputs = Rows(pixels=[*pictures], text=[texts[pair] for pair in part])
        pair_rows = np.array(part, np.int64)
        for limit in pair_rules:
            values, failures = computed(limit, inputs, len(part))
            rows[limit.measure.column][pair_rows] = values
            failed_rule[pair_rows[failures]] = limit.name

    kept = pc.and_(pairs["reason"].is_null(), pairs["failed_rule"].is_null())
    part, pictures, size = list[int](), list[Pixels](), 0
    for pair in pc.indices_nonzero(kept).to_pylist() if pair_rules else ():
        # What all other rules keep is known by now, and its picture gone.
        body, _ = images.stored_file(pairs["image"][pair].as_py())
        image = examine(body, keep_picture=True, hashed=False)
        if isinstance(image, Image) and image.picture:
            part.append(pair)
            pictures.append(rgb_pixels(image.picture))
            size += pictures[-1].nbytes
        else:  # it was decoded once: whatever this is, is new
            failed_rule[pair] = pair_rules[-1].name
        if len(part) == _PICTURES_AT_ONCE or size >= MOST_SHOWN:
            measure(part, pictures)
            part, pictures, size = [], [], 0
    if part:
        measure(part, pictures)
    rows[given.RULE_FAILED] = np.array([name is not None for name in failed_rule], np.bool_)
    columns = {name: pa.array(rows[name], from_pandas=True) for name in rules.computed_columns}
    pairs = with_values(pairs, columns)
    entries = [*pair_rules, given.OF_FAILED_IMAGE_RULES]
    reasons = first_of(faults(entries, rows, rules.numbers))
    is_failed = pc.equal(reasons, given.RULE_FAILED)
    names = pc.if_else(is_failed, pa.array(failed_rule, pa.string()), pa.scalar(None, pa.string()))
    return drop(pairs, reasons.is_valid(), reasons, names)


def _write_rejects(pairs: pa.Table, images: Images, settings: ShardSettings, folder: Path) -> None:
    rules, (rows,) = settings.rules, pairs.to_batches()
    measures = {name: rows[name] for name in rows.schema.names} | {
        **carried_columns(rows, rules.carried),
        "width": rows["original_width"],
        "height": rows["original_height"],
        "thumbnail": dropped_thumbnails(pairs, images, rules, settings.thumbnails),
    }
    schema, steps = with_columns(REJECTED, rules.written_columns), step_of(rules.catalogue.images)
    with parquet_file(str(folder / REJECTS), schema, str(folder)) as rejects:
        rows = rejected_rows(rows, rows["reason"], rows["detail"], steps, measures, schema)
        if settings.forget_blocked:
            rows = without_contents(rows, pc.equal(rows["reason"], given.BLOCKED))
        rejects.write(rows)
