"""One shard: its pairs in, its files in a folder of this machine out. Nothing is published here.

A shard is one table of its pairs, to which each step adds columns:

1. `listed`: what pairs say alone gives the first `reason` and `detail`: blocklists, bad hashes.
2. `take_in`: the images of the others come, one for all pairs with its URL, and fill their columns.
3. `with_images`: pairs get the columns of their images, and what keeps them out.
4. `judge`: the rules compare the measures with their thresholds.
5. `judge_custom`: rules of users see the images and texts that are left.
6. The files are selections of the columns: tar and sidecar of pairs without a reason, `rejected/`
   of those with one. The ledger has the columns of the images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.arrivals import joined_opt_outs, screened, take_in
from alignset.transforms.arrivals.host_files import HostFiles
from alignset.transforms.arrivals.image_looks import descriptors_path, write_descriptors
from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.arrivals.images import (
    Images,
    SharedImages,
    bad_hashes,
    input_hashes,
    shared_images,
    stored_rows,
)
from alignset.transforms.arrivals.known_images import OF_EVALUATION, KnownSet, fetch_unknown
from alignset.transforms.arrivals.score_images import MOST_SHOWN
from alignset.transforms.arrivals.stored_images import SOURCE, stored_bodies
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.carried import CARRIED, carried_columns
from alignset.transforms.columns.pair_columns import LICENSES_OF_PAGES, SOURCE_OPTED_OUT, SOURCE_RSL
from alignset.transforms.columns.records import (
    BOXES,
    LEDGER,
    REJECTED,
    RESPONSE,
    RULE_COLUMN,
    THUMBNAIL_PX,
    clear_contents,
    extend_schema,
    fill_columns,
    key_column,
    key_hashes,
    least_rows,
    nearest_rows,
    pages_of,
    rejected_rows,
    set_columns,
)
from alignset.transforms.columns.web_urls import request_url
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.images.blur import BAD_BOXES, Boxes, boxes_hash, joined_boxes, read_boxes
from alignset.transforms.images.decode import Pixels, rgb_pixels
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.opt_outs.host_statements import license_urls, record_page
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import limits, step_of
from alignset.transforms.rules.custom import OF_IMAGES, UserRows, computed
from alignset.transforms.rules.rule import Stage
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.thresholds import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.verdicts import faults, first_of, rule_rows, user_rows, values_of
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.shards.shard_files import write_ledger_rows
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_samples import write_samples
from alignset.transforms.shards.shard_stats import Asked, ShardStats, shard_stats
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.parquet_files import parquet_file
from alignset.transforms.workers.attempts import DONE
from alignset.transforms.workers.unexpected import tell_once

QUALITY = 75
_MOST_PIXELS = 1 << 23  # of an image that is not a JPEG, whose thumbnail would take 0.1 s
_MOST_PAGES, _MOST_LICENSES = 2, 16  # of a licence file; of an image, all together
_MOST_BYTES = 1 << 13  # of a thumbnail, which has 2,500


def dropped_thumbnails(
    pairs: pa.Table, images: Images, rules: RuleSettings, count: int
) -> pa.BinaryArray:
    """binary[n], JPEGs of all copies of evaluation images, and of a few examples of each other
    rule: `count` by the hashes of their keys, and half as many nearest to its threshold. Null
    elsewhere, so where an owner or a list keeps an image out."""
    hashes, rows = key_hashes(pairs["key"].to_numpy()), rule_rows(pairs, rules)
    reasons = np.array(pairs["reason"].to_pylist(), object)
    thumbnails: list[bytes | None] = [None] * len(pairs)
    for limit in limits(rules.catalogue.images):
        is_copy = limit.reason == MIN_EVALUATION_DISTANCE.reason
        chosen_rows = dropped = np.flatnonzero(reasons == limit.reason)
        if not is_copy:
            ranks = np.abs(values_of(limit, rows) - rules.numbers[limit.name])
            near = nearest_rows(ranks, hashes, dropped, (count + 1) // 2)
            chosen_rows = np.union1d(least_rows(hashes, dropped, count), near)
        for row in chosen_rows.tolist():
            number = pairs["image"][row].as_py()
            if images["file"][number] is None:  # another dataset knows that it is dropped
                continue
            try:
                body, image = images.stored_file(number)
                if is_copy:
                    thumbnails[row] = thumbnail(body)
                elif image.format == "jpeg" or image.width * image.height <= _MOST_PIXELS:
                    small = thumbnail(body, THUMBNAIL_PX, QUALITY)
                    thumbnails[row] = small if len(small) <= _MOST_BYTES else None
            except Exception as error:  # the pair is dropped all the same
                tell_once("making a thumbnail", error)
    return pa.array(thumbnails, pa.binary())


TAR, SIDECAR, REJECTS = "shard.tar", "shard.parquet", "rejected.parquet"
_PICTURES_AT_ONCE = 32
LEDGER_FILE, DESCRIPTORS = "ledger.parquet", "descriptors.parquet"
EVIDENCE_FILE = "evidence.parquet"
ASKED = "asked.json"
BAD_HASH = "bad_hash"


def places_of(number: int, out: str, settings: ImageSettings, descriptors: str) -> dict[str, str]:
    """Where each file belongs that `build_shard` may write; rejects first, so that no pair is ever
    lost, and the stats last."""
    to = ShardPlaces(out)
    places = {REJECTS: to.rejected(number), SIDECAR: to.sidecar(number), TAR: to.tar(number)}
    places |= {LEDGER_FILE: to.ledger(number), EVIDENCE_FILE: to.evidence(number)}
    if settings.writes_descriptors:
        places[DESCRIPTORS] = descriptors_path(descriptors, number)
    return places | {DONE: to.stats(number)}


def build_shard(
    number: int,
    pairs: pa.Table,
    settings: ImageSettings,
    blocklists: Blocklists,
    unsafe_model: UnsafeModel | None,
    known_sets: Sequence[KnownSet],
    evaluation: EvaluationIndex | None,
    folder: Path,
    count: Callable[[int], None],
    nearly_taken: Event,
    *,
    is_suspect: bool = False,
) -> ShardStats:
    """Fetches, measures, judges and encodes the images of a shard; writes its tar, its sidecar and
    its rejects to a folder, its ledger and its evidence; where nothing is kept, only the last 3.

    Args:
      number: of the shard.
      pairs: columns key (uint64, ascending), url, caption, and perhaps page_url, what the page
        states, and the places of stored images, as for `stored_bodies`.
      unsafe_model: scores images, where there is one.
      known_sets: datasets whose images are not requested again.
      evaluation: the index of evaluation images, if there are any.
      count: called with the number of pairs that are fetched or failed.
      nearly_taken: set when the next shard may begin.
      is_suspect: whether an image crashes its decoder, perhaps.
    """
    pairs = listed(pairs.combine_chunks(), settings, blocklists)
    boxes: list[Boxes | None] = []
    if settings.blur_boxes and CARRIED + settings.blur_boxes in pairs.column_names:
        boxes, is_bad = read_boxes(pairs[CARRIED + settings.blur_boxes].combine_chunks())
        pairs = drop(pairs, pa.array(is_bad), given.UNDECODABLE, BAD_BOXES)
    sharing = shared_images(pairs, pairs["reason"].is_null().to_numpy(zero_copy_only=False))
    places = [name for name in ("url", *SOURCE) if name in pairs.column_names]
    asked = pairs.select(places).take(pa.array(sharing.rows))  # without texts, for the memory
    images = Images(len(asked), folder, settings.computed_columns)
    note_boxes(images, boxes, sharing)
    if settings.rsl:
        note_pages(images, pairs, sharing)
    host_files = HostFiles(images.spool)
    index = evaluation.name if evaluation is not None else ""
    how = settings, blocklists, unsafe_model, known_sets, index, host_files
    bodies = _bodies(asked, images, nearly_taken, *how)
    if is_suspect:
        bodies = screened(bodies, asked["url"].to_pylist(), settings)
    count_pairs = lambda done: count(done * len(pairs) // max(1, len(asked)))  # noqa: E731
    take_in(bodies, images, settings, blocklists, unsafe_model, evaluation, count_pairs)
    pairs = join_images(pairs, images, sharing, evaluation)
    pairs = judge_custom(judge(pairs, settings), images, settings)
    unwritable, sha256 = write_samples(pairs, images, settings, folder / TAR, folder / SIDECAR)
    is_unwritable = np.isin(np.arange(len(pairs)), unwritable)
    pairs = drop(pairs, pa.array(is_unwritable), given.UNDECODABLE, "unwritable")
    kept = pairs.filter(pairs["reason"].is_null())
    write_ledger(asked["url"], kept, images, evaluation, settings, folder / LEDGER_FILE)
    if settings.evidence:
        host_files.write(folder / EVIDENCE_FILE)
    if settings.writes_descriptors and number < HOLDOUT:
        write_descriptors(kept, images, folder / DESCRIPTORS)
    _write_rejects(pairs, images, settings, folder)
    if known_sets:
        known = [image is not None for image in images["known"]]
        here = zip(images["bytes"], known, stored_rows(asked), strict=True)
        came = sum(size is not None and not (is_known or stored) for size, is_known, stored in here)
        write_document(str(folder / ASKED), Asked(came, sum(known)))
    images.spool.close()
    reasons, details = (pairs[name].to_pylist() for name in ("reason", "detail"))
    return shard_stats(
        *(number, reasons, details),
        size=images.bytes_fetched,
        sha256=sha256,
        opted_out=kept["opted_out"].to_pylist(),
    )


def note_boxes(images: Images, boxes: Sequence[Boxes | None], sharing: SharedImages) -> None:
    """Notes what is to be blurred in each image: the boxes of all pairs that share it.

    Args:
      boxes: of each pair, or nothing.
    """
    lists: dict[int, list[Boxes]] = {}
    for image, of_pair in zip(sharing.of_pairs.to_pylist() if boxes else (), boxes, strict=True):
        if image is not None and of_pair is not None:
            lists.setdefault(image, []).append(of_pair)
    for image, of_image in lists.items():
        images.note(image, boxes=joined_boxes(of_image))


def note_pages(images: Images, pairs: pa.Table, sharing: SharedImages) -> None:
    """Notes which licence files the pages of each image name, with at most two pages each."""
    if SOURCE_RSL not in pairs.column_names or pairs[SOURCE_RSL].null_count == len(pairs):
        return
    named: dict[int, dict[str, set[str]]] = {}
    columns = (pairs[SOURCE_RSL], pages_of(pairs), sharing.of_pairs)
    for texts, page, image in zip(*(of.to_pylist() for of in columns), strict=True):
        for file in license_urls((texts or "").split(), "") if image is not None else ():
            pages = named.setdefault(image, {}).setdefault(file, set())
            pages.add(request_url(page or "") or "")
    for image, files in named.items():
        lines = [
            record_page(of, by) for of in sorted(files) for by in sorted(files[of])[:_MOST_PAGES]
        ]
        images.note(image, pages="".join(lines[:_MOST_LICENSES]))


def listed(pairs: pa.Table, rules: RuleSettings, blocklists: Blocklists) -> pa.Table:
    """Pairs with `reason`, `detail` and `input_hash`."""
    urls, texts = (pairs[name].combine_chunks() for name in ("url", "caption"))
    lists = blocklists.match_pairs(urls, texts, pairs["key"].to_numpy())
    hashes = input_hashes(pairs, rules.verified)
    none = pa.nulls(len(pairs), pa.string())
    pairs = set_columns(pairs, {"reason": none, "detail": none, "input_hash": hashes})
    pairs = drop(pairs, lists.is_valid(), given.BLOCKED, lists)
    return drop(pairs, bad_hashes(hashes, rules.verified), given.HASH_MISMATCH, BAD_HASH)


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
    return set_columns(pairs, new)


def _bodies(
    pairs: pa.Table, images: Images, nearly_taken: Event, settings: ImageSettings, *how: Any
) -> Iterator[Fetched]:
    is_stored = stored_rows(pairs)
    stored, others = np.flatnonzero(is_stored), np.flatnonzero(~is_stored)
    if len(stored):
        part = pairs.take(pa.array(stored))
        for arrival in stored_bodies(part, settings.max_image_bytes):
            yield dataclasses.replace(arrival, index=int(stored[arrival.index]))
    if len(others):
        urls = pairs["url"].take(pa.array(others)).to_pylist()
        yield from fetch_unknown(urls, others.tolist(), images, nearly_taken, settings, *how)
    nearly_taken.set()


def join_images(
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
    columns = image_columns(images, evaluation)
    columns["is_stored"] = pa.array(stored_rows(pairs)[sharing.rows])
    columns = {name: column.take(sharing.of_pairs) for name, column in columns.items()}
    reasons, details = columns.pop("reason"), columns.pop("detail")
    named = {name: column for name, column in columns.items() if name not in pairs.column_names}
    pairs = set_columns(pairs, named | {"image": sharing.of_pairs})
    if SOURCE_OPTED_OUT in pairs.column_names:
        both = (pairs[name].to_pylist() for name in (SOURCE_OPTED_OUT, "opted_out"))
        texts = [",".join(filter(None, details)) for details in zip(*both, strict=True)]
        opted_out = [joined_opt_outs(text.split(",")) for text in texts]
        pairs = set_columns(pairs, {"opted_out": pa.array(opted_out, pa.string())})
    pairs = drop(pairs, pc.equal(reasons, given.BLOCKED), reasons, details)
    differs = pc.not_equal(pairs["digest"], pairs["input_hash"])
    pairs = drop(pairs, pc.and_not(differs, pairs["is_stored"]), given.HASH_MISMATCH)
    return drop(pairs, reasons.is_valid(), reasons, details)


def image_columns(images: Images, evaluation: EvaluationIndex | None) -> dict[str, pa.Array]:
    """The columns of m images that go to their pairs."""
    columns = {name: pa.array(images[name], kind) for name, kind in images.types.items()}
    if evaluation is None:
        return columns
    columns |= evaluation.columns(images["nearest"])
    known = [
        image.row if image and not image.is_looked_at and reason != given.BLOCKED else None
        for image, reason in zip(images["known"], images["reason"], strict=True)
    ]
    if any(known):
        is_known = pa.array([row is not None for row in known])
        for name in (name for name in columns if name in OF_EVALUATION):
            values = pa.array([row[name] if row else None for row in known], columns[name].type)
            columns[name] = pc.if_else(is_known, values, columns[name])
    return columns


def judge(pairs: pa.Table, rules: RuleSettings) -> pa.Table:
    """Drops the pairs that rules of images drop, each for the first of them."""
    entries = [limit for limit in limits(rules.catalogue.images) if limit.stage < Stage.PAIR]
    reasons = first_of(faults(entries, rule_rows(pairs, rules), rules.numbers))
    return drop(pairs, reasons.is_valid(), reasons)


def judge_custom(pairs: pa.Table, images: Images, rules: RuleSettings) -> pa.Table:
    """Drops the pairs that rules of users drop, and adds what these measured."""
    if not rules.computed_columns:
        return pairs
    rows, texts = rule_rows(pairs, rules), pairs["caption"].combine_chunks()
    columns = carried_columns(pairs, rules.carried) if rules.files else {}
    columns |= {"text": texts, "url": pairs["url"].combine_chunks()}
    columns["language"] = pairs["language"] if rules.has_vote else pa.nulls(len(texts), pa.string())
    columns["word_count"] = pa.array(measure_texts(texts, np.ones(len(texts), bool)).word_count)
    inputs = user_rows(rules, columns)
    failed_rule = np.array(pairs["failed_rule"].to_pylist(), object)
    for limit in rules.computing(Stage.TEXT):  # a text that was kept has passed them
        rows[limit.measure.column] = computed(limit, inputs, len(texts))[0]
        inputs[limit.measure.column] = rows[limit.measure.column]
    pair_rules = rules.computing(Stage.PAIR)
    for limit in pair_rules:
        rows[limit.measure.column] = np.full(len(texts), np.nan)

    inputs |= {name: rows[name] if name in rows else pairs[name].to_pylist() for name in OF_IMAGES}
    inputs |= {of.measure.column: rows[of.measure.column] for of in rules.computing(Stage.PIXELS)}

    def measure(part: list[int], pictures: Sequence[Pixels]) -> None:
        seen = UserRows({name: [of[pair] for pair in part] for name, of in inputs.items()})
        seen["pixels"] = [*pictures]
        pair_rows = np.array(part, np.int64)
        for limit in pair_rules:
            values, failures = computed(limit, seen, len(part))
            seen[limit.measure.column] = values
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
    measured = {name: pa.array(rows[name], from_pandas=True) for name in rules.computed_columns}
    pairs = set_columns(pairs, measured)
    entries = [*pair_rules, given.OF_FAILED_IMAGE_RULES]
    reasons = first_of(faults(entries, rows, rules.numbers))
    is_failed = pc.equal(reasons, given.RULE_FAILED)
    names = pc.if_else(is_failed, pa.array(failed_rule, pa.string()), pa.scalar(None, pa.string()))
    return drop(pairs, reasons.is_valid(), reasons, names)


def write_ledger(
    urls: pa.StringArray,
    kept: pa.Table,
    images: Images,
    evaluation: EvaluationIndex | None,
    settings: ImageSettings,
    path: Path,
) -> None:
    """Writes the ledger: the outcome of each image by itself. Reasons that concern a pair alone, or
    copies of other images, are left out.

    Args:
      urls: string[m], by which the images were asked for. kept: the pairs that are kept.
    """
    table = judge(pa.table(image_columns(images, evaluation)), settings)
    failed = table["failed_rule"]
    table = drop(table, failed.is_valid(), given.RULE_FAILED, failed.combine_chunks())
    keys: list[str | None] = [None] * len(images)
    rows, first = np.unique(kept["image"].to_numpy(), return_index=True)
    for row, key in zip(rows, key_column(kept["key"].to_numpy()[first]).to_pylist(), strict=True):
        keys[row] = key
    columns: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
    columns |= dict(zip(RESPONSE.names, table["response"].combine_chunks().flatten(), strict=True))
    columns |= {"image": pa.array(url_hashes(urls.combine_chunks())[0]), "key": pa.array(keys)}
    columns |= {"width": columns["original_width"], "height": columns["original_height"]}
    columns |= {
        name: pa.array(images[name], LEDGER.field(name).type) for name in ("bytes", "format")
    }
    if not settings.evidence:
        del columns["opt_out_headers"]
    schema = LEDGER
    if settings.blur_boxes:
        schema = extend_schema(schema, [BOXES])
        columns[BOXES.name] = pa.array([*map(boxes_hash, images["boxes"])], BOXES.type)
    for limit in settings.computing(Stage.PIXELS):
        schema = extend_schema(schema, [name := RULE_COLUMN + limit.measure.column])
        columns[name] = columns[limit.measure.column]
    ledger = fill_columns(schema, columns, len(images)).sort_by("image")
    if settings.forget_blocked:
        (rows,) = ledger.combine_chunks().to_batches()
        is_blocked = pc.fill_null(pc.equal(rows["reason"], given.BLOCKED), False)
        ledger = pa.Table.from_batches([clear_contents(rows, is_blocked)])
    write_ledger_rows(ledger, path)


def _write_rejects(pairs: pa.Table, images: Images, settings: ImageSettings, folder: Path) -> None:
    (rows,) = pairs.to_batches()
    names = rows.schema.names
    licenses = {name: rows[of] for name, of in LICENSES_OF_PAGES.items() if of in names}
    measures = {name: rows[name] for name in names} | {
        **licenses,
        **carried_columns(rows, settings.carried),
        "width": rows["original_width"],
        "height": rows["original_height"],
        "thumbnail": dropped_thumbnails(pairs, images, settings, settings.thumbnails),
    }
    schema = extend_schema(REJECTED, settings.written_columns)
    steps = step_of(settings.catalogue.images)
    with parquet_file(str(folder / REJECTS), schema, str(folder)) as rejects:
        rows = rejected_rows(rows, rows["reason"], rows["detail"], steps, measures, schema)
        if settings.forget_blocked:
            rows = clear_contents(rows, pc.equal(rows["reason"], given.BLOCKED))
        rejects.write(rows)
