"""Examples are chosen by their keys alone, and bins know their threshold."""

import numpy as np
import pytest

from alignset.transforms.columns.records import (
    Axis,
    cut,
    host_of,
    key_hashes,
    least_rows,
    nearest_rows,
)


def test_a_bin_tells_whether_a_threshold_is_passed():
    axis = Axis("side", [1.0, 5.0, 9.0])
    places = np.arange(axis.bins)
    assert axis.passes(places, 5.0, beyond=True).tolist() == [False, False, True, True, True]
    assert axis.passes(places, 5.0, beyond=False).tolist() == [True, True, False, False, True]
    assert axis.passes(places, 4.0, beyond=True).all()


@pytest.mark.parametrize(("size", "count"), [(0, 4), (3, 4), (100, 4), (5000, 16)])
def test_examples_are_those_with_the_smallest_hashes(size: int, count: int):
    random = np.random.default_rng(size)
    keys = random.integers(0, 1 << 64, size, np.uint64)
    if size > 50:
        keys[10:40] = keys[:30]  # repeated pairs are shown once
    rows = np.flatnonzero(random.random(size) < 0.8)
    hashes = key_hashes(keys)
    first = {int(hashes[row]): int(row) for row in rows[::-1]}
    assert least_rows(hashes, rows, count).tolist() == [first[h] for h in sorted(first)[:count]]


def test_the_same_few_keys_many_times_are_found_beyond_the_first_bound():
    hashes = key_hashes(np.array([1] * 500 + [2] * 500 + [3] * 500, np.uint64))
    rows = np.arange(1500)
    assert set(least_rows(hashes, rows, 3).tolist()) == {0, 500, 1000}


def test_the_nearest_come_first_and_equal_ones_by_their_hashes():
    ranks = np.array([3.0, np.nan, 1.0, 1.0, 0.5, 9.0])
    hashes = np.array([0, 0, 8, 7, 9, 0], np.uint64)
    assert nearest_rows(ranks, hashes, np.arange(6), 3).tolist() == [4, 3, 2]
    assert nearest_rows(ranks, hashes, np.arange(6), 9).tolist() == [4, 3, 2, 0, 5]
    assert nearest_rows(ranks, hashes, np.array([1]), 9).tolist() == []


def test_long_texts_are_cut():
    assert (cut("abc", 3), cut("abcd", 3), cut(None, 3)) == ("abc", "ab…", "")


def test_hosts():
    hosts = {
        "https://User:pw@A.Example:8080/x?y=http://b/": "a.example:8080",
        "http://a.example?x": "a.example",
        "http://a.example#x/y": "a.example",
        "no url": "",
    }
    assert {url: host_of(url) for url in hosts} == hosts
    assert len(host_of(f"http://{'a' * 9000}/")) == 120
