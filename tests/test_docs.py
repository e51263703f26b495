"""Pages that are written from the sources are current."""

import subprocess
import sys

from tests.support.root import ROOT


def test_the_page_of_flags_is_current():
    command = [sys.executable, "docs/write_flags.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
