"""Pages that are written from the sources are current."""

import subprocess
import sys

import pytest

from tests.support.root import ROOT


@pytest.mark.parametrize("writer", ["write_flags.py", "write_memory.py"])
def test_pages_are_current(writer: str):
    command = [sys.executable, f"docs/{writer}", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
