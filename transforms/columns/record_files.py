"""The file of a record, which anybody may have written: what is in it has bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from alignset.transforms.columns.earlier_records import EarlierRecord, Joint, with_examples
from alignset.transforms.columns.records import (
    HASHES,
    LANGUAGES,
    LONGEST_URL,
    MOST_SAMPLED,
    VERSION,
    WORDS_BY_LANGUAGE,
    Axis,
    Example,
    Record,
    RowSample,
)

MOST_BYTES = 1 << 23  # of a record; usual ones have 60 KB, with --thumbnails=256 some 3 MB
_MOST_COUNT = 1 << 53  # of pairs, bytes or pixels
_MOST_AXES, _MOST_EDGES, _MOST_CELLS = 64, 250, 1 << 20
# How many there may be of outcomes, of the details of one, of the bins of a histogram, of the names
# of a top, and of the examples.
_MOST_OUTCOMES, _MOST_DETAILS, _MOST_BINS, _MOST_NAMES = 64, 1024, 256, 1024
_MOST_EXAMPLES = 8192
_HISTOGRAMS = {
    "words": 100,
    "bytes": 64,
    "formats": 0,
    HASHES: 0,
}  # with their bins, where these are numbers
_TOPS = ("hosts", "texts", "frequent_texts", LANGUAGES, WORDS_BY_LANGUAGE)
_HEX = set("0123456789abcdef")


class _Version(msgspec.Struct):
    version: int = 1


class RecordError(ValueError):
    """A file is not a record; the message names it and what is wrong."""


def encode_record(record: Record) -> bytes:
    """The bytes of a record's file: one line of JSON."""
    return msgspec.json.encode(record)


def decode_record(encoded: bytes, path: str) -> Record:
    """The record in a file.

    Raises:
      RecordError: it is none, or none that a shard or a split writes.
    """
    if len(encoded) > MOST_BYTES:
        raise RecordError(f"{path} has more than {MOST_BYTES:,} bytes, which no record has")
    try:
        version = msgspec.json.decode(encoded, type=_Version).version
        if version > VERSION:
            raise RecordError(f"{path} is of a newer version of alignset: read it with that")
        record = msgspec.json.decode(encoded, type=EarlierRecord if version == 1 else Record)
        _check(record)
        if isinstance(record, EarlierRecord):
            _check_joint(record.joint)
            record = with_examples(record)
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not as it was written: {str(error)[:200]}") from error
    return record


def _check(record: Record) -> None:
    _check_axes(record.axes)
    axes = {axis.name: axis for axis in record.axes}
    _check_names(record.alone)
    _check_bins(record.alone.values(), _MOST_EDGES + 2)
    for counts in record.alone.values():
        _check_counts(counts.values())
    _check_sample(record.sample, axes)
    _check_counts([record.pairs, record.bytes])
    _check_outcomes(record.outcomes, _MOST_OUTCOMES)
    for name, by_outcome in record.histograms.items():
        if name not in _HISTOGRAMS and name not in axes:
            raise ValueError(f"there is no histogram {name[:40]!r}")
        _check_outcomes(by_outcome, _MOST_OUTCOMES)
        bins = axes[name].bins if name in axes else _HISTOGRAMS[name]
        _check_bins(by_outcome.values(), bins)
    for name, top in record.tops.items():
        if name not in _TOPS:
            raise ValueError(f"there are no most frequent {name[:40]!r}")
        _check_outcomes(top.counts, _MOST_NAMES)
        _check_counts([top.others])
    if len(record.examples) > _MOST_EXAMPLES:
        raise ValueError(f"it has {len(record.examples):,} examples")
    for example in record.examples:
        _check_example(example)


def _check_counts(counts: Iterable[int]) -> None:
    if not all(0 <= count <= _MOST_COUNT for count in counts):
        raise ValueError("a count of it is below 0, or more than there can be")


def _check_names(names: Iterable[str]) -> None:
    if any(len(name) > LONGEST_URL for name in names):
        raise ValueError(f"a name of it has more than {LONGEST_URL} characters")


def _check_outcomes(counts: Mapping[str, Mapping[str, int]], most: int) -> None:
    if len(counts) > most or any(len(of_name) > _MOST_DETAILS for of_name in counts.values()):
        raise ValueError("it counts more different outcomes than there are")
    _check_names(counts)
    for of_name in counts.values():
        _check_names(of_name)
        _check_counts(of_name.values())


def _check_bins(by_outcome: Iterable[Mapping[str, int]], bins: int) -> None:
    for counts in by_outcome:
        if len(counts) > _MOST_BINS:
            raise ValueError("a histogram of it has more bins than there are")
        for place in counts if bins else ():
            # Neither "٣" nor "+3" nor "1_0", which are numbers to Python, is how it was written.
            number = int(place) if place.isascii() and place.isdigit() and len(place) < 4 else bins
            if number >= bins:
                raise ValueError(f"{place[:20]!r} is not a bin of a histogram")


def _check_axes(axes: Sequence[Axis]) -> None:
    _check_names(axis.name for axis in axes)
    if len(axes) > _MOST_AXES or len({axis.name for axis in axes}) < len(axes):
        raise ValueError("it has too many axes, or one of them twice")
    for axis in axes:
        ascend = axis.edges == sorted(set(axis.edges)) and all(map(math.isfinite, axis.edges))
        if not 1 <= len(axis.edges) <= _MOST_EDGES or not ascend:
            raise ValueError(f"the edges of {axis.name!r} do not ascend, or are none, or too many")


def _check_sample(sample: RowSample, axes: Mapping[str, Axis]) -> None:
    _check_counts([sample.rows])
    size, rest = divmod(len(sample.hashes), 8)
    if rest or size > min(MOST_SAMPLED, sample.rows) or sample.weights:
        raise ValueError("its sample has another number of rows than it says")
    for name, bins in sample.bins.items():
        if name not in axes or len(bins) != size or max(bins, default=0) >= axes[name].bins:
            raise ValueError(f"the bins of {name[:40]!r} in its sample are not those of its axis")
    if size and sample.bins.keys() != axes.keys():
        raise ValueError("its sample lacks an axis")


def _check_joint(joint: Joint) -> None:
    _check_axes(joint.axes)
    if len(joint.cells) != len(joint.counts):
        raise ValueError("its joint histogram has other cells than counts")
    size = math.prod(axis.bins for axis in joint.axes)
    if size > _MOST_CELLS or not all(0 <= cell < size for cell in joint.cells):
        raise ValueError("a cell of its joint histogram is on none of its axes")
    if len(set(joint.cells)) != len(joint.cells):
        raise ValueError("a cell of its joint histogram stands there twice")
    _check_counts(joint.counts)


def _check_example(example: Example) -> None:
    if len(example.key) != 16 or not set(example.key) <= _HEX:
        raise ValueError(f"{example.key[:20]!r} is not a key")
    _check_names([*example.lists, example.reason])
    _check_counts([example.width, example.height, example.bytes, *(example.picture or ())])
    _check_names(example.values)
    if len(example.values) > _MOST_AXES or not all(map(math.isfinite, example.values.values())):
        raise ValueError("a measure of an example is none")
