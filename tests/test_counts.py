from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.batches import bucket_slices
from transforms.counts import (
    frequent_keys,
    frequent_ngrams,
    repeated_rows,
    runs,
    sum_by_hash,
    vocabulary_cut,
)

few = st.integers(0, 4)
hashes = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**62, 2**63, 2**64 - 1]))


def uint64(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


@given(st.lists(hashes))
def test_runs_count_each_value(values: list[int]) -> None:
    distinct, counts = runs(np.sort(uint64(values)))
    assert dict(zip(distinct.tolist(), counts.tolist(), strict=True)) == Counter(values)
    assert distinct.tolist() == sorted(set(values))


@pytest.mark.parametrize(
    ("partners", "limit", "frequent"),
    [
        ([1, 2], 2, []),  # at most
        ([1, 2, 3], 2, [7]),
        ([1, 2, 2, 1, 1], 2, []),  # distinct
        ([1, 2, 2, 1, 3], 2, [7]),
        ([], 0, []),
        ([1], 0, [7]),
    ],
)
def test_frequent_is_more_than_the_limit(
    partners: list[int], limit: int, frequent: list[int]
) -> None:
    found = frequent_keys(uint64([7] * len(partners)), uint64(partners), limit)
    assert found.tolist() == frequent


@given(st.lists(st.tuples(few, few)), few, st.randoms())
def test_frequent_keys_equal_sets(rows: list[tuple[int, int]], limit: int, random) -> None:
    partners = defaultdict(set)
    for key, partner in rows:
        partners[key].add(partner)
    random.shuffle(rows)
    found = frequent_keys(uint64([r[0] for r in rows]), uint64([r[1] for r in rows]), limit)
    assert found.tolist() == sorted(key for key, its in partners.items() if len(its) > limit)


@given(st.lists(st.tuples(few, few, few)), st.randoms())
def test_all_but_the_first_of_equal_pairs_repeat(rows: list[tuple[int, int, int]], random) -> None:
    placed = [(url, text, exact, place) for place, (url, text, exact) in enumerate(rows)]
    first = {}
    for url, text, _, place in sorted(placed, key=lambda row: row[2:]):
        first.setdefault((url, text), place)
    random.shuffle(placed)
    columns = [uint64([row[at] for row in placed]) for at in range(4)]
    repeats = [placed[row][3] for row in repeated_rows(*columns)]
    assert sorted(repeats) == sorted(set(range(len(rows))) - set(first.values()))


@given(st.lists(st.tuples(hashes, st.integers(1, 2**40))))
def test_sums_by_hash_equal_a_dict(rows: list[tuple[int, int]]) -> None:
    expected: Counter[int] = Counter()
    for key, count in rows:
        expected[key] += count
    found = sum_by_hash(uint64([r[0] for r in rows]), np.array([r[1] for r in rows], np.int64))
    assert dict(zip(*(column.tolist() for column in found), strict=True)) == expected
    assert len(found[0]) == len(expected)


def test_sums_survive_a_full_row_of_slots() -> None:
    keys = (np.arange(1000, dtype=np.uint64) << np.uint64(40)) | np.uint64(15)  # one slot for all
    found, sums = sum_by_hash(np.repeat(keys, 3), np.ones(3000, np.int64))
    assert np.sort(found).tolist() == keys.tolist()
    assert sums.tolist() == [3] * 1000


@given(st.dictionaries(hashes, st.integers(1, 4), max_size=12), st.sampled_from([1, 2, 8, 256]))
def test_the_vocabulary_is_exact_at_every_size(counts: dict[int, int], buckets: int) -> None:
    ranked = sorted(counts, key=lambda ngram: (-counts[ngram], ngram))
    keys = uint64(sorted(counts))
    sums = np.array([counts[int(key)] for key in keys], np.int64)
    parts = {b: (keys[i:j], sums[i:j]) for b, i, j in bucket_slices(keys, buckets)}
    histograms = {b: runs(np.sort(its)) for b, (_, its) in reversed(parts.items())}
    for size in range(1, len(counts) + 2):
        cut, quotas = vocabulary_cut(histograms, size)
        kept = [frequent_ngrams(*parts[b], cut, quotas[b]) for b in parts]
        found = [ngram for part in kept for ngram in part.tolist()]
        assert found == sorted(ranked[:size])  # ties go to the smallest hashes


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
