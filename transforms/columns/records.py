"""Records of a shard, or a split of the text stage, for the report: counts in fixed bins, which add
up over shards, and a few examples, chosen by the hashes of their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

RECORDS = "report"  # the folder of an output that they are in
KEPT = "kept"  # the outcome of a pair that was dropped for no reason
THUMBNAIL_PX = 96  # the longer side, at most
LONGEST_TEXT, LONGEST_URL, LONGEST_WORD = 300, 500, 120  # characters that are recorded
MOST_HOSTS, MOST_TEXTS = 64, 32  # that a record names
MOST_WORDS = 99  # texts of more words are in one bin with those of so many
MOST_SAMPLED = 4096
# Tops by language, where a vote found it.
LANGUAGES, WORDS_BY_LANGUAGE = "languages", "words_by_language"
HASHES = "hashes"  # pairs with a hash of the input, and without one
VERSION = 2  # of the form of a record
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: a shard's keys share their top bits

Ints = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
# What a record may hold when it is read: anybody may have written it.
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]  # of pairs, bytes or pixels
Name = Annotated[str, msgspec.Meta(max_length=LONGEST_URL)]
Outcomes = Annotated[dict[Name, Count], msgspec.Meta(max_length=1024)]  # details, or ends
Bins = Annotated[dict[str, Count], msgspec.Meta(max_length=256)]
Few = msgspec.Meta(max_length=64)  # outcomes, axes


class Axis(msgspec.Struct, frozen=True):
    """The bins of one measure.

    Attributes:
      edges: ascending. A value's bin is how many edges it passes, in the sense of its rule; the bin
        after the last is of what has no such value.
    """

    name: Name
    edges: Annotated[list[float], msgspec.Meta(min_length=1, max_length=250)]

    @property
    def bins(self) -> int:
        return len(self.edges) + 2

    @property
    def no_value(self) -> int:
        """The bin of what has no value."""
        return len(self.edges) + 1

    def passes(self, bins: Ints, edge: float, *, beyond: bool) -> npt.NDArray[np.bool_]:
        """Which bins are kept by a rule whose threshold is an edge, all where it is none; so is
        what has no value.

        Args:
          beyond: whether the rule keeps what passes the edge.
        """
        if edge not in self.edges:
            return np.ones(len(bins), np.bool_)
        place = self.edges.index(edge)
        is_kept = bins > place if beyond else bins <= place
        return is_kept | (bins == self.no_value)


class RowSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows with all their measures, by which several thresholds are tried at once.

    Attributes:
      rows: of how many rows these are a sample: of all that nothing is against but limits.
      hashes: uint64[n], big-endian, ascending: the n smallest hashes of their keys.
      bins: uint8[n] by the name of an axis.
    """

    rows: Count = 0
    hashes: bytes = b""
    bins: dict[str, bytes] = {}

    @property
    def size(self) -> int:
        return len(next(iter(self.bins.values()), b""))

    @property
    def is_all(self) -> bool:
        """Whether these are all rows."""
        return self.rows == self.size


class Top(msgspec.Struct, frozen=True):
    """The most frequent names, each with how often it came to which outcome.

    Attributes:
      counts: by name, then by outcome. others: pairs of names that are not listed.
    """

    counts: Annotated[dict[Name, Outcomes], msgspec.Meta(max_length=1024)] = {}
    others: Count = 0


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pair that is shown; what is not known of it is left out.

    Attributes:
      lists: what it is an example of: `kept`, a reason, or `near:` and the name of a rule.
      reason: empty where it was kept.
      values: its measures, by axis. near: the nearest evaluation image, as set/name.
      picture: where its thumbnail is in the shard's file: offset, bytes.
      shard: whose it is, as in `images-00000`; filled in by whoever reads the record.
    """

    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    url: str
    caption: str
    lists: list[Name]
    reason: Name = ""
    detail: str = ""
    width: Count = 0
    height: Count = 0
    values: Annotated[dict[Name, float], Few] = {}
    near: str = ""
    format: str = ""
    bytes: Count = 0
    picture: tuple[Count, Count] | None = None
    shard: str = ""

    @property
    def hash(self) -> int:
        """By which it was chosen."""
        return int(self.key, 16) * int(_MIX) & (1 << 64) - 1


@dataclass(frozen=True)
class Record:
    """The record of some pairs.

    Attributes:
      pairs: how many there are. outcomes: how many of them were `kept`, or dropped for a reason, by
        detail, which may be empty.
      bytes: of all images that were fetched.
      histograms: by name, outcome, and bin. tops: by name.
      axes: of the measures, which have a histogram each, of the pairs that the rules judged.
      alone: by rule, the pairs that all other rules keep, by bin.
    """

    pairs: Count = 0
    outcomes: Annotated[dict[Name, Outcomes], Few] = field(default_factory=dict)
    histograms: dict[str, Annotated[dict[Name, Bins], Few]] = field(default_factory=dict)
    tops: dict[str, Top] = field(default_factory=dict)
    examples: Annotated[list[Example], msgspec.Meta(max_length=8192)] = field(default_factory=list)
    bytes: Count = 0
    axes: Annotated[list[Axis], Few] = field(default_factory=list)
    alone: dict[Name, Bins] = field(default_factory=dict)
    sample: RowSample = field(default_factory=RowSample)
    version: int = VERSION

    @property
    def kept(self) -> int:
        return sum(self.outcomes.get(KEPT, {}).values())


def key_hashes(keys: UInt64s) -> UInt64s:
    """uint64[n], by which examples are chosen: the smallest are, on every runner."""
    return keys * _MIX


def sample_of(bins: Mapping[str, Ints], hashes: UInt64s, among: npt.NDArray[np.bool_]) -> RowSample:
    """A sample of some rows.

    Args:
      bins: by axis, int64[n]. hashes: uint64[n], of their keys. among: bool[n].
    """
    size = int(np.count_nonzero(among))
    if not size:
        return RowSample()
    rows = least_rows(hashes, np.flatnonzero(among), MOST_SAMPLED)
    of_rows = {name: of_axis[rows].astype(np.uint8).tobytes() for name, of_axis in bins.items()}
    return RowSample(size, hashes[rows].astype(">u8").tobytes(), of_rows)


def add_samples(samples: Iterable[RowSample]) -> RowSample:
    """The sample of all rows that some samples are of, which have the same axes."""
    parts = [sample for sample in samples if sample.rows]
    if len(parts) < 2:
        return parts[0] if parts else RowSample()
    hashes = np.concatenate([np.frombuffer(part.hashes, ">u8") for part in parts])
    order = np.argsort(hashes, kind="stable")[:MOST_SAMPLED]
    return RowSample(
        sum(part.rows for part in parts),
        hashes[order].astype(">u8").tobytes(),  # numpy joins them in the machine's order
        {
            name: np.frombuffer(b"".join(part.bins[name] for part in parts), np.uint8)[
                order
            ].tobytes()
            for name in parts[0].bins
        },
    )


def add_nested(parts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Adds up counts by two names."""
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for name, counts in part.items():
            total.setdefault(name, Counter()).update(counts)
    return {name: dict(sorted(counts.items())) for name, counts in sorted(total.items())}


def top_of(counts: Mapping[str, Mapping[str, int]], most: int) -> Top:
    """The names with the largest totals; of equal ones those that are first by name."""
    totals = {name: sum(outcomes.values()) for name, outcomes in counts.items()}
    names = sorted(totals, key=lambda name: (-totals[name], name))
    top = {name: dict(sorted(counts[name].items())) for name in names[:most]}
    return Top(top, sum(totals[name] for name in names[most:]))


def add_tops(tops: Sequence[Top], most: int) -> Top:
    """Adds up; what a part has not listed is counted as others, so a count is one at least."""
    whole = top_of(add_nested(top.counts for top in tops), most)
    return Top(whole.counts, whole.others + sum(top.others for top in tops))


def least_rows(hashes: UInt64s, rows: Ints, count: int) -> Ints:
    """Those of some rows with the smallest hashes, in the order of these; of equal ones the first.

    Args:
      hashes: uint64[n], of all rows. rows: int64[m]. count: at most so many.
    """
    of_rows = hashes[rows]
    if len(rows) > 8 * count:
        bound = np.partition(of_rows, 4 * count)[4 * count]
        near = np.flatnonzero(of_rows <= bound)
        _, first = np.unique(of_rows[near], return_index=True)
        if len(first) >= count:
            return rows[near[first[:count]]]
    _, first = np.unique(of_rows, return_index=True)
    return rows[first[:count]]


def nearest_rows(ranks: npt.NDArray[np.float64], hashes: UInt64s, rows: Ints, count: int) -> Ints:
    """Those of some rows with the smallest ranks; of equal ranks those with the smallest hashes.

    Args:
      ranks: float64[n]; a row without one (NaN) is never chosen.
    """
    rows = rows[~np.isnan(ranks[rows])]
    if len(rows) > count:
        bound = np.partition(ranks[rows], count)[count]
        rows = rows[ranks[rows] <= bound]
    order = np.lexsort((hashes[rows], ranks[rows]))
    return rows[order[:count]]


def cut(text: str | None, longest: int) -> str:
    """A text as it is recorded: of a very long one the beginning."""
    text = text or ""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def by_turns(lists: Iterable[Sequence[Example]]) -> list[Example]:
    """The examples of several lists by turns: what is first in each comes first."""
    return [example for turn in zip_longest(*lists) for example in turn if example is not None]


def host_of(url: str) -> str:
    """The host of a URL, with its port where that is given; "" where there is none."""
    authority = url.partition("://")[2].replace("?", "/").replace("#", "/").partition("/")[0]
    return cut(authority.rpartition("@")[2].lower(), LONGEST_WORD)
