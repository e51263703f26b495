"""The pairs of a shard that are shown in the report, and their thumbnails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from alignset.transforms.columns import reasons as r
from alignset.transforms.columns.record_files import encode_record
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    THUMBNAIL_PX,
    Example,
    Ints,
    cut,
    key_hashes,
    least_rows,
    nearest_rows,
)
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.columns.thresholds import JUDGED, OF_IMAGES
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.shards.measure_images import ImageRules
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.shards.shard_record import Floats, ShardPairs, shard_record, word_counts
from alignset.transforms.workers.unexpected import tell_once

QUALITY = 75
_MOST_PIXELS = 1 << 23  # of a picture that is no JPEG, whose thumbnail would take 0.1 s
_MOST_BYTES = 1 << 13  # of a thumbnail, which has 2,500
# Examples that a shard keeps of each kind with `--thumbnails=0`: their texts cost next to nothing.
LEAST_EXAMPLES = 8


def write_record(
    pairs: ShardPairs,
    rules: ImageRules,
    spool: Spool,
    thumbnails: int,
    record: Path,
    pictures: Path,
) -> None:
    """Writes what a shard records: a line of JSON, and its thumbnails behind one another.

    Args:
      thumbnails: examples of each kind with a picture; 0 makes none.
    """
    words = word_counts(pairs.captions)
    chosen = choose_rows(pairs, rules, words, thumbnails or LEAST_EXAMPLES)
    examples = [_example(pairs, row, lists, words) for row, lists in chosen.items()]
    counted = shard_record(pairs, rules, words)
    with pictures.open("wb") as sink:
        if thumbnails:
            shown = _with_pictures(pairs, examples, [*chosen], spool)
            examples = []
            for example, body in shown:
                if body:
                    example = msgspec.structs.replace(example, picture=(sink.tell(), len(body)))
                    sink.write(body)
                examples.append(example)
    record.write_bytes(encode_record(dataclasses.replace(counted, examples=examples)))


def choose_rows(
    pairs: ShardPairs, rules: ImageRules, words: Ints, count: int
) -> dict[int, list[str]]:
    """The rows that are shown, in their order, each with what it is an example of.

    Twice as many of the kept as `count`, and `count` of each reason, by the hashes of their keys;
    and half as many on either side of each threshold, nearest first.
    """
    hashes = key_hashes(pairs.keys)
    rows_of: dict[str, list[int]] = {}
    for row, reason in enumerate(pairs.reasons):
        if reason == r.BLOCKED:
            continue  # neither its URL nor its text is for the report
        rows_of.setdefault(reason or KEPT, []).append(row)
    lists: dict[int, list[str]] = {}
    for outcome, rows in rows_of.items():
        most = 2 * count if outcome == KEPT else count
        for row in least_rows(hashes, np.array(rows), most).tolist():
            lists.setdefault(row, []).append(outcome)
    for rule, reason, ranks in _ranks(pairs, rules, words):
        for outcome in (KEPT, reason):
            of_outcome = np.array(rows_of.get(outcome, []), np.int64)
            for row in nearest_rows(ranks, hashes, of_outcome, max(1, count // 2)).tolist():
                lists.setdefault(row, []).append(f"near:{rule}")
    return dict(sorted(lists.items()))


def _ranks(pairs: ShardPairs, rules: ImageRules, words: Ints) -> Iterator[tuple[str, str, Floats]]:
    """Each rule with its reason, and float64[n]: how far each pair is from its threshold."""
    shorter, longer = pairs.sides()
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = longer / shorter
    measures = {
        "min_image_side": np.abs(shorter - rules.min_side),
        "max_image_aspect": np.abs(aspect - rules.max_aspect),
        "max_unsafe_score": np.abs(pairs.numbers("unsafe_score") - rules.max_unsafe_score),
        "min_evaluation_distance": np.abs(
            pairs.numbers("evaluation_distance") - rules.min_evaluation_distance
        ),
    }
    for rule, of in OF_IMAGES.items():
        yield rule, of.reason, measures[rule]
    yield "min_words", "", words.astype(np.float64)
    yield "max_words", "", -words.astype(np.float64)


def _example(pairs: ShardPairs, row: int, lists: Sequence[str], words: Ints) -> Example:
    columns = pairs.measured.columns
    image = columns["image"][row]

    def measure(name: str) -> Any:
        column = pairs.measures.get(name)
        return None if column is None else column[row].as_py()

    of_set, near = measure("evaluation_set"), measure("evaluation_image")
    return Example(
        key=key_column(pairs.keys[row : row + 1])[0].as_py(),
        url=cut(pairs.urls[row].as_py(), LONGEST_URL),
        caption=cut(pairs.captions[row].as_py(), LONGEST_TEXT),
        lists=list(lists),
        reason=pairs.reasons[row] or "",
        detail=cut(pairs.details[row], LONGEST_WORD),
        width=columns["width"][row] or 0,
        height=columns["height"][row] or 0,
        words=int(words[row]),
        unsafe=measure("unsafe_score"),
        distance=measure("evaluation_distance"),
        near=cut(f"{of_set}/{near}", LONGEST_URL) if near is not None else "",
        format=image.format if image else "",
        bytes=pairs.measured.places[row][1],
    )


def _with_pictures(
    pairs: ShardPairs, examples: Sequence[Example], rows: Sequence[int], spool: Spool
) -> Iterator[tuple[Example, bytes]]:
    """Each with its thumbnail, empty where there is none to be shown."""
    for example, row in zip(examples, rows, strict=True):
        image, body = pairs.measured.columns["image"][row], b""
        # None of what its owner, or a list, keeps out of sets.
        may = image is not None and pairs.reasons[row] in JUDGED
        if may and (image.format == "jpeg" or image.width * image.height <= _MOST_PIXELS):
            try:
                source = spool.get(pairs.measured.places[row])
                body = thumbnail(source, image, THUMBNAIL_PX, QUALITY)
            except Exception as error:  # the pair is what it is all the same
                tell_once("making a thumbnail", error)
        yield example, body if len(body) <= _MOST_BYTES else b""
