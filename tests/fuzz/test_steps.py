"""The compiled walks take twice the steps for twice the bytes."""

import pytest

from tests.fuzz import steps
from tests.support.modules import succeeds


@pytest.mark.parametrize("target", steps.TARGETS)
def test_twice_the_bytes_take_twice_the_steps(target: str) -> None:
    assert succeeds("tests.fuzz.steps", target)
