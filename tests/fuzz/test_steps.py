"""The compiled walks take twice the steps for twice the bytes."""

import pytest

from tests.fuzz import steps
from tests.support.modules import run_module

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]  # of all targets together, beside busy neighbours


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What all targets say, in one process: each start of it imports for a second."""
    return run_module("tests.fuzz.steps", "--third").out.splitlines()


@pytest.mark.parametrize("target", steps.TARGETS)
def test_twice_the_bytes_take_twice_the_steps(said: list[str], target: str) -> None:
    lines = [line for line in said if line.startswith(f"{target} ")]
    assert [line for line in lines if " steps, then " in line] == []
    assert lines
    assert all("twice the bytes take" in line for line in lines)
