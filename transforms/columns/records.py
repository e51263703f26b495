"""Rows of a dataset as a report shows them: the bins of their measures, and a few examples, chosen
by the hashes of their keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

KEPT = "kept"  # the outcome of a pair that was dropped for no reason
THUMBNAIL_PX = 96  # the longer side, at most
LONGEST_TEXT, LONGEST_URL, LONGEST_WORD = 300, 500, 120  # characters that are shown
MOST_WORDS = 99  # texts of more words are in one bin with those of so many
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: a shard's keys share their top bits

Ints = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Axis:
    """The bins of one measure.

    Attributes:
      edges: ascending. A value's bin is how many edges it passes, in the sense of its rule; the bin
        after the last is of what has no such value.
    """

    name: str
    edges: list[float]

    @property
    def bins(self) -> int:
        return len(self.edges) + 2

    @property
    def no_value(self) -> int:
        """The bin of what has no value."""
        return len(self.edges) + 1

    def passes(self, bins: Ints, edge: float, *, beyond: bool) -> npt.NDArray[np.bool_]:
        """Which bins a rule keeps whose threshold is an edge, all where it is none: what is
        `beyond` the edge or else what is not, and what has no value."""
        if edge not in self.edges:
            return np.ones(len(bins), np.bool_)
        place = self.edges.index(edge)
        is_kept = bins > place if beyond else bins <= place
        return is_kept | (bins == self.no_value)


def key_hashes(keys: UInt64s) -> UInt64s:
    """uint64[n], by which examples are chosen: the smallest are, on every runner."""
    return keys * _MIX


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
    """A text as it is shown: of a very long one the beginning."""
    text = text or ""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def hosts_of(urls: pa.StringArray) -> pa.StringArray:
    """The host of each URL, with its port where that is given; "" where there is none."""
    found = pc.struct_field(pc.extract_regex(urls, r"://(?:[^/?#]*@)?(?P<host>[^/?#@]*)"), [0])
    return pc.utf8_slice_codeunits(pc.utf8_lower(pc.fill_null(found, "")), 0, LONGEST_WORD)


def host_of(url: str) -> str:
    """The host of one URL, as `hosts_of` has it."""
    return hosts_of(pa.array([url]))[0].as_py()
