"""Look-ups that step over symbols. What they decode is held against libjpeg in test_jpeg.py."""

import numpy as np

from transforms.jpeg_tables import table_of

# Two symbols of two bits, one of three: end of block, one bit after no zeros, 2 bits after one.
CODED = bytes([0, 2, 1, *[0] * 13, 0x00, 0x01, 0x12])


def test_a_look_up_steps_over_as_many_symbols_as_fit() -> None:
    table = table_of(CODED, 1)
    assert table is not None
    one, many = table.steps
    window = 0b01_1_01_0_100_11_00_0  # 1, 1, then two bits after a zero, then the end of the block
    assert one[window] == 3 | 1 << 4
    assert many[window] == 13 | 4 << 4 | 1 << 12
    assert one[0] == many[0] == 2 | 1 << 12


def test_what_no_code_begins_with_is_no_step() -> None:
    table = table_of(CODED, 1)
    assert table is not None
    assert table.steps[0][-1] == 0
    assert (table.steps[1] == 0).any()


def test_tables_that_are_none() -> None:
    assert table_of(bytes([3, *[0] * 15, 1, 2, 3]), 0) is None  # three codes of one bit
    assert table_of(bytes([1, *[0] * 15]), 0) is None  # a symbol is missing
    assert table_of(CODED, 0) is None  # 0x12 is no size of a first coefficient
    assert np.array_equal(table_of(CODED, 1).codes[1], [0, 0, 2, 1, *[0] * 13])
