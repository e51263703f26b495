"""The file of a record, which anybody may have written: what is in it has bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from alignset.transforms.columns.records import (
    HASHES,
    LANGUAGES,
    MOST_SAMPLED,
    VERSION,
    WORDS_BY_LANGUAGE,
    Axis,
    Record,
    RowSample,
)

MOST_BYTES = 1 << 23  # of a record; usual ones have 60 KB, with --thumbnails=256 some 3 MB
_HISTOGRAMS = {"words": 100, "bytes": 64, "formats": 0, HASHES: 0}  # their bins, if numbers
_TOPS = ("hosts", "texts", "frequent_texts", LANGUAGES, WORDS_BY_LANGUAGE)


class _Version(msgspec.Struct):
    version: int = 1  # which had none


# Made once, here: threads that decode a class for the first time together crash in msgspec.
_DECODE_VERSION = msgspec.json.Decoder(_Version).decode
_DECODE_RECORD = msgspec.json.Decoder(Record).decode


class RecordError(ValueError):
    """A file is not a record; the message names it and what is wrong."""


def encode_record(record: Record) -> bytes:
    """The bytes of a record's file: one line of JSON."""
    return msgspec.json.encode(record)


def decode_record(body: bytes, path: str) -> Record:
    """The record in a file.

    Raises:
      RecordError: it is none, or none that a shard or a split writes.
    """
    if len(body) > MOST_BYTES:
        raise RecordError(f"{path} has more than {MOST_BYTES:,} bytes, which no record has")
    try:
        version = _DECODE_VERSION(body).version
        if version != VERSION:
            raise RecordError(f"{path} is of another version of alignset")
        record = _DECODE_RECORD(body)
        _check(record)
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not as it was written: {str(error)[:200]}") from error
    return record


def _check(record: Record) -> None:
    """Raises ValueError for what the types of a record do not refuse."""
    axes = {axis.name: axis for axis in record.axes}
    if len(axes) < len(record.axes):
        raise ValueError("it has an axis twice")
    for axis in record.axes:
        if axis.edges != sorted(set(axis.edges)):
            raise ValueError(f"the edges of {axis.name!r} do not ascend")
    _check_bins(record.alone.values(), max((axis.bins for axis in record.axes), default=1))
    _check_sample(record.sample, axes)
    for name, by_outcome in record.histograms.items():
        if name not in _HISTOGRAMS and name not in axes:
            raise ValueError(f"there is no histogram {name[:40]!r}")
        bins = axes[name].bins if name in axes else _HISTOGRAMS[name]
        _check_bins(by_outcome.values(), bins)
    for name in record.tops:
        if name not in _TOPS:
            raise ValueError(f"there are no most frequent {name[:40]!r}")


def _check_bins(by_outcome: Iterable[Mapping[str, int]], bins: int) -> None:
    for counts in by_outcome:
        for place in counts if bins else ():
            # Neither "٣" nor "+3" nor "1_0", which are numbers to Python, is how it was written.
            is_number = place.isascii() and place.isdigit() and len(place) < 4
            if not is_number or int(place) >= bins:
                raise ValueError(f"{place[:20]!r} is not a bin of a histogram")


def _check_sample(sample: RowSample, axes: Mapping[str, Axis]) -> None:
    size, rest = divmod(len(sample.hashes), 8)
    if rest or size > min(MOST_SAMPLED, sample.rows):
        raise ValueError("its sample has another number of rows than it says")
    for name, bins in sample.bins.items():
        if name not in axes or len(bins) != size or max(bins, default=0) >= axes[name].bins:
            raise ValueError(f"the bins of {name[:40]!r} in its sample are not those of its axis")
    if size and sample.bins.keys() != axes.keys():
        raise ValueError("its sample lacks an axis")
