"""Costs of a large dataset's report: time, memory, and the size of the page, ours alone.

  python benchmarks/report.py [--shards=10000] [--keep=FOLDER] [--chromium=PATH]
  python benchmarks/report.py --largest --chromium=/usr/bin/chromium

The set is made: what its shards would have recorded, stats and records and thumbnails, and no
shard. `alignset report` then runs as a process of its own. With --chromium=PATH a browser
opens the page from `file:` three times; taken is the time until its script has run and the page
answers, by the quickest of them. --largest makes the page as large as a page can get.
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

from tests.support.made_records import put_largest_set, put_made_set

_TIMES = 3
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
from alignset.pipeline.report.__main__ import main
status = main(sys.argv[1:])
assert not status
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
"""


def opened(folder: Path, chromium: str) -> dict[str, float]:
    """How long a browser takes with the page until one can use it, s."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        took = []
        for _ in range(_TIMES):
            page = browser.new_page()
            begun = time.monotonic()
            page.goto((folder / "report.html").as_uri())
            page.wait_for_selector("#matches .card")
            page.locator("#words").fill("text")  # it answers
            page.evaluate("new Promise(done => requestAnimationFrame(done))")
            took.append(time.monotonic() - begun)
            page.close()
        browser.close()
    return {"opened_s": min(took)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="a folder for the made dataset, which then stays")
    parser.add_argument("--chromium", default="")
    parser.add_argument("--largest", action="store_true", help="as large a page as there can be")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = flags.keep or Path(scratch) / "set"
        if not (folder / "report").exists():
            if flags.largest:
                put_largest_set(folder, np.random.default_rng(0))
            else:
                put_made_set(folder, flags.shards, np.random.default_rng(0))
        measured = report(folder)
        if flags.chromium:
            measured |= opened(folder, flags.chromium)
    rows = [{"set": "largest page" if flags.largest else f"{flags.shards:,} shards", **measured}]
    print_results(rows, {"report": rows}, ("msgspec", "jinja2", "pillow"))


if __name__ == "__main__":
    main()
