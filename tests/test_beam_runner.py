"""The whole command over the golden set: every pair meets its fate, and every file says so."""

from collections import Counter

from command import fates
from conftest import Golden


def test_every_pair_meets_its_fate(golden: Golden):
    found, expected = fates(golden.output), Counter(golden.fates)
    assert found - expected == Counter()
    assert expected - found == Counter()
