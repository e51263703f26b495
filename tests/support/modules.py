"""Modules that are run as commands."""

import subprocess
import sys
from typing import NamedTuple

from tests.support.root import ROOT


class Ran(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    out: str


def run_module(*words: str) -> Ran:
    """`python -m` with these words; what it says is also shown where the test fails."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)
    return Ran(done.returncode, done.stdout)
