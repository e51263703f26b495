"""Costs of a large dataset's report: time, memory, and the size of the page, ours alone.

  python benchmarks/report.py [--rows=20000000] [--keep=FOLDER] [--chromium=PATH]

The dataset is made: sidecars and dropped pairs of chance, with the columns of a run and 10,000
pairs a shard; two fifths of all rows were dropped by their texts. `alignset report` then runs as a
process of its own, once for the page and once for the counts of two other thresholds. With
--chromium=PATH a browser opens the page from `file:` three times; taken is the time until its
script has run and the page answers, by the quickest of them.
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

from tests.support.made_sets import put_made_set

_TIMES, _OF_SHARD = 3, 10_000
ROOT = Path(__file__).resolve().parent.parent
_MEASURED = """
import json, resource, sys
from alignset.pipeline.commands import report as main
status = main(sys.argv[1:])
assert not status
used = resource.getrusage(resource.RUSAGE_SELF)
# Not `ru_maxrss`, which begins at what the process that started this one used.
(peak,) = (of.split()[1] for of in open("/proc/self/status") if of.startswith("VmHWM"))
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": int(peak) / 1024}))
"""


def report(folder: Path, rows: int, *thresholds: str) -> dict[str, float]:
    """Runs the command; wall and CPU s, CPU us a row, and peak MiB of the process."""
    command = [sys.executable, "-c", _MEASURED, str(folder), *thresholds]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    wall = time.monotonic() - begun
    measured = json.loads(done.stdout.splitlines()[-1])
    return {"wall_s": wall, "us_a_row": 1e6 * measured["cpu_s"] / rows, **measured}


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
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--keep", type=Path, help="a folder for the made dataset, which then stays")
    parser.add_argument("--chromium", default="")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = flags.keep or Path(scratch) / "set"
        if not folder.exists():
            texts = flags.rows * 2 // 5
            shards = (flags.rows - texts) // _OF_SHARD
            put_made_set(folder, shards, np.random.default_rng(0), _OF_SHARD, texts=texts)
        page = report(folder, flags.rows)
        page["page_mb"] = (folder / "report.html").stat().st_size / 1e6
        if flags.chromium:
            page |= opened(folder, flags.chromium)
        counts = report(folder, flags.rows, "--max_unsafe_score=0.3", "--min_image_side=150")
    rows = [
        {"what": what, **{name: of.get(name, 0.0) for name in page}}
        for what, of in (("page", page), ("two thresholds", counts))
    ]
    print_results(rows, {"report": rows, "rows": flags.rows}, ("pyarrow", "numpy", "jinja2"))


if __name__ == "__main__":
    main()
