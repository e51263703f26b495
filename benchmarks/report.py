"""What the report of a large set costs: time, memory, and the size of the page, ours alone.

  python benchmarks/report.py [--shards=10000] [--keep=FOLDER]

The set is made: what its shards would have recorded, stats and records and thumbnails, and no
shard. `python -m pipeline.report` then runs as a process of its own. With --chromium=PATH a browser
opens the page, and the time until its script has run is taken.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from results import print_results

from tests.support.made_records import put_made_set

ROOT = Path(__file__).resolve().parent.parent


def report(folder: Path) -> dict[str, float]:
    """Runs the command; wall and CPU s, peak MiB of the process, and MB of the page."""
    command = ["/usr/bin/env", sys.executable, "-c", _MEASURED, str(folder)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    wall = time.monotonic() - begun
    measured = json.loads(done.stdout.splitlines()[-1])
    page = (folder / "report.html").stat().st_size
    return {"wall_s": wall, **measured, "page_mb": page / 1e6}


_MEASURED = """
import json, resource, sys
from pipeline.report.__main__ import main
status = main(sys.argv[1:])
assert not status
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
"""


def opened(folder: Path, chromium: str) -> dict[str, float]:
    """How long a browser takes with the page, s."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        begun = time.monotonic()
        page.goto((folder / "report.html").as_uri())
        page.wait_for_selector("#matches .card")
        took = time.monotonic() - begun
        browser.close()
    return {"opened_s": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="a folder for the made set, which then stays")
    parser.add_argument("--chromium", default="")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = flags.keep or Path(scratch) / "set"
        if not (folder / "report").exists():
            put_made_set(folder, flags.shards, np.random.default_rng(0))
        measured = report(folder)
        if flags.chromium:
            measured |= opened(folder, flags.chromium)
    rows = [{"shards": flags.shards, **measured}]
    print_results(rows, {"report": rows}, ("msgspec", "jinja2", "pillow"))


if __name__ == "__main__":
    main()
