"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET

from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.columns.rejects import (
    REJECTED,
    key_column,
    rejected_rows,
    with_columns,
    without_contents,
)
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.fetching.fetch import Fetched, fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import RunRules, step_of
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.shards.evaluation_search import EvaluationSearch
from alignset.transforms.shards.judge_custom import judge_custom
from alignset.transforms.shards.measure_images import (
    Judged,
    Measured,
    judge_images,
    measure_images,
    stored_bodies,
)
from alignset.transforms.shards.score_images import ImageScores
from alignset.transforms.shards.shard_examples import write_record
from alignset.transforms.shards.shard_files import Spool, TarWriter
from alignset.transforms.shards.shard_record import ShardPairs
from alignset.transforms.shards.shard_samples import (
    Verdicts,
    add_samples,
    write_sample_answers,
    write_sidecar,
)
from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.shards.shared_images import (
    DonePairs,
    SafeEncoder,
    SharedImages,
    shared_images,
)
from alignset.transforms.shards.stated_wishes import StatedWishes, reported_opt_outs
from alignset.transforms.storage.files import PieceFile
from alignset.transforms.storage.parquet_files import parquet_file

TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
ANSWERS_FILE = "answers.parquet"
RECORD, THUMBNAILS = "record.json", "record.thumbnails"


@dataclass(frozen=True)
class ShardSettings:
    """How images are fetched, judged and stored; scored where there is a model.

    Attributes:
      forget_blocked: whether the rows of what is on a blocklist hold neither URL nor text.
      thumbnails: examples of each kind that have a picture in the report.
      screen: gives the images that come, and their URLs, back with a detail for those that must not
        be decoded; None for shards that are not suspect.
    """

    rules: RunRules
    fetch: FetchSettings
    resize: ResizeSettings
    unsafe_model: UnsafeModel | None = None
    blocklists: Blocklists = NO_LISTS
    forget_blocked: bool = False
    thumbnails: int = 0
    screen: Callable[[Iterable[Fetched], Sequence[str]], Iterator[Fetched]] | None = None


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
    as_they_came = settings.resize.resize_mode == "original"
    spool, rules = Spool(folder / "spool", only_plain=as_they_came), settings.rules
    # Of a retry, pairs come here that were never asked of its lists.
    keys = pairs["key"].to_numpy()
    urls, texts = (pairs[name].combine_chunks() for name in ("url", "caption"))
    blocked = settings.blocklists.of_pairs(urls, texts, keys)
    images = shared_images(pairs, blocked.is_null().to_numpy(zero_copy_only=False))
    asked = pairs.take(pa.array(images.rows))
    told = DonePairs(count, len(pairs), len(asked))
    measured, judged = _look_at(asked, settings, evaluation, spool, told, nearly_taken)
    verdicts = _of_pairs(images, blocked, measured, judged)
    verdicts = judge_custom(verdicts, texts, images, measured, spool, rules)
    shown = pairs.set_column(0, "key", key_column(keys))
    encoder = SafeEncoder(settings.resize)
    with PieceFile(folder / TAR, "wb") as sink:
        tar = TarWriter(sink)
        samples = add_samples(tar, shown, images, measured, verdicts, spool, encoder)
        sha256_of_tar = tar.finish()
    write_sidecar(samples, folder / SIDECAR, rules.columns)
    write_sample_answers(samples, shown, verdicts, folder / ANSWERS_FILE)
    reasons, details = _ends(verdicts, samples.unwritable)
    of_rows = _spread(images, measured)
    sizes = {side: pa.array(of_rows.columns[side], pa.int32()) for side in ("width", "height")}
    _write_rejects(pairs, reasons, details, verdicts.measures | sizes, settings, folder)
    ends = ShardPairs(keys, urls, texts, reasons, details, of_rows, verdicts.measures)
    write_record(ends, rules, spool, settings.thumbnails, folder / RECORD, folder / THUMBNAILS)
    spool.close()
    sha256 = sha256_of_tar if samples.rows else None
    stats = shard_stats(number, reasons, details, size=measured.bytes_fetched, sha256=sha256)
    return dataclasses.replace(stats, opted_out=reported_opt_outs(samples.rows) or UNSET)


def _ends(
    verdicts: Verdicts, unwritable: Iterable[int]
) -> tuple[list[str | None], list[str | None]]:
    """Reasons and details of all pairs; some turned out not to be writable."""
    reasons, details = verdicts.reasons.to_pylist(), verdicts.details.to_pylist()
    for row in unwritable:
        reasons[row], details[row] = given.UNDECODABLE, "unwritable"
    return reasons, details


def _look_at(
    pairs: pa.Table,
    settings: ShardSettings,
    evaluation: EvaluationIndex | None,
    spool: Spool,
    count: Callable[[int], None],
    nearly_taken: Event,
) -> tuple[Measured, Judged]:
    """Fetches, measures, scores, compares and judges the image of each of some pairs."""
    asked, rules = len(pairs), settings.rules
    search = EvaluationSearch(evaluation, asked, rules)
    wishes = StatedWishes(settings.fetch, asked)
    bodies = _bodies(pairs, settings, nearly_taken)
    if settings.screen:
        bodies = settings.screen(bodies, pairs["url"].to_pylist())
    with ImageScores(settings.unsafe_model, spool, rules) as scores:
        measured = measure_images(bodies, spool, count, scores, search, wishes, settings.blocklists)
        unsafe_scores = scores.finish(measured.columns, lambda waiting: count(asked - waiting))
    custom = scores.custom_columns(asked) if rules.columns else {}
    judged = judge_images(measured, rules, search, spool, unsafe_scores, custom)
    judged.measures.update(wishes.columns())
    return measured, judged


def _of_pairs(
    images: SharedImages, blocked: pa.StringArray, measured: Measured, judged: Judged
) -> Verdicts:
    """The verdicts on images as those on pairs; a pair that is on a list by itself is blocked."""
    on_list = blocked.is_valid()
    details = images.spread(pa.array(measured.columns["detail"], pa.string()))
    return Verdicts(
        pc.if_else(on_list, given.BLOCKED, images.spread(judged.reasons)),
        pc.coalesce(blocked, details),
        {name: images.spread(column) for name, column in judged.measures.items()},
    )


def _spread(images: SharedImages, measured: Measured) -> Measured:
    """What was measured of images as columns of pairs; None where no image was asked for."""
    of_pairs = images.of_pairs.tolist()
    columns = {
        name: [values[at] if at >= 0 else None for at in of_pairs]
        for name, values in measured.columns.items()
        if name in ("image", "width", "height")
    }
    places = [measured.places[at] if at >= 0 else (0, 0) for at in of_pairs]
    return Measured(columns, places, measured.bytes_fetched)


def _bodies(pairs: pa.Table, settings: ShardSettings, nearly_taken: Event) -> Iterator[Fetched]:
    """What is stored in shards already, then what is fetched."""
    how = settings.fetch, nearly_taken, settings.blocklists.of_url
    if "source_path" not in pairs.column_names:
        yield from fetch_all(pairs["url"].to_pylist(), *how)
        return
    stored = pairs["source_path"].is_valid().to_numpy()
    for rows in filter(len, (np.flatnonzero(stored), np.flatnonzero(~stored))):
        part = pairs.take(pa.array(rows))
        if stored[rows[0]]:
            bodies = stored_bodies(part, settings.fetch.max_image_bytes)
        else:
            bodies = fetch_all(part["url"].to_pylist(), *how)
        for fetched in bodies:
            yield dataclasses.replace(fetched, index=int(rows[fetched.index]))
    nearly_taken.set()


def _write_rejects(
    pairs: pa.Table,
    reasons: list[str | None],
    details: list[str | None],
    measures: dict[str, pa.Array],
    settings: ShardSettings,
    folder: Path,
) -> None:
    (whole,) = pairs.combine_chunks().to_batches()
    why, detail = pa.array(reasons, pa.string()), pa.array(details, pa.string())
    schema, steps = with_columns(REJECTED, settings.rules.columns), step_of(settings.rules.images)
    with parquet_file(str(folder / REJECTS), schema, str(folder)) as rejects:
        rows = rejected_rows(whole, why, detail, steps, measures, schema)
        if settings.forget_blocked:
            rows = without_contents(rows, pc.equal(rows["reason"], given.BLOCKED))
        rejects.write(rows)
