"""What is recorded adds up however it is cut, and examples are chosen by their keys alone."""

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.columns.records import (
    MOST_SAMPLED,
    Axis,
    Example,
    Top,
    add_nested,
    add_samples,
    add_tops,
    by_turns,
    cut,
    host_of,
    key_hashes,
    least_rows,
    nearest_rows,
    sample_of,
    top_of,
)
from alignset.transforms.shards.shard_record import histogram, nested_counts, word_counts

AXES = [Axis("side", [1.0, 5.0, 9.0]), Axis("score", [0.5])]


def bins(random: np.random.Generator, count: int) -> list[np.ndarray]:
    # Of each axis every bin, that of what has no value too.
    return [random.integers(0, axis.no_value + 1, count) for axis in AXES]


@pytest.mark.parametrize("count", [0, 1, 1000, 3 * MOST_SAMPLED])
def test_a_sample_is_that_of_its_parts(count: int):
    random = np.random.default_rng(count)
    of_all = {axis.name: of for axis, of in zip(AXES, bins(random, count), strict=True)}
    hashes = random.permutation(np.arange(count, dtype=np.uint64) << np.uint64(40))
    rows = np.arange(count)
    whole = sample_of(of_all, hashes, rows >= 0)
    parts = [sample_of(of_all, hashes, rows % 3 == start) for start in range(3)]
    assert add_samples(parts) == whole
    assert (whole.rows, whole.size) == (count, min(count, MOST_SAMPLED))
    assert whole.is_all == (count <= MOST_SAMPLED)
    least = np.argsort(hashes)[:MOST_SAMPLED]
    assert [*whole.bins.get("side", b"")] == of_all["side"][least].tolist()


def test_a_bin_tells_whether_a_threshold_is_passed():
    axis, places = AXES[0], np.arange(AXES[0].bins)
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


def test_the_most_frequent_names_add_up_with_those_that_are_not_listed():
    counts = {
        "a": {"kept": 5},
        "b": {"kept": 1, "too_small": 3},
        "c": {"kept": 4},
        "d": {"kept": 1},
    }
    top = top_of(counts, 2)
    assert top == Top({"a": {"kept": 5}, "b": {"kept": 1, "too_small": 3}}, 5)
    both = add_tops([top, Top({"c": {"kept": 9}})], 1)
    assert both == Top({"c": {"kept": 9}}, 14)


def test_counts_by_two_names():
    assert nested_counts([("b", "x"), ("a", "y"), ("b", "x")]) == {"a": {"y": 1}, "b": {"x": 2}}
    assert add_nested([{"a": {"x": 1}}, {"a": {"x": 2, "y": 1}}]) == {"a": {"x": 3, "y": 1}}
    outcomes = ["kept", "kept", "too_small", "kept"]
    counted = histogram(outcomes, np.array([3, 0, 3, 3]), np.array([0, 1, 2]))
    assert counted == {"kept": {"0": 1, "3": 1}, "too_small": {"3": 1}}


def test_long_texts_are_cut():
    assert (cut("abc", 3), cut("abcd", 3), cut(None, 3)) == ("abc", "ab…", "")


def test_lists_by_turns():
    examples = [Example(f"{n:016x}", "u", "c", []) for n in range(3)]
    assert by_turns([examples[:1], [], examples[1:]]) == examples


def test_hosts():
    hosts = {
        "https://User:pw@A.Example:8080/x?y=http://b/": "a.example:8080",
        "http://a.example?x": "a.example",
        "http://a.example#x/y": "a.example",
        "no url": "",
    }
    assert {url: host_of(url) for url in hosts} == hosts
    assert len(host_of(f"http://{'a' * 9000}/")) == 120


def test_words():
    texts = pa.array(["a dog", "", "one, two – three", "x" * 9000], pa.string())
    assert word_counts(texts).tolist() == [2, 0, 3, 1]
