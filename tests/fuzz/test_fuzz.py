"""A short form of the fuzzers; `python -m tests.fuzz --seconds=3600` is the long one."""

import importlib

import pytest

from tests.fuzz.__main__ import TARGETS
from tests.fuzz.growth import superlinear
from tests.support.modules import run_module

CASES = 100

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]  # of all targets together, beside busy neighbours


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What all targets say, in one process: each start of it imports for three seconds."""
    return run_module("tests.fuzz", f"--cases={CASES}", "--seed=1").out.splitlines()


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_bytes(said: list[str], target: str) -> None:
    assert f"{target}: {CASES} cases are well, seed 1" in said


GROWING = [
    (target, name)
    for target in TARGETS
    for name in getattr(importlib.import_module(f"tests.fuzz.{target}"), "GROWTH", ())
]


@pytest.mark.parametrize(("target", "name"), GROWING)
def test_time_grows_as_the_bytes_do(target: str, name: str) -> None:
    function, tokens = importlib.import_module(f"tests.fuzz.{target}").GROWTH[name]
    assert superlinear(function, tokens) == []
