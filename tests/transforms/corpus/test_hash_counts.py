from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.corpus import hash_counts as counts
from alignset.transforms.corpus.hash_counts import (
    ngrams_of,
    repeated_rows,
    sum_by_hash,
    vocabulary_cut,
)
from tests.fuzz import counts as count_cases


def uint64(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


def test_counts_are_those_of_python() -> None:
    for seed in range(60):
        count_cases.check(Random(seed))


@pytest.mark.parametrize(
    ("rows", "repeats"),  # url, text, exact, place
    [
        ([(1, 1, 9, 0), (1, 1, 8, 1)], [0]),  # by their very strings
        ([(1, 1, 8, 1), (1, 1, 8, 0)], [0]),  # then by their place
        ([(1, 1, 8, 0), (1, 2, 8, 1), (2, 1, 8, 2)], []),
        ([(1, 1, 8, 0), (1, 1, 8, 1), (1, 1, 7, 2)], [0, 1]),
        ([], []),
    ],
)
def test_which_of_equal_pairs_stands_for_them(rows: list[tuple], repeats: list[int]) -> None:
    columns = [uint64([row[at] for row in rows]) for at in range(4)]
    keys = uint64([7] * len(rows))
    assert sorted(repeated_rows(keys, *columns).tolist()) == repeats


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans())))
def test_ngrams_of_some_rows(rows: list[tuple[int, bool]]) -> None:
    counts = np.array([words for words, _ in rows], np.int32)
    sizes = np.where(counts > 0, 2 * counts - 1, 0)
    first = np.cumsum(sizes[::-1])[::-1] - sizes  # the last row's come first
    marked = np.array([mark for _, mark in rows], np.bool_)
    hashes = ngrams_of(np.arange(sizes.sum(), dtype=np.uint64), first, counts, marked)
    wanted = [
        at
        for start, size, mark in zip(first, sizes, marked, strict=True)
        for at in range(start, start + size)
        if mark
    ]
    assert sorted(hashes.tolist()) == sorted(wanted)


def summed(pieces: list[list[tuple[int, int]]]) -> dict[int, int]:
    pieces = [sorted(piece) for piece in pieces]
    keys = [uint64([key for key, _ in piece]) for piece in pieces]
    weights = [np.array([count for _, count in piece], np.uint32) for piece in pieces]
    sums = sum_by_hash(keys, weights)
    assert len(sums[0]) == len(set(sums[0].tolist()))
    return dict(zip(*(column.tolist() for column in sums), strict=True))


def test_a_piece_that_does_not_ascend_is_refused() -> None:
    with pytest.raises(ValueError, match="must ascend"):
        sum_by_hash([uint64([1, 2]), uint64([2**63, 1])], [np.ones(2, np.uint32)] * 2)


def test_a_piece_has_as_many_counts() -> None:
    for few in ([np.ones(1, np.uint8)], []):
        with pytest.raises(ValueError, match="as many counts"):
            sum_by_hash([uint64([1, 2])], few)


def test_sums_are_of_64_bits() -> None:
    assert summed([[(0, 2**32 - 1)] * 3, [(0, 1)]]) == {0: 3 * (2**32 - 1) + 1}


@pytest.mark.parametrize("at_once", [1, 7, 100, 10_000])
def test_sums_by_ranges_of_hashes(monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(counts, "ROWS_AT_ONCE", at_once)
    keys = [*range(99), *(key * 0x9E3779B97F4A7C15 % 2**64 for key in range(1000)), 2**64 - 1]
    rows = [(key, at % 3 + 1) for at, key in enumerate(keys)] * 2
    expected: Counter[int] = Counter()
    for key, count in rows:
        expected[key] += count
    for pieces in (1, 3):
        assert summed([rows[at::pieces] for at in range(pieces)]) == expected


def test_sums_survive_a_full_row_of_slots() -> None:
    keys = [at << 40 | 15 for at in range(1000)]  # one slot for all
    assert summed([[(key, 1) for key in keys]] * 3) == dict.fromkeys(keys, 3)


@pytest.mark.parametrize("size", [10, 1000, 100_000])
def test_sums_of_hashes_that_share_their_top_bits(size: int) -> None:
    """As chosen words can have them; too many of them are sorted."""
    keys = [*range(size), 2**63]
    expected = dict.fromkeys(keys, 3)
    assert summed([[(key, at) for key in keys] for at in (1, 2)]) == expected


def test_the_cut_off_by_hand() -> None:
    histograms = {
        0: (np.array([1, 5]), np.array([10, 1])),
        1: (np.array([1, 2]), np.array([4, 3])),
    }
    assert vocabulary_cut(histograms, 18) == (0, {0: 0, 1: 0})  # all 18
    assert vocabulary_cut(histograms, 17) == (1, {0: 10, 1: 3})
    assert vocabulary_cut(histograms, 5) == (1, {0: 1, 1: 0})
    assert vocabulary_cut(histograms, 4) == (1, {0: 0, 1: 0})
    assert vocabulary_cut(histograms, 3) == (2, {0: 0, 1: 2})
    assert vocabulary_cut(histograms, 1) == (2, {0: 0, 1: 0})
    assert vocabulary_cut({}, 1) == (0, {})
