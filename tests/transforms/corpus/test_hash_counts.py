from random import Random

import numpy as np
import pytest

from alignset.transforms.corpus.hash_counts import repeated_rows, sum_by_hash, vocabulary_cut
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


def test_sums_are_of_64_bits() -> None:
    sums = sum_by_hash(uint64([0] * 4), np.array([2**32 - 1] * 3 + [1], np.uint32))
    assert [column.tolist() for column in sums] == [[0], [3 * (2**32 - 1) + 1]]


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
