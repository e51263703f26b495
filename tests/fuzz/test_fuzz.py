"""A short form of `make fuzz`, and cases that failed once."""

from pathlib import Path

import pytest

from tests.fuzz.__main__ import FILES, TARGETS
from tests.support.forks import start
from tests.support.modules import run_module

CASES = 100

slow = pytest.mark.slow
long = pytest.mark.timeout(1800)  # of all targets together, beside busy neighbours


def test_kept_cases_and_a_few_others_are_well(tmp_path: Path) -> None:
    """All kept cases, and for each format one that goes to every entrance and one for the quick."""
    flags = [*FILES, "--cases=2", "--seed=20", f"--found={tmp_path}"]
    forked = start("tests.fuzz.__main__:main", *flags)
    out, err = forked.communicate()
    print(out, err)
    assert forked.wait() == 0


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What all targets say, in one process: each start of it imports for three seconds."""
    found = tmp_path_factory.mktemp("found")
    flags = f"--cases={CASES}", "--seed=1", f"--found={found}"
    return run_module("tests.fuzz", *flags).out.splitlines()


@slow
@long
@pytest.mark.parametrize("target", TARGETS)
def test_hostile_bytes(said: list[str], target: str) -> None:
    (line,) = (line for line in said if line.startswith(f"{target}: {CASES} cases in "))
    assert line.endswith(", 0 fail")
