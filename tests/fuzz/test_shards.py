"""How the time grows of reading shards of ever the same."""

import pytest

from tests.fuzz.growth import superlinear
from tests.fuzz.shards import GROWTH


@pytest.mark.parametrize("name", GROWTH)
def test_eight_times_the_bytes_take_no_more_than_that(name: str) -> None:
    function, tokens = GROWTH[name]
    assert superlinear(function, tokens) == []
