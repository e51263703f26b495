"""The command over the demo's web, on one runner or another, and its outputs compared by hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flink.cluster import HOST, PARTS, ROOT, Cluster, Ports

SETS = PARTS / "sets"


@dataclass(frozen=True)
class FlinkInput:
    """Pairs to run over.

    Args:
      name: tells its outputs apart. flags: what it is run with, its input too.
    """

    name: str
    flags: tuple[str, ...]

    def command(self, output: Path, flags: Sequence[str]) -> list[str]:
        """The command as a user types it."""
        return [sys.executable, "beam_runner.py", f"--output={output}", *self.flags, *flags]


@dataclass(frozen=True)
class EndedCommand:
    """A command that ended: its exit status, its wall time, the last line that it said."""

    status: int
    seconds: float
    last_line: str


def run(command: Sequence[str], log: Path) -> EndedCommand:
    """Runs a command to its end."""
    begun = time.monotonic()
    with log.open("w") as sink:
        status = subprocess.run(command, cwd=ROOT, stdout=sink, stderr=sink).returncode
    return EndedCommand(status, time.monotonic() - begun, last_line(log))


def last_line(log: Path) -> str:
    return (log.read_text(errors="replace").splitlines() or [""])[-1]


def set_hash(output: Path) -> str:
    """SHA-256 over the names and bytes of all files of an output, hidden ones too."""
    digest = hashlib.sha256()
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(output)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def demo_web(*, small: bool) -> Iterator[FlinkInput]:
    """The demo's web, built once, while it is served."""
    folder = PARTS / ("web-small" if small else "web")
    mark = folder / "port"
    if not mark.exists():
        port = free_port()
        build = [sys.executable, "-m", "alignset.demo.web", "build", str(folder), f"--port={port}"]
        subprocess.run([*build, *(["--small"] if small else [])], cwd=ROOT, check=True)
        mark.write_text(str(port))
    serve = [sys.executable, "-m", "alignset.demo.serve", str(folder), f"--port={mark.read_text()}"]
    served = subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_for(int(mark.read_text()))
        rules = json.loads((folder / "flags.json").read_text())
        flags = (
            f"--input={folder / 'pairs.parquet'}",
            f"--eval_images=scenes={folder / 'eval'}",
            "--allow_private_addresses",
            "--max_unsafe_score=1",  # 10 ms an image, of what is measured here in fetches
            f"--samples_per_shard={60 if small else 500}",
            *(f"--{name}={value}" for name, value in rules.items()),
        )
        yield FlinkInput(folder.name, flags)
    finally:
        served.terminate()
        served.wait()


def wait_for(port: int) -> None:
    """Until something listens there."""
    for _ in range(300):
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, port), 1).close()
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at port {port}")


@contextlib.contextmanager
def cluster(name: str, *, slots: int = 2) -> Iterator[Cluster]:
    """A cluster of its own, beside any other, while the block runs."""
    started = Cluster(PARTS / f"run-{name}-{os.getpid()}", Ports(*(free_port() for _ in range(5))))
    started.start()
    try:
        yield started
    finally:
        started.stop()
    shutil.rmtree(started.folder)  # its logs are of no use where all went well
