"""Look-ups that step over symbols. What they decode is held against libjpeg in test_jpeg.py."""

import numpy as np

from alignset.transforms.images.jpeg_tables import LOOK_UP_BITS, NO_STEP, step_tables

# Two symbols of two bits, one of three: end of block, one bit after no zeros, 2 bits after one.
OTHER = bytes([0, 2, 1, *[0] * 13, 0x00, 0x01, 0x12])
# One bit: no value follows. Two bits: a value of three.
FIRST = bytes([1, 1, *[0] * 14, 0, 3])
LAST = 1 << 13


def step_of(table: int, bits: str) -> int:
    return int(step_tables(FIRST, OTHER)[table].steps[int(bits.ljust(LOOK_UP_BITS, "1"), 2)])


def test_a_look_up_steps_over_as_many_symbols_as_fit() -> None:
    coefficient, end = "011", "00"  # a coefficient of one bit, the block's end
    assert step_of(1, coefficient + coefficient + end) == 8 | 2 << 6 | LAST
    assert step_of(1, end + coefficient) == 2 | LAST
    assert step_of(1, coefficient * 4) == 12 | 4 << 6
    assert step_of(1, "10011" + coefficient) == 8 | 3 << 6
    assert step_of(0, "0" + coefficient + end) == 6 | 2 << 6 | LAST
    assert step_of(0, "10111" + "10011" + end) == 12 | 3 << 6 | LAST


def test_only_the_codes_must_be_among_the_bits() -> None:
    assert step_of(1, "011" * 3 + "100") == 14 | 5 << 6  # two bits of a value lie beyond
    assert step_of(1, "10011" * 2 + "01") == 13 | 5 << 6
    assert step_of(1, "10011" + "011" * 2 + "1") == 11 | 4 << 6  # half a code
    assert step_of(0, "10111") == 5 | 1 << 6


def test_what_no_code_begins_with_is_no_step() -> None:
    assert step_of(1, "") == step_of(0, "") == NO_STEP
    assert step_of(1, "011") == 3 | 1 << 6


def test_codes_by_their_length() -> None:
    codes = step_tables(FIRST, OTHER)[1].codes
    assert np.array_equal(codes[1], [0, 0, 2, 1, *[0] * 13])
