"""Counts of hashes as they fall and as nobody would wish: many that share their top bits, many that
are equal, the lowest and the highest; against Python's own sets and counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np

from alignset.transforms.columns.hashing import HashSet, UInt64s
from alignset.transforms.corpus.hash_counts import byte_runs, repeated_rows, runs, sum_by_hash

TOP = 2**64 - 1


def hashes_of(random: Random, most: int) -> UInt64s:
    """Some clusters of hashes, in no order."""
    hashes: list[int] = []
    size = random.choice([0, 1, 2, random.randrange(most), most])
    while len(hashes) < size:
        base = random.choice([0, 1, TOP, 2**63, 2**63 - 1, 2**61, random.randrange(2**64)])
        step = random.choice([0, 1, -1, 2**20, 2**48 + 1, random.randrange(2**64)])
        times = random.choice([1, 1, 3, 254, 255, 256, 511, 1000, size])
        hashes += [(base + step * at) % 2**64 for at in range(min(times, size))]
    random.shuffle(hashes)
    return np.array(hashes, np.uint64)


def _counted(columns: tuple[UInt64s, np.ndarray]) -> Counter[int]:
    total: Counter[int] = Counter()
    for value, count in zip(*(column.tolist() for column in columns), strict=True):
        assert count > 0
        total[value] += count
    return total


def _check_runs(hashes: UInt64s) -> None:
    expected = Counter(hashes.tolist())
    distinct, times = runs(np.sort(hashes))
    assert distinct.tolist() == sorted(expected)
    assert _counted((distinct, times)) == expected
    counts = byte_runs(np.sort(hashes))
    assert np.all(counts[0][1:] >= counts[0][:-1])
    assert len(counts[0]) == sum(-(-times // 255) for times in expected.values())
    assert _counted(counts) == expected


def _check_sums(random: Random, hashes: UInt64s) -> None:
    times = np.array([random.choice([1, 2, 255]) for _ in hashes], np.uint8)
    sums = sum_by_hash(hashes, times)
    assert np.all(sums[0][1:] > sums[0][:-1])
    assert _counted(sums) == _counted((hashes, times))


def _check_members(random: Random, hashes: UInt64s) -> None:
    members = set(hashes.tolist())
    near = [(member + step) % 2**64 for member in [*members][:500] for step in (-1, 1)]
    asked = [*members, *near, 0, TOP, random.randrange(2**64)]
    member_set = HashSet(np.array(sorted(members), np.uint64))
    answers = member_set.contains(np.array(asked, np.uint64))
    assert answers.tolist() == [member in members for member in asked]


def _check_repeats(random: Random, hashes: UInt64s) -> None:
    few = hashes[:3].tolist() or [0]
    pairs = [(random.choice(few), random.choice([*few, int(number)])) for number in hashes[:500]]
    exact = [random.randrange(3) for _ in pairs]
    first: dict[tuple[int, int], int] = {}
    for place in sorted(range(len(pairs)), key=lambda at: (exact[at], at)):
        first.setdefault(pairs[place], place)
    keys = [hash(pair) % 7 << 61 for pair in pairs]  # those of different pairs may meet
    urls, texts = ([pair[at] for pair in pairs] for at in (0, 1))
    columns = [np.array(c, np.uint64) for c in (keys, urls, texts, exact, range(len(pairs)))]
    repeated = repeated_rows(*columns).tolist()
    assert sorted(repeated) == sorted(set(range(len(pairs))) - set(first.values()))


def check(random: Random) -> None:
    hashes = hashes_of(random, 300)
    _check_runs(hashes)
    _check_sums(random, hashes)
    _check_members(random, hashes)
    _check_repeats(random, hashes)


# What each byte adds to the hash before: small steps let hashes share their top bits, and one large
# step sets others far apart, so that a table by top bits has a place for all of them.
_STEPS = [1, 2, 0, 2**8, 2**40, 2**62, 2**63, TOP]


def _chosen(body: bytes) -> UInt64s:
    """Half as many hashes, which ascend."""
    sample = body[:1] + body[1:-1:2] + body[-1:]
    steps = np.array(_STEPS, np.uint64)[np.frombuffer(sample, np.uint8) % len(_STEPS)]
    return np.frombuffer(np.unique(np.cumsum(steps)).tobytes(), np.uint64)


def _members(body: bytes) -> object:
    hashes = _chosen(body)
    return HashSet(hashes).contains(hashes)


TOKENS = [bytes([at]) for at in range(len(_STEPS))]
GROWTH: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {"members": (_members, TOKENS)}
