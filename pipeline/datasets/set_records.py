"""Records of a dataset's shards and of its text stage's splits, added up; of a run that is under
way too. No shard is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from alignset.transforms.columns.record_files import MOST_BYTES, RecordError, decode_record
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    RECORDS,
    Axis,
    Example,
    Record,
    Top,
    add_nested,
    add_samples,
    add_tops,
    cut,
)
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.rules.rule import IMAGES, TEXTS, Limit
from alignset.transforms.storage.files import match, open_to_read

MOST_KEPT, MOST_OF_A_REASON, MOST_NEAR = 96, 36, 12
MOST_NAMES = 2_000  # of hosts and texts that are remembered, however many shards have others
_AT_ONCE, _BYTES_AT_ONCE = 64, MOST_BYTES  # records that are in memory, or one
_THREADS = 16  # since a store answers slowly
_MOST_LISTS = 200  # a dataset has some 40; whoever wrote other records may have named more
# So many outcomes, details of one, and ends of a host are told apart; the others count as OTHERS.
_MOST_OUTCOMES, _MOST_DETAILS, _MOST_ENDS = 64, 1024, 128
OTHERS = "(others)"
NEAR = "near:"


class Sum:
    """Records added up, one after the other, in a bounded memory."""

    def __init__(self, catalogue: Catalogue = PRODUCT) -> None:
        self._catalogue = catalogue
        self.records = 0
        self.whole = Record()
        self._examples: dict[str, dict[str, Example]] = {}

    def add(self, records: Sequence[Record], thresholds: dict[str, float]) -> None:
        """Adds some."""
        self.records += len(records)
        parts = [self.whole, *records]
        names = {name for part in parts for name in part.histograms}
        axes = next((part.axes for part in parts if part.axes), [])
        alike = [part for part in parts if part.axes in ([], axes)]  # what has others is left out
        of_axes = {axis.name for part in parts for axis in part.axes}
        self.whole = Record(
            sum(part.pairs for part in parts),
            _most_frequent(add_nested(part.outcomes for part in parts)),
            {
                name: _most_frequent(
                    add_nested(
                        part.histograms.get(name, {})
                        for part in (alike if name in of_axes else parts)
                    )
                )
                for name in sorted(names)
            },
            {
                name: _sum_tops([part.tops.get(name, Top()) for part in parts])
                for name in sorted({name for part in parts for name in part.tops})
            },
            bytes=sum(part.bytes for part in parts),
            axes=axes,
            alone=add_nested(part.alone for part in alike),
            sample=add_samples(part.sample for part in alike),
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
            limit, threshold = self._catalogue.limits.get(rule), thresholds.get(rule)
            nearest = sorted(examples, key=lambda e: (distance_to(e, limit, threshold), e.hash))
        else:
            nearest = sorted(examples, key=lambda e: e.hash)
        self._examples[name] = {example.key: example for example in nearest[:most]}

    def axis(self, name: str) -> Axis | None:
        """The bins of a measure; None where it was not recorded."""
        return next((axis for axis in self.whole.axes if axis.name == name), None)

    def examples(self) -> dict[str, list[Example]]:
        """By list: an outcome, or `near:` with a rule, a space and an outcome."""
        return {name: list(own.values()) for name, own in sorted(self._examples.items())}


def _sum_tops(tops: Sequence[Top]) -> Top:
    whole = add_tops(tops, MOST_NAMES)
    counts = {name: _largest(ends, _MOST_ENDS) for name, ends in whole.counts.items()}
    return Top(counts, whole.others)


def _most_frequent(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Counts by two names, of both the most frequent alone where there are very many."""
    largest = _largest({name: sum(of.values()) for name, of in counts.items()}, _MOST_OUTCOMES)
    details = {name: _largest(of, _MOST_DETAILS) for name, of in counts.items() if name in largest}
    if len(details) < len(counts):
        details[OTHERS] = {"": largest[OTHERS]}
    return details


def _largest(counts: Mapping[str, int], most: int) -> dict[str, int]:
    if len(counts) <= most:
        return dict(counts)
    names = sorted(counts, key=lambda name: (name == OTHERS, -counts[name], name))
    largest = {name: counts[name] for name in sorted(names[: most - 1])}
    return largest | {OTHERS: sum(counts[name] for name in names[most - 1 :])}


def distance_to(example: Example, limit: Limit | None, threshold: float | None) -> float:
    """How far a pair is from a rule's threshold, in the rule's unit; infinite where it is not
    known."""
    value = example.values.get(limit.measure.axis) if limit else None
    if value is None or threshold is None:
        return float("inf")
    return abs(value - threshold)


@dataclass
class SetRecords:
    """Records of a dataset.

    Attributes:
      texts, images: sums over the splits and the shards, of held out ones too.
      faults: why records that cannot be read cannot.
      fetches: pairs, and failed fetches, by the name of their shard's record.
    """

    texts: Sum = field(default_factory=Sum)
    images: Sum = field(default_factory=Sum)
    faults: list[str] = field(default_factory=list)
    fetches: dict[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, plane: str) -> Sum:
        """Records of the texts or the images."""
        return self.texts if plane == TEXTS else self.images


def read_records(out: str, thresholds: dict[str, float], catalogue: Catalogue) -> SetRecords:
    """Reads all records of a dataset.

    Args:
      thresholds: by the names of their rules, to find the examples that are nearest.
      catalogue: the rules of the dataset.
    """
    files = [(path, size) for path, size in match(f"{out}/{RECORDS}") if path.endswith(".json")]
    records = SetRecords(Sum(catalogue), Sum(catalogue))
    with ThreadPoolExecutor(_THREADS) as pool:
        for plane, kinds in ((TEXTS, ("text",)), (IMAGES, ("images", "holdout"))):
            own = [(path, size) for path, size in files if Path(path).name.split("-")[0] in kinds]
            for paths in in_parts(own):
                contents = zip(paths, pool.map(_read, paths), strict=True)
                part = dict(_decode_records(contents, plane, records.faults))
                total = records.of(plane)
                total.add(list(part.values()), thresholds)
                if plane == IMAGES:
                    records.fetches |= {
                        shard: (record.pairs, sum(record.outcomes.get(FETCH_FAILED, {}).values()))
                        for shard, record in part.items()
                    }
    return records


def _decode_records(
    files: Iterable[tuple[str, bytes | OSError]], plane: str, faults: list[str]
) -> Iterator[tuple[str, Record]]:
    """The records by their shards; of what is none, `faults` tells why."""
    for path, content in files:
        name, shard = Path(path).name, Path(path).stem
        if isinstance(content, OSError):
            faults.append(f"{name} cannot be opened: {content.strerror or type(content).__name__}")
            continue
        try:
            record = decode_record(content, name)
        except RecordError as error:
            faults.append(str(error))
            continue
        yield shard, _name_shard(record, shard)


def _read(path: str) -> bytes | OSError:
    """A record's bytes, or why there are none: a run removes some while it ends."""
    try:
        with open_to_read(path) as source:
            return source.read(MOST_BYTES + 1)
    except OSError as error:
        return error


def _name_shard(record: Record, shard: str) -> Record:
    """A record whose examples know their shard, and have no longer texts than are recorded."""
    examples = [
        msgspec.structs.replace(
            example,
            shard=shard,
            caption=cut(example.caption, LONGEST_TEXT),
            url=cut(example.url, LONGEST_URL),
            near=cut(example.near, LONGEST_URL),
            detail=cut(example.detail, LONGEST_WORD),
            format=cut(example.format, LONGEST_WORD),
        )
        for example in record.examples
    ]
    return dataclasses.replace(record, examples=examples)


def in_parts(files: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Files that are read together: a few dozen, or one that is large."""
    part, total = list[str](), 0
    for path, size in files:
        if part and (len(part) >= _AT_ONCE or total + size > _BYTES_AT_ONCE):
            yield part
            part, total = [], 0
        part.append(path)
        total += min(size, MOST_BYTES)
    if part:
        yield part
