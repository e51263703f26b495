"""Measures the rows of README's table, and writes them there: `make benchmarks`, 15 minutes.

  python benchmarks/readme.py [--small]

--small runs each benchmark once on little data and prints the table, to see that all of them work.
Run it on a quiet machine. It needs Linux, nginx, Go and the dev extra.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignset.version import version

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- benchmarks -->\n", "<!-- end of benchmarks -->"
UNSCORED = "--max_unsafe_score=1"
HEAD = "| work | alignset | against | ratio |\n|---|---|---|---|\n"


def figures(command: str) -> dict[str, Any]:
    """The line of JSON that a benchmark ends with."""
    print(f"benchmarks/{command}", file=sys.stderr, flush=True)
    script, *flags = command.split()
    line = [sys.executable, str(ROOT / "benchmarks" / script), *flags]
    done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def by_side(found: Mapping[str, Any]) -> dict[str, Any]:
    return {row["side"]: row for row in found["rows"]}


def row(work: str, ours: float, name: str, theirs: float, unit: str) -> str:
    """A row; the ratio is how many times as fast ours is."""
    ratio = ours / theirs if unit == "samples/s" else theirs / ours
    return f"| {work} | {ours:.1f} {unit} | {name}: {theirs:.1f} {unit} | {ratio:.1f} |\n"


def table(*, small: bool) -> str:
    """The rows, each measured now."""
    images, urls, pairs, repeats = (
        (200, 1_000, 20_000, 1) if small else (4_000, 12_000, 2_000_000, 3)
    )
    fetched = f"fetch.py --mode=small --scored --few={images} --photos={images} --repeats={repeats}"
    fetch = by_side(figures(fetched))
    web = by_side(figures(f"web.py --urls={urls} --ours={UNSCORED}"))
    (text,) = figures(f"text_stage.py --pairs={pairs} --repeats={repeats}")["runs"]
    step = figures(f"train_step.py --steps={2 if small else 5} --repeats={repeats}")["sides"]
    scored, plain, other = (
        fetch[side]["wall s"] for side in ("ours, scored", "ours", "img2dataset")
    )
    slow, theirs = web["ours"]["wall s"], web["img2dataset"]["wall s"]
    return "".join([
        HEAD,
        row(f"{images:,} photographs, all defaults", scored, "img2dataset", other, "s"),
        row(f"the same without NSFW scores (`{UNSCORED}`)", plain, "img2dataset", other, "s"),
        row(f"{urls:,} images of 2,400 slow hosts, without", slow, "img2dataset", theirs, "s"),
        row(
            f"text rules on {pairs:,} pairs, no language filter",
            text["ours_wall_s"], "DuckDB", text["duckdb_wall_s"], "s",
        ),
        row(
            "training, B0 + Mini, batch 64",
            step["ours"]["samples/s"], "open_clip 3.3", step["open_clip"]["samples/s"], "samples/s",
        ),
        f"\nVersion {version()}, {processor()}, {os.cpu_count()} cores.\n",
    ])  # fmt: skip


def processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    has_vnni = "vnni" in Path("/proc/cpuinfo").read_text()
    return f"{found[1] if found else platform.machine()}{' with' if has_vnni else ' without'} VNNI"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="little data, and only print")
    small = parser.parse_args().small
    measured = table(small=small)
    print(measured)
    if not small:
        page = ROOT / "README.md"
        before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        page.write_text(before + begin + measured + rest[rest.index(END) :], encoding="utf-8")


if __name__ == "__main__":
    main()
