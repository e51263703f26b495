"""Which pairs two sets keep, by their keys: read from their sidecars, one column of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.look.set_files import SetFiles
from transforms.columns.hashing import UInt64s
from transforms.columns.reasons import DUPLICATE_PAIR
from transforms.columns.records import (
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    Example,
    cut,
    key_hashes,
)
from transforms.storage.files import open_to_read

EXAMPLES = 24
NOWHERE = "not in its input"
_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


@dataclass
class OnlyOne:
    """The pairs that one set keeps and the other does not.

    Attributes:
      pairs: how many. reasons: why the other dropped them.
      examples: some, with the other's reason; the file of each, by its key.
    """

    pairs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def kept_keys(files: SetFiles) -> UInt64s:
    """The keys of all pairs that a set holds, those held out too: uint64[n], ascending."""
    parts = [key_numbers(_read(path, ["key"])["key"]) for path in files.kept]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)


def key_numbers(keys: pa.ChunkedArray | pa.Array) -> UInt64s:
    """Keys of 16 hex digits as numbers: uint64[n]. What is no key is 0."""
    column = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    whole = pc.if_else(pc.equal(pc.binary_length(column), 16), column, "0" * 16)
    text = pc.fill_null(whole.cast(pa.string()), "0" * 16)
    digits = _HEX[np.frombuffer("".join(text.to_pylist()).encode(), np.uint8)].reshape(-1, 16)
    digits = np.where((digits > 15).any(axis=1, keepdims=True), 0, digits)
    return np.frombuffer(np.packbits(_bits(digits), axis=1).tobytes(), ">u8").astype(np.uint64)


def _bits(digits: np.ndarray) -> np.ndarray:
    """uint8[n, 16] of hex digits to their bits, bool[n, 64]."""
    places = np.array([8, 4, 2, 1], np.uint8)
    return ((digits[:, :, None] & places) > 0).reshape(len(digits), 64)


def only_in(files: SetFiles, keys: UInt64s, others: SetFiles, other_keys: UInt64s) -> OnlyOne:
    """What a set keeps and another does not, and why.

    Args:
      keys, other_keys: what each keeps, as by `kept_keys`.
    """
    alone = np.setdiff1d(keys, other_keys, assume_unique=True)
    told = OnlyOne(len(alone))
    if not len(alone):
        return told
    reasons: dict[int, tuple[str, str]] = {}
    places = np.zeros(len(alone), np.int32)  # of each pair's reason in `names`; 0 for none
    names = [NOWHERE]
    shown = set(alone[np.argsort(key_hashes(alone))[:EXAMPLES]].tolist())
    for key, reason, detail in _dropped(others, alone):
        place = int(np.searchsorted(alone, key))
        if places[place] and reason == DUPLICATE_PAIR:
            continue
        if reason not in names:
            names.append(reason)
        if not places[place] or names[places[place]] == DUPLICATE_PAIR:
            places[place] = names.index(reason)
        if key in shown and (key not in reasons or reasons[key][0] == DUPLICATE_PAIR):
            reasons[key] = reason, detail
    for place, count in enumerate(np.bincount(places, minlength=len(names)).tolist()):
        if count:
            told.reasons[names[place]] = count
    _find_examples(files, shown, reasons, told)
    return told


def _dropped(files: SetFiles, wanted: UInt64s) -> Iterator[tuple[int, str, str]]:
    """The dropped pairs that have one of these keys: key, reason, detail."""
    for path in sorted(files.rejected):
        table = _read(path, ["key", "reason", "detail"])
        numbers = key_numbers(table["key"])
        rows = np.flatnonzero(np.isin(numbers, wanted, assume_unique=False))
        part = table.take(pa.array(rows)).to_pylist()
        for number, row in zip(numbers[rows].tolist(), part, strict=True):
            reason, detail = (cut(row[name], LONGEST_WORD) for name in ("reason", "detail"))
            yield number, reason, detail


def _find_examples(
    files: SetFiles, shown: set[int], reasons: dict[int, tuple[str, str]], told: OnlyOne
) -> None:
    wanted = np.array(sorted(shown), np.uint64)
    columns = ("key", "url", "caption", "width", "height", "unsafe_score")
    for path in files.kept:
        numbers = key_numbers(_read(path, ["key"])["key"])
        rows = np.flatnonzero(np.isin(numbers, wanted))
        if not len(rows):
            continue
        for row in _read(path, columns).take(pa.array(rows)).to_pylist():
            reason, detail = reasons.get(int(row["key"], 16), (NOWHERE, ""))
            told.files[row["key"]] = path
            told.examples.append(
                Example(
                    key=row["key"],
                    url=cut(row["url"], LONGEST_URL),
                    caption=cut(row["caption"], LONGEST_TEXT),
                    lists=[],
                    reason=reason,
                    detail=detail,
                    width=row.get("width") or 0,
                    height=row.get("height") or 0,
                    unsafe=row.get("unsafe_score"),
                )
            )
        if len(told.examples) == len(shown):
            break
    told.examples.sort(key=lambda example: example.hash)


def _read(path: str, columns: list[str] | tuple[str, ...]) -> pa.Table:
    with open_to_read(path) as source:
        file = pq.ParquetFile(source)
        there = [name for name in columns if name in file.schema_arrow.names]
        return file.read(columns=there)
