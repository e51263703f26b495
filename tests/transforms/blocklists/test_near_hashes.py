"""The nearest of many hashes, against a comparison with each."""

import numpy as np
import pytest

from alignset.transforms.blocklists.near_hashes import least_distances, near_hashes


def of_each(members: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    bits = np.bitwise_count(members[None] ^ hashes[:, None]).sum(axis=2)
    return bits.min(axis=1)


def flipped(rng: np.random.Generator, hashes: np.ndarray, most: int) -> np.ndarray:
    """The same with up to so many other bits each."""
    made = hashes.copy()
    for row in made:
        for bit in rng.choice(64 * len(row), rng.integers(0, most + 1), replace=False):
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return made


@pytest.mark.parametrize(("count", "words"), [(1, 1), (5000, 1), (6000, 4), (300, 4)])
def test_each_that_is_near_is_found_at_its_distance(count: int, words: int) -> None:
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    members = rng.integers(0, 2**63, (count, words)).astype(np.uint64) << np.uint64(1)
    members[: count // 2, 0] &= np.uint64(0xFFFF)  # many that share their parts
    near = flipped(rng, members[rng.integers(0, count, 60)], 16 * words)
    far = rng.integers(0, 2**63, (20, words)).astype(np.uint64)
    hashes = np.concatenate([near, far, members[:5]])
    expected, index = of_each(members, hashes), near_hashes(members)
    for most in (0, 1, 4 * words - 1, 4 * words, 8 * words - 1, 12 * words - 1, 12 * words, 40):
        least = least_distances(index, hashes, most)
        assert least.tolist() == np.minimum(expected, most + 1).tolist(), most


def test_repeats_and_nothing() -> None:
    index = near_hashes(np.array([[7], [7], [1]], np.uint64))
    assert index.hashes.tolist() == [[1], [7]]
    assert least_distances(index, np.zeros((0, 1), np.uint64), 3).tolist() == []
