"""How many things have which number of partners."""

import numpy as np

from alignset.transforms.corpus.count_spread import CountSpread, add_spreads, spread_of


def test_bins_end_at_round_numbers_and_at_the_limit():
    counts = np.array([1, 1, 2, 10, 11, 13, 14, 20, 21, 1000, 1001], np.int64)
    spread = spread_of(counts, 13)
    assert spread.least == [1, 2, 10, 11, 14, 21, 501, 1001]
    assert spread.things == [2, 1, 1, 2, 2, 1, 1, 1]
    assert spread.partners == [2, 2, 10, 24, 34, 21, 1000, 1001]


def test_spreads_add_up():
    random = np.random.default_rng(3)
    counts = random.zipf(1.5, 2000).clip(1, 10**9).astype(np.int64)
    parts = [spread_of(counts[start::4], 10) for start in range(4)]
    assert add_spreads(parts) == spread_of(counts, 10)
    assert sum(add_spreads(parts).partners) == counts.sum()
    assert add_spreads([]) == CountSpread() == spread_of(counts[:0], 10)
