from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns.batches import bucket_slices
from alignset.transforms.corpus import hash_counts as counts
from alignset.transforms.corpus.hash_counts import (
    byte_runs,
    count_ngrams,
    frequent_ngrams,
    ngrams_of,
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


@given(
    st.lists(st.tuples(hashes, st.sampled_from([1, 1, 2, 254, 255, 256, 510, 511]))), st.randoms()
)
def test_counts_of_a_byte_add_up(values: list[tuple[int, int]], random) -> None:
    ngrams = [value for value, times in values for _ in range(times)]
    random.shuffle(ngrams)
    for hash_runs in (byte_runs(np.sort(uint64(ngrams))), count_ngrams(uint64(ngrams))):
        assert np.all(hash_runs[0][1:] >= hash_runs[0][:-1])
        assert dict(zip(*sum_by_hash(*([column] for column in hash_runs)), strict=True)) == Counter(
            ngrams
        )
        assert len(hash_runs[0]) == sum(-(-times // 255) for times in Counter(ngrams).values())


@given(st.lists(st.tuples(few, few, few)), st.integers(1, 30), st.randoms())
def test_all_but_the_first_of_equal_pairs_repeat(
    rows: list[tuple[int, int, int]], keys: int, random
) -> None:
    # With few keys those of different pairs meet, as hashes may.
    placed = [
        ((5 * url + text) % keys, url, text, exact, place)
        for place, (url, text, exact) in enumerate(rows)
    ]
    first = {}
    for _, url, text, _, place in sorted(placed, key=lambda row: row[3:]):
        first.setdefault((url, text), place)
    random.shuffle(placed)
    columns = [uint64([row[at] for row in placed]) for at in range(5)]
    repeats = [placed[row][4] for row in repeated_rows(*columns)]
    assert sorted(repeats) == sorted(set(range(len(rows))) - set(first.values()))


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


@given(st.lists(st.lists(st.tuples(hashes, st.integers(1, 2**32 - 1)))))
def test_sums_by_hash_equal_a_dict(pieces: list[list[tuple[int, int]]]) -> None:
    expected: Counter[int] = Counter()
    for key, count in [row for piece in pieces for row in piece]:
        expected[key] += count
    assert summed(pieces) == expected


def test_a_piece_that_does_not_ascend_is_refused() -> None:
    with pytest.raises(ValueError, match="must ascend"):
        sum_by_hash([uint64([1, 2]), uint64([2**63, 1])], [np.ones(2, np.uint32)] * 2)


def test_a_piece_has_as_many_counts() -> None:
    for few in ([np.ones(1, np.uint8)], []):
        with pytest.raises(ValueError, match="as many counts"):
            sum_by_hash([uint64([1, 2])], few)


def test_sums_are_of_64_bits() -> None:
    assert summed([[(0, 2**32 - 1)] * 3, [(0, 1)]]) == {0: 3 * (2**32 - 1) + 1}


@pytest.mark.parametrize("at_once", [1, 2, 7, 100, 10_000])
@pytest.mark.parametrize("pieces", [1, 3])
def test_sums_by_ranges_of_hashes(monkeypatch, at_once: int, pieces: int) -> None:
    monkeypatch.setattr(counts, "ROWS_AT_ONCE", at_once)
    keys = [*range(99), *(key * 0x9E3779B97F4A7C15 % 2**64 for key in range(1000)), 2**64 - 1]
    rows = [(key, at % 3 + 1) for at, key in enumerate(keys)] * 2
    expected: Counter[int] = Counter()
    for key, count in rows:
        expected[key] += count
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
        vocabulary = [ngram for part in kept for ngram in part.tolist()]
        assert vocabulary == sorted(ranked[:size])  # ties go to the smallest hashes


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
