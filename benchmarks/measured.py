"""Costs of a command: wall time, CPU time and peak memory, with everything that it starts.

Run as a script it is the small process between: it starts the command, adopts whatever the command
leaves behind, and waits for all. A large parent must not start the command itself, since Linux
hands a parent's peak of memory on to the process that it forks.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Usage:
    """The cost of one command.

    Attributes:
      wall_s: until the command itself ended.
      cpu_s: user + system, of the command and of all that it started, directly or not.
      peak_mib: resident memory of its largest process.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


def run_measured(command: Sequence[str], log: Path) -> Usage:
    """Runs a command to its end and returns what it cost.

    Args:
      log: a file for what the command prints.

    Raises:
      RuntimeError: it failed; with the end of what it printed.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as report, log.open("wb") as sink:
        watched = [sys.executable, "-S", __file__, report.name, *command]
        code = subprocess.run(watched, stdout=sink, stderr=sink, env=_environment()).returncode
        if code:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{tail}")
        return Usage(**json.loads(Path(report.name).read_bytes()))


def _environment() -> dict[str, str]:
    """Ours, but with compiled modules kept: where they aren't, each start compiles for seconds."""
    kept = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    bytecode = Path(tempfile.gettempdir()) / "alignset-benchmarks/bytecode"
    return {**kept, "PYTHONPYCACHEPREFIX": str(bytecode)}


def check_descendants_count() -> None:
    """Raises where the CPU time of an orphaned grandchild would be lost."""
    burn = "import time; [None for _ in iter(lambda: time.process_time() < 0.3, False)]"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {burn!r}])"
    with tempfile.TemporaryDirectory() as folder:
        usage = run_measured([sys.executable, "-S", "-c", leave], Path(folder) / "log")
    if usage.cpu_s < 0.3:
        raise RuntimeError(f"a grandchild burnt 0.3 s of CPU, but {usage.cpu_s:.2f} s were counted")


def _watch(report: str, command: Sequence[str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt orphans; needs Linux 3.4 or later")
    start = time.monotonic()
    main = os.posix_spawnp(command[0], command, os.environ)
    wall_s = cpu_s = peak_kib = 0.0
    code = 1
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:  # all have ended
            break
        if pid == main:
            wall_s, code = time.monotonic() - start, os.waitstatus_to_exitcode(status)
        # Each sum holds the process's own waited-for children as well.
        cpu_s += usage.ru_utime + usage.ru_stime
        peak_kib = max(peak_kib, usage.ru_maxrss)
    Path(report).write_text(json.dumps(asdict(Usage(wall_s, cpu_s, peak_kib / 1024))))
    return code


if __name__ == "__main__":
    sys.exit(_watch(sys.argv[1], sys.argv[2:]))
