"""A short form of the fuzzers; `python -m tests.fuzz --seconds=3600` is the long one."""

import importlib
import subprocess
import sys

import pytest

from tests.fuzz import steps
from tests.fuzz.__main__ import TARGETS
from tests.fuzz.growth import superlinear
from tests.support.root import ROOT

CASES = 100


def succeeded(*words: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)  # pytest shows it where this fails
    return done.returncode == 0


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_bytes(target: str) -> None:
    assert succeeded("tests.fuzz", target, f"--cases={CASES}", "--seed=1")


@pytest.mark.parametrize("target", steps.TARGETS)
def test_twice_the_bytes_take_twice_the_steps(target: str) -> None:
    assert succeeded("tests.fuzz.steps", target)


GROWING = [
    (target, name)
    for target in TARGETS
    for name in getattr(importlib.import_module(f"tests.fuzz.{target}"), "GROWTH", ())
]


@pytest.mark.parametrize(("target", "name"), GROWING)
def test_time_grows_as_the_bytes_do(target: str, name: str) -> None:
    function, tokens = importlib.import_module(f"tests.fuzz.{target}").GROWTH[name]
    assert superlinear(function, tokens) == []
