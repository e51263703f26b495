"""What is recorded of rows, of which some do not count."""

import numpy as np

from alignset.transforms.columns.records import key_hashes
from alignset.transforms.rules.rule import Limit
from alignset.transforms.rules.sizes import MAX_ASPECT, MIN_SIDE
from alignset.transforms.rules.trials import JudgedRows, Trials, add_trials, trials_of
from alignset.transforms.rules.verdicts import axes_of, size_rows

LIMITS: list[Limit] = [MIN_SIDE, MAX_ASPECT]
NUMBERS = {"min_image_side": 200, "max_image_aspect": 3.0}
NAMES = ["kept", "too_small", "too_elongated"]


def trials(sizes: list[tuple], counted: list[bool]) -> Trials:
    rows = size_rows(*([size[side] for size in sizes] for side in (0, 1)))
    against = {limit.name: limit.dropped(rows, NUMBERS) for limit in LIMITS}
    codes = np.where(against["max_image_aspect"], 2, 0)
    codes[against["min_image_side"]] = 1
    codes[~np.array(counted, np.bool_)] = -1  # as of what could not be fetched
    keys, others = np.arange(len(sizes), dtype=np.uint64), np.zeros(len(sizes), np.bool_)
    judged = JudgedRows(NAMES, codes, key_hashes(keys), rows, against, others)
    return trials_of(LIMITS, axes_of(LIMITS, NUMBERS), judged, np.array(counted, np.bool_))


SIZES = [(300, 300), (100, 100), (300, 1000), (100, 1000), (None, None), (500, 500)]


def test_rows_that_do_not_count_are_in_no_histogram() -> None:
    counting = trials(SIZES, [True] * 6)
    both = trials([*SIZES, *SIZES], [True] * 6 + [False] * 6)
    assert both == counting
    parts = add_trials([trials(SIZES[:2], [True] * 2), trials(SIZES[2:], [True] * 4)])
    assert (parts.histograms, parts.alone) == (counting.histograms, counting.alone)


def test_a_threshold_alone_counts_what_all_other_rules_keep() -> None:
    alone = {name: sum(counts.values()) for name, counts in trials(SIZES, [True] * 6).alone.items()}
    assert alone == {"min_image_side": 4, "max_image_aspect": 4}  # three are kept by both
    found = trials(SIZES, [True] * 6).histograms["side"]
    assert {name: sum(counts.values()) for name, counts in found.items()} == {
        "kept": 3,
        "too_elongated": 1,
        "too_small": 2,
    }
