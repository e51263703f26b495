"""What it costs to write a GiB to a file, by the size of each write: system time in s.

  python benchmarks/write_sizes.py [--sizes=64,1024,2048,8192] [--repeats=3] [--folder=/tmp]

Sizes are in KiB; by turns. Each file is taken away at once, and a few seconds pass between, in
which a virtual machine gives free memory back. `PieceFile` of transforms/storage/files.py writes
1024.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from results import print_results

TOTAL, PAUSE_S = 1 << 30, 4.0


def write_s(folder: Path, size: int) -> float:
    """System time in s of writing `TOTAL` bytes, `size` at a time."""
    data = memoryview(os.urandom(1 << 16) * (size >> 16))
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        start = os.times().system
        for _ in range(TOTAL // size):
            file.write(data)
        return os.times().system - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="64,1024,2048,8192", help="KiB; multiples of 64")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    flags = parser.parse_args()
    seconds: dict[int, list[float]] = defaultdict(list)
    for _ in range(flags.repeats):
        for kib in map(int, flags.sizes.split(",")):
            seconds[kib].append(write_s(flags.folder, kib << 10))
            print(f"{kib} KiB: {seconds[kib][-1]:.2f} s", file=sys.stderr)
            time.sleep(PAUSE_S)
    rows = [{"KiB a write": kib, "system s": median(times)} for kib, times in seconds.items()]
    print_results(rows, {"benchmark": "write_sizes", "system_s": seconds}, ())


if __name__ == "__main__":
    main()
