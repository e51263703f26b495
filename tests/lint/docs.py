"""Generated pages are current, and captions have the numbers of their pictures."""

import json
import re
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


def test_captions_have_the_numbers_that_their_pictures_show():
    """docs/make_pictures.py has written what it saw."""
    seen = json.loads((ROOT / "docs" / "pictures.json").read_text())
    named = {}
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for caption, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+\.webp)\)", text):
            picture = (page.parent / target).relative_to(ROOT / "docs").as_posix()
            numbers = [int(n.replace(",", "")) for n in re.findall(r"\b\d[\d,]*", caption)]
            named[picture] = seen.get(picture, []) == sorted(numbers)
            assert (page.parent / target).stat().st_size < 600_000
    assert named == dict.fromkeys(named, True)
    assert named.keys() == {
        p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.webp")
    }
