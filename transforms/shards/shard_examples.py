"""The pairs of a shard that are shown in the report, and their thumbnails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from alignset.transforms.columns.record_files import encode_record
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    THUMBNAIL_PX,
    Example,
    cut,
    key_hashes,
    least_rows,
    nearest_rows,
)
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules.catalogue import RunRules, limits
from alignset.transforms.rules.given import BLOCKED
from alignset.transforms.rules.rule import IMAGES, Limit, Rows
from alignset.transforms.rules.verdicts import Floats, known_of, values_by_axis, values_of
from alignset.transforms.shards.shard_pairs import ShardPairs
from alignset.transforms.shards.shard_record import shard_record, word_counts
from alignset.transforms.workers.unexpected import tell_once

QUALITY = 75
_MOST_PIXELS = 1 << 23  # of an image that is not a JPEG, whose thumbnail would take 0.1 s
_MOST_BYTES = 1 << 13  # of a thumbnail, which has 2,500
# Examples that a shard keeps of each kind with `--thumbnails=0`: their texts cost next to nothing.
LEAST_EXAMPLES = 8


def write_record(pairs: ShardPairs, record: Path, pictures: Path) -> None:
    """Writes what a shard records: a line of JSON, and its thumbnails behind one another."""
    thumbnails = pairs.images.settings.thumbnails
    rows = pairs.rows(word_counts(pairs.captions))
    choices = choose_rows(pairs, rows, thumbnails or LEAST_EXAMPLES)
    values = values_by_axis(known_here(pairs.rules), rows)
    examples = [
        _example(pairs, row, lists, known_of(values, row)) for row, lists in choices.items()
    ]
    totals = shard_record(pairs, rows)
    with pictures.open("wb") as sink:
        if thumbnails:
            for at, row in enumerate(choices):
                if body := _picture(pairs, row):
                    place = sink.tell(), sink.write(body)
                    examples[at] = msgspec.structs.replace(examples[at], picture=place)
    record.write_bytes(encode_record(dataclasses.replace(totals, examples=examples)))


def choose_rows(pairs: ShardPairs, rows: Rows, count: int) -> dict[int, list[str]]:
    """The rows that are shown, in their order, each with what it is an example of.

    Twice as many of the kept as `count`, and `count` of each reason, by the hashes of their keys;
    and half as many on either side of each threshold, nearest first.
    """
    hashes = key_hashes(pairs.keys)
    rows_of: dict[str, list[int]] = {}
    for row, reason in enumerate(pairs.reasons):
        if reason == BLOCKED:
            continue  # neither its URL nor its text is for the report
        rows_of.setdefault(reason or KEPT, []).append(row)
    lists: dict[int, list[str]] = {}
    for outcome, of_outcome in rows_of.items():
        most = 2 * count if outcome == KEPT else count
        for row in least_rows(hashes, np.array(of_outcome), most).tolist():
            lists.setdefault(row, []).append(outcome)
    for limit, ranks in _ranks(pairs.rules, rows):
        for outcome in (KEPT, limit.reason):
            own = np.array(rows_of.get(outcome, []), np.int64)
            for row in nearest_rows(ranks, hashes, own, max(1, count // 2)).tolist():
                lists.setdefault(row, []).append(f"near:{limit.name}")
    return dict(sorted(lists.items()))


def _ranks(rules: RunRules, rows: Rows) -> Iterator[tuple[Limit, Floats]]:
    """Each rule with float64[n]: how far each pair is from its threshold, on the side that is kept
    for a rule of texts."""
    for limit in known_here(rules):
        values = values_of(limit, rows)
        if limit.plane == IMAGES:
            yield limit, np.abs(values - rules.numbers[limit.name])
        else:
            yield limit, values if limit.beyond else -values


def known_here(rules: RunRules) -> list[Limit]:
    """The rules whose measures are known of a shard's pairs: images' first."""
    of_texts = [limit for limit in limits(rules.texts) if not limit.measure.dropped_only]
    return [*limits(rules.images), *of_texts]


def _example(
    pairs: ShardPairs, row: int, lists: Sequence[str], values: dict[str, float]
) -> Example:
    look, (width, height) = pairs.look(row), pairs.size(row) or (0, 0)

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
        width=width,
        height=height,
        values=values,
        near=cut(f"{of_set}/{near}", LONGEST_URL) if near is not None else "",
        format=look.format if look else "",
        bytes=pairs.file_size(row),
    )


def _picture(pairs: ShardPairs, row: int) -> bytes:
    """The thumbnail of an example; empty where there is none to be shown."""
    look = pairs.look(row)
    # None of what its owner, or a list, keeps out of sets.
    if look is None or pairs.reasons[row] not in pairs.rules.judged:
        return b""
    if look.format != "jpeg" and look.width * look.height > _MOST_PIXELS:
        return b""
    try:
        body = thumbnail(*pairs.stored_file(row), THUMBNAIL_PX, QUALITY)
    except Exception as error:  # the pair is what it is all the same
        tell_once("making a thumbnail", error)
        return b""
    return body if len(body) <= _MOST_BYTES else b""
