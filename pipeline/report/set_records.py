"""What the shards of a set and the splits of its text plane recorded, added up: of a run that is
under way too. No shard is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from transforms.columns.reasons import FETCH_FAILED
from transforms.columns.records import (
    KEPT,
    MOST_BYTES,
    RECORDS,
    Example,
    Record,
    RecordError,
    Top,
    add_joints,
    add_nested,
    add_tops,
    decode_record,
)
from transforms.storage.files import open_to_read
from transforms.storage.matching import match

Item = TypeVar("Item")

MOST_KEPT, MOST_OF_A_REASON, MOST_NEAR = 96, 36, 12
MOST_NAMES = 2_000  # of hosts and texts that are remembered, however many shards have others
_AT_ONCE = 64  # records that are in memory
_THREADS = 16  # since a store answers slowly
_MOST_LISTS = 200  # a set has some 40; whoever wrote other records may have named more
NEAR = "near:"


class Sum:
    """Records added up, one after the other, in a bounded memory."""

    def __init__(self) -> None:
        self.records = 0
        self.whole = Record()
        self._examples: dict[str, dict[str, Example]] = {}

    def add(self, records: Sequence[Record], thresholds: dict[str, float]) -> None:
        """Adds some."""
        self.records += len(records)
        parts = [self.whole, *records]
        names = {name for part in parts for name in part.histograms}
        self.whole = Record(
            sum(part.pairs for part in parts),
            add_nested(part.outcomes for part in parts),
            add_joints(part.joint for part in parts if part.joint.axes),
            {n: add_nested(part.histograms.get(n, {}) for part in parts) for n in sorted(names)},
            {
                name: add_tops([part.tops.get(name, Top()) for part in parts], MOST_NAMES)
                for name in sorted({name for part in parts for name in part.tops})
            },
        )
        for record in records:
            self._put(record.examples)
        for name in self._examples:
            self._trim(name, thresholds)

    def _put(self, examples: Iterable[Example]) -> None:
        for example in examples:
            for name in example.lists:
                if name.startswith(NEAR):
                    name = f"{name} {example.reason or KEPT}"
                if name in self._examples or len(self._examples) < _MOST_LISTS:
                    own = self._examples.setdefault(name, {})
                    own.setdefault(example.key, example)

    def _trim(self, name: str, thresholds: dict[str, float]) -> None:
        most = MOST_KEPT if name == KEPT else MOST_OF_A_REASON
        examples = self._examples[name].values()
        if name.startswith(NEAR):
            rule, most = name.removeprefix(NEAR).partition(" ")[0], MOST_NEAR
            threshold = thresholds.get(rule)
            ordered = sorted(examples, key=lambda e: (distance_to(e, rule, threshold), e.hash))
        else:
            ordered = sorted(examples, key=lambda e: e.hash)
        self._examples[name] = {example.key: example for example in ordered[:most]}

    def examples(self) -> dict[str, list[Example]]:
        """By list: an outcome, or `near:` with a rule, a space and an outcome."""
        return {name: list(own.values()) for name, own in sorted(self._examples.items())}


def distance_to(example: Example, rule: str, threshold: float | None) -> float:
    """How far a pair is from a rule's threshold, in the rule's unit; infinite where it is not
    known."""
    value = measured(example, rule)
    if value is None or threshold is None:
        return float("inf")
    return abs(value - threshold)


def measured(example: Example, rule: str) -> float | None:
    """What a rule judges of a pair; None where that is not known."""
    shorter, longer = sorted((example.width, example.height))
    values: dict[str, float | None] = {
        "min_image_side": float(shorter) if shorter > 0 else None,
        "max_image_aspect": longer / shorter if shorter > 0 else None,
        "max_unsafe_score": example.unsafe,
        "min_evaluation_distance": example.distance,
        "min_words": float(example.words) if example.words >= 0 else None,
        "max_words": float(example.words) if example.words >= 0 else None,
        "min_language_score": example.score,
    }
    return values.get(rule)


@dataclass
class SetRecords:
    """What a set recorded.

    Attributes:
      texts, images: sums over the splits and the shards, of held out ones too.
      broken: why records that cannot be read cannot.
      fetched: pairs, and failed fetches, by the name of their shard's record.
    """

    texts: Sum = field(default_factory=Sum)
    images: Sum = field(default_factory=Sum)
    broken: list[str] = field(default_factory=list)
    fetched: dict[str, tuple[int, int]] = field(default_factory=dict)


def read_records(out: str, thresholds: dict[str, float]) -> SetRecords:
    """Reads all records of a set.

    Args:
      thresholds: by the names of their rules, to find the examples that are nearest.
    """
    files = [(path, size) for path, size in match(f"{out}/{RECORDS}") if path.endswith(".json")]
    records = SetRecords()
    for total, kinds in ((records.texts, ("text",)), (records.images, ("images", "holdout"))):
        own = [(path, size) for path, size in files if Path(path).name.split("-")[0] in kinds]
        for part in _parts(_decoded(own, records.broken)):
            total.add([record for _, record in part], thresholds)
            if total is records.images:
                for shard, record in part:
                    failed = sum(record.outcomes.get(FETCH_FAILED, {}).values())
                    records.fetched[shard] = record.pairs, failed
    return records


def _decoded(files: Sequence[tuple[str, int]], broken: list[str]) -> Iterator[tuple[str, Record]]:
    with ThreadPoolExecutor(_THREADS) as pool:
        for some in _parts(files):
            for (path, _), encoded in zip(some, pool.map(_read, some), strict=True):
                try:
                    shard = Path(path).stem
                    yield shard, _named(decode_record(encoded, path), shard)
                except RecordError as error:
                    broken.append(str(error))


def _read(file: tuple[str, int]) -> bytes:
    path, size = file
    if size > MOST_BYTES:
        return b"too large"
    with open_to_read(path) as source:
        return source.read(MOST_BYTES + 1)


def _named(record: Record, shard: str) -> Record:
    examples = [msgspec.structs.replace(example, shard=shard) for example in record.examples]
    return dataclasses.replace(record, examples=examples)


def _parts(items: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(items)
    while part := list(islice(left, _AT_ONCE)):
        yield part
