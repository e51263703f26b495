"""Modules that are run as commands."""

import subprocess
import sys

from tests.support.root import ROOT


def succeeds(*words: str) -> bool:
    """Whether `python -m` with these words ends with status 0; what it says is shown where not."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)
    return done.returncode == 0
