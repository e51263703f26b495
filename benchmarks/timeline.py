"""How many cores a run keeps busy, from its first to its last moment.

  python benchmarks/timeline.py [--photos=400] [--step_s=0.25] [--checkout=FOLDER]
                               [FLAGS of curate ...]

Photographs of 57 KB come from nginx on loopback. Prints the user + system time of the command and
of all that it starts, per step of wall time: 2.0 are two busy cores.
--checkout runs the sources of another commit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from photo_server import make_photos, serve, write_list

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = Path(tempfile.gettempdir()) / "alignset-benchmarks" / "photos"
FLAGS = ("--language=", "--min_words=1", "--allow_private_addresses", "--connections_per_host=64")


def cpu_times(root: int) -> dict[int, float]:
    """CPU-seconds of a process and of its descendants, by their numbers."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(folder.name)] = int(fields[1])
        ticks = int(fields[11]) + int(fields[12])
        seconds[int(folder.name)] = ticks / os.sysconf("SC_CLK_TCK")
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {pid: seconds[pid] for pid in family if pid in seconds}


class Watched(NamedTuple):
    """A command's wall time and CPU time in s, the busy cores of each step, and its peak memory in
    bytes, with that of all processes it starts (their proportional set sizes)."""

    wall_s: float
    cpu_s: float
    busy: list[float]
    peak: int


def memory_of(pids: Iterable[int]) -> int:
    """The proportional set size of some processes, in bytes."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:")
    return total << 10


def watch(command: list[str], step_s: float, log: Path) -> Watched:
    """Runs a command.

    Raises:
      SystemExit: it failed; its output is shown.
    """
    begin = last = time.monotonic()
    busy, before, cpu_s, peak = [], {}, 0.0, 0
    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as process:
        while process.poll() is None:
            time.sleep(step_s)
            after, now = cpu_times(process.pid), time.monotonic()
            spent = sum(seconds - before.get(pid, 0) for pid, seconds in after.items())
            busy.append(spent / (now - last))
            cpu_s += max(0.0, spent)
            peak = max(peak, memory_of(after))
            before, last = after, now
    if process.returncode:
        sys.exit(log.read_text())
    return Watched(last - begin, cpu_s, busy[:-1], peak)  # the last step has no measured end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--step_s", type=float, default=0.25)
    parser.add_argument("--checkout", type=Path, default=ROOT)
    options, flags = parser.parse_known_args()
    make_photos(PHOTOS, options.photos)
    with tempfile.TemporaryDirectory() as place, serve(PHOTOS, Path(place)) as server:
        names = [f"{number}.jpg" for number in range(options.photos)]
        write_list(Path(place, "list.parquet"), server, names, options.photos)
        paths = [f"--input={place}/list.parquet", f"--output={place}/out"]
        command = [sys.executable, str(options.checkout / "beam_runner.py"), *paths, *FLAGS, *flags]
        run = watch(command, options.step_s, Path(place, "log"))
    print(
        f"{run.wall_s:.2f} s, {run.cpu_s:.1f} CPU-s; busy cores, one for each {options.step_s} s:"
    )
    print(*(f"{cores:.1f}" for cores in run.busy))


if __name__ == "__main__":
    main()
