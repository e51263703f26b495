"""Pages that are written from the sources are current."""

import subprocess
import sys

from tests.support.root import ROOT


def test_the_page_of_flags_is_current():
    command = [sys.executable, "docs/write_flags.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_line_of_prose_is_longer_than_one_of_code():
    """Tables, code and generated pages have the lines that they need."""
    long = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        is_code = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            is_code ^= line.lstrip().startswith("```")
            if len(line) > 100 and not is_code and not line.startswith("|"):
                long.append(f"{page.name}:{number}")
    assert long == []
