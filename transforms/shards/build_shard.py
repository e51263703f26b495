"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import UNSET

from transforms.blocklists.blocklists import NO_LISTS, Blocklists
from transforms.columns import reasons as r
from transforms.columns.pair_columns import PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT
from transforms.columns.rejects import REJECTED, key_column, rejected_rows, without_contents
from transforms.decontamination.evaluation_index import EvaluationIndex
from transforms.fetching.fetch import Fetched, FetchSettings, fetch_all
from transforms.images.resize import Encoded, ResizeSettings
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
from transforms.shards.shared_images import (
    DonePairs,
    SafeEncoder,
    SharedImages,
    encoded_once,
    shared_images,
)
from transforms.shards.stated_wishes import (
    StatedWishes,
    joined_opt_outs,
    reported_opt_outs,
    write_answers,
)
from transforms.storage.parquet_files import parquet_file

TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
ANSWERS_FILE = "answers.parquet"
RECORD, THUMBNAILS = "record.json", "record.thumbnails"
# What a pair brings with it into its sample.
_OF_SOURCE = ("key", "url", "caption", PAGE_URL, SOURCE_LICENSE, SOURCE_OPTED_OUT)


@dataclass(frozen=True)
class ShardSettings:
    """How images are fetched, judged and stored; scored where there is a model.

    Attributes:
      forget_blocked: whether the rows of what is on a blocklist hold neither URL nor text.
      thumbnails: examples of each kind that have a picture in the report.
    """

    rules: ImageRules
    fetch: FetchSettings
    resize: ResizeSettings
    unsafe_model: UnsafeModel | None = None
    blocklists: Blocklists = NO_LISTS
    forget_blocked: bool = False
    thumbnails: int = 0


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
    shown = pairs.set_column(0, "key", key_column(keys))
    encoder = SafeEncoder(settings.resize)
    with (folder / TAR).open("wb") as sink:
        tar = TarWriter(sink)
        rows, unwritable = _add_samples(tar, shown, images, measured, verdicts, spool, encoder)
        sha256 = tar.finish()
    _write_sidecar(rows, folder)
    reasons, details = _ends(verdicts, unwritable)
    of_rows = _spread(images, measured)
    sizes = {side: pa.array(of_rows.columns[side], pa.int32()) for side in ("width", "height")}
    _write_rejects(pairs, reasons, details, verdicts.measures | sizes, settings, folder)
    ends = ShardPairs(keys, urls, texts, reasons, details, of_rows, verdicts.measures)
    write_record(ends, rules, spool, settings.thumbnails, folder / RECORD, folder / THUMBNAILS)
    spool.close()
    stats = shard_stats(
        number, reasons, details, size=measured.bytes_fetched, sha256=sha256 if rows else None
    )
    return dataclasses.replace(stats, opted_out=reported_opt_outs(rows) or UNSET)


def _ends(
    verdicts: _Verdicts, unwritable: Iterable[int]
) -> tuple[list[str | None], list[str | None]]:
    """Reasons and details of all pairs; some turned out not to be writable."""
    reasons, details = verdicts.reasons.to_pylist(), verdicts.details.to_pylist()
    for row in unwritable:
        reasons[row], details[row] = r.UNDECODABLE, "unwritable"
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
    size_rule = {"min_side": rules.min_side, "max_aspect": rules.max_aspect}
    search = EvaluationSearch(evaluation, asked, **size_rule)
    wishes = StatedWishes(settings.fetch, asked)
    bodies = _bodies(pairs, settings, nearly_taken)
    with ImageScores(settings.unsafe_model, spool, **size_rule) as scores:
        measured = measure_images(bodies, spool, count, scores, search, wishes, settings.blocklists)
        unsafe_scores = scores.finish(measured.columns, lambda waiting: count(asked - waiting))
    judged = judge_images(measured, rules, search, spool, unsafe_scores)
    judged.measures.update(wishes.columns())
    return measured, judged


class _Verdicts(NamedTuple):
    """What became of each pair, and what was measured of its image, by column."""

    reasons: pa.StringArray
    details: pa.StringArray
    measures: dict[str, pa.Array]


def _of_pairs(
    images: SharedImages, blocked: pa.StringArray, measured: Measured, judged: Judged
) -> _Verdicts:
    """The verdicts on images as those on pairs; a pair that is on a list by itself is blocked."""
    on_list = blocked.is_valid()
    details = images.spread(pa.array(measured.columns["detail"], pa.string()))
    return _Verdicts(
        pc.if_else(on_list, r.BLOCKED, images.spread(judged.reasons)),
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


def _add_samples(
    tar: TarWriter,
    pairs: pa.Table,
    images: SharedImages,
    measured: Measured,
    verdicts: _Verdicts,
    spool: Spool,
    encoder: SafeEncoder,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Adds the kept images to a tar in the order of their keys.

    Returns:
      the rows of the sidecar, and the numbers of the pairs whose images cannot be encoded.
    """
    columns = measured.columns
    kept = np.flatnonzero(verdicts.reasons.is_null().to_numpy(zero_copy_only=False))
    names = [name for name in _OF_SOURCE if name in pairs.column_names]
    texts = pairs.select(names).take(pa.array(kept)).to_pylist()
    measures = [name for name in verdicts.measures if name in (*SHARD_SCHEMA.names, "answer")]

    def encode(wanted: Iterable[int]) -> Iterable[Encoded | None]:
        bodies = ((columns["image"][at], spool.get(measured.places[at])) for at in wanted)
        return encoder.map(encoder, bodies)

    of_kept = images.of_pairs[kept].tolist()
    encodings = encoded_once(of_kept, encode, spool)
    rows, unwritable = [], []
    for row, image, text, encoded in zip(kept, of_kept, texts, encodings, strict=True):
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
                "original_width": columns["width"][image],
                "original_height": columns["height"][image],
                "sha256": columns["sha256"][image],
                "phash": format(columns["phash"][image], "016x"),
                **{name: verdicts.measures[name][row].as_py() for name in measures},
            }
        )
        _add_statements(sample)
        tar.add_sample(sample, encoded.body, encoded.extension)
        rows.append(sample)
    return rows, unwritable


def _write_sidecar(rows: list[dict[str, Any]], folder: Path) -> None:
    """Writes the sidecar of some samples, and the answers by which they came."""
    table = pa.Table.from_pylist(rows, SHARD_SCHEMA)
    pq.write_table(table, folder / SIDECAR, compression="zstd")
    write_answers([row["answer"] for row in rows if row["answer"]], folder / ANSWERS_FILE)


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
    settings: ShardSettings,
    folder: Path,
) -> None:
    (whole,) = pairs.combine_chunks().to_batches()
    why, detail = pa.array(reasons, pa.string()), pa.array(details, pa.string())
    with parquet_file(str(folder / REJECTS), REJECTED, str(folder)) as rejects:
        rows = rejected_rows(whole, why, detail, r.STEP_OF_IMAGES, measures)
        if settings.forget_blocked:
            rows = without_contents(rows, pc.equal(rows["reason"], r.BLOCKED))
        rejects.write(rows)
