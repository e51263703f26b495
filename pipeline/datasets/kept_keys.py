"""Which pairs two datasets keep, by their keys: read from their sidecars, one column of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.datasets.set_files import SetFiles
from alignset.transforms.columns.records import (
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    Example,
    Ints,
    UInt64s,
    cut,
    key_hashes,
)
from alignset.transforms.rules.given import DUPLICATE_PAIR
from alignset.transforms.storage.files import open_to_read

EXAMPLES = 24
_ROWS = 1 << 16  # that are in memory
NOWHERE = "not in its input"
_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


@dataclass
class OnlyOne:
    """The pairs that one dataset keeps and the other does not.

    Attributes:
      pairs: how many. reasons: why the other dropped them.
      examples: some, with the other's reason; the file of each, by its key.
    """

    pairs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def kept_keys(files: SetFiles) -> UInt64s:
    """The keys of all pairs that a dataset holds, held-out pairs too: uint64[n], ascending; other
    strings are omitted."""
    parts = [_keys_of(path) for path in files.kept_files]
    keys = np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)
    return keys[keys != 0]


def _keys_of(path: str) -> UInt64s:
    """uint64[n], ascending: the keys of one sidecar, which may repeat a key without end."""
    keys, others, waiting = np.zeros(0, np.uint64), list[UInt64s](), 0
    for batch in _batches(path, ["key"]):
        others.append(np.unique(key_numbers(batch["key"])))
        waiting += len(others[-1])
        if waiting > len(keys) + 16 * _ROWS:  # seldom, or sorting would take most of the time
            keys, others, waiting = np.unique(np.concatenate([keys, *others])), [], 0
    return np.unique(np.concatenate([keys, *others]))


def key_numbers(keys: pa.Array) -> UInt64s:
    """Keys of 16 hex digits as numbers: uint64[n]. Other strings are 0."""
    whole = pc.if_else(pc.equal(pc.binary_length(keys), 16), keys, "0" * 16)
    text = pc.fill_null(whole.cast(pa.string()), "0" * 16).cast(pa.binary()).cast(pa.binary(16))
    letters = np.frombuffer(text.buffers()[1], np.uint8, 16 * len(text), 16 * text.offset)
    digits = _HEX[letters].reshape(-1, 16)
    digits[(digits > 15).any(axis=1)] = 0
    return (digits[:, ::2] << 4 | digits[:, 1::2]).view(">u8")[:, 0].astype(np.uint64)


def _places_in(sorted_keys: UInt64s, keys: UInt64s) -> Ints:
    """int64[n], where each key is in an ascending array that is not empty; -1 where it is not."""
    places = np.searchsorted(sorted_keys, keys)
    places[places == len(sorted_keys)] = 0
    return np.where(sorted_keys[places] == keys, places, -1)


def only_in(files: SetFiles, keys: UInt64s, others: SetFiles, other_keys: UInt64s) -> OnlyOne:
    """Pairs that one dataset keeps and another does not, and why.

    Args:
      keys, other_keys: what each keeps, as by `kept_keys`.
    """
    alone = np.setdiff1d(keys, other_keys, assume_unique=True)
    result = OnlyOne(len(alone))
    if not len(alone):
        return result
    # By name, the number of each reason; a pair that another row drops otherwise is not a
    # duplicate.
    numbers = {NOWHERE: 0, DUPLICATE_PAIR: 1}
    of_pairs = np.zeros(len(alone), np.int32)
    example_keys = set(alone[np.argsort(key_hashes(alone))[:EXAMPLES]].tolist())
    reasons: dict[int, tuple[str, str]] = {}
    for place, reason, detail in _find_dropped(others, alone):
        number = numbers.setdefault(reason, len(numbers))
        if of_pairs[place] > 1 or of_pairs[place] == number:
            continue
        of_pairs[place] = number
        if (key := int(alone[place])) in example_keys:
            reasons[key] = reason, detail
    counts = np.bincount(of_pairs, minlength=len(numbers)).tolist()
    result.reasons += Counter(dict(zip(numbers, counts, strict=True)))
    _find_examples(files, example_keys, reasons, result)
    return result


def _find_dropped(files: SetFiles, wanted_keys: UInt64s) -> Iterator[tuple[int, str, str]]:
    """The dropped pairs that have one of these keys: the key's place, reason, detail."""
    for path in sorted(files.rejected_files):
        for batch in _batches(path, ["key", "reason", "detail"]):
            places = _places_in(wanted_keys, key_numbers(batch["key"]))
            rows = np.flatnonzero(places >= 0)
            dicts = batch.take(pa.array(rows)).to_pylist()
            for place, row in zip(places[rows].tolist(), dicts, strict=True):
                yield place, cut(row["reason"], LONGEST_WORD), cut(row["detail"], LONGEST_WORD)


def _measures(files: SetFiles, row: Mapping[str, Any]) -> dict[str, float]:
    """The measures of a kept pair that its sidecar has; a page has no number that is not finite."""
    measures = files.catalogue.measures.items()
    values = {axis: row.get(measure.column) for axis, measure in measures}
    numbers = {axis: float(value) for axis, value in values.items() if value is not None}
    return {axis: value for axis, value in numbers.items() if math.isfinite(value)}


def _find_examples(
    files: SetFiles, example_keys: set[int], reasons: dict[int, tuple[str, str]], result: OnlyOne
) -> None:
    wanted_keys = np.array(sorted(example_keys), np.uint64)
    own = (m.column for m in files.catalogue.measures.values() if m.column)
    columns = ("key", "url", "caption", "width", "height", *own)
    for path in files.kept_files:
        for row in _rows_of(path, columns, wanted_keys):
            reason, detail = reasons.get(int(row["key"], 16), (NOWHERE, ""))
            result.files[row["key"]] = path
            result.examples.append(
                Example(
                    key=row["key"],
                    url=cut(row["url"], LONGEST_URL),
                    caption=cut(row["caption"], LONGEST_TEXT),
                    lists=[],
                    reason=reason,
                    detail=detail,
                    width=row.get("width") or 0,
                    height=row.get("height") or 0,
                    values=_measures(files, row),
                )
            )
        if len(result.examples) >= len(example_keys):
            break
    result.examples.sort(key=lambda example: example.hash)


def _rows_of(path: str, columns: Sequence[str], wanted_keys: UInt64s) -> Iterator[dict[str, Any]]:
    """The first row with each of these keys; all columns are read of a file that has such alone."""
    if (_places_in(wanted_keys, _keys_of(path)) < 0).all():
        return
    missing_places = set(range(len(wanted_keys)))
    for batch in _batches(path, columns):
        places = _places_in(wanted_keys, key_numbers(batch["key"]))
        for row in np.flatnonzero(places >= 0).tolist():
            if (place := int(places[row])) in missing_places:
                missing_places.remove(place)
                yield batch.slice(row, 1).to_pylist()[0]


def _batches(path: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a file, of those that it has; a small file may hold a billion equal rows."""
    with open_to_read(path) as source:
        file = pq.ParquetFile(source)
        there = [name for name in columns if name in file.schema_arrow.names]
        yield from file.iter_batches(_ROWS, columns=there)
