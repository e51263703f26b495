"""Work on hostile bytes in child processes, with limits of CPU time and memory for each piece.

A child does one piece after another until one ends it. The next child goes on behind that.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from tests.support.root import ROOT

MEMORY = 2 << 30  # bytes that a piece may take beside those that it begins with
# Address space: where so much is refused, code that catches the error hides it, so that resident
# memory is looked at too, and is measured up to here.
ADDRESSES = 2 * MEMORY
MORE_CPU, MORE_MEMORY, NO_END = "more CPU", "more memory", "no end"
WALL_S = 120.0  # without a sign of life: a piece that waits
OURS = f"{ROOT}/"
_UNEXPECTED = "please report it"  # what our own code says of errors that nobody foresaw


class Piece(NamedTuple):
    """Work within limits.

    Fields:
      work: raises where something is wrong. cpu_s: of it and of what it starts.
    """

    work: Callable[[], object]
    cpu_s: float


class Fault(NamedTuple):
    """What was wrong: in a line, without what differs from file to file, and in full."""

    kind: str
    said: str


def faults_of(pieces: Sequence[Piece]) -> list[Fault | None]:
    """Does each piece in a child; what was wrong with it, or None."""
    faults: list[Fault | None] = []
    while len(faults) < len(pieces):
        faults += _faults_of_child(pieces[len(faults) :])
    return faults


def _faults_of_child(pieces: Sequence[Piece]) -> list[Fault | None]:
    """Of the first pieces: all, or those up to the one that ends the child."""
    reading, writing = os.pipe()
    with (
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryDirectory(prefix="alignset-fuzz-", ignore_cleanup_errors=True) as folder,
    ):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()  # with what it starts
                os.close(reading)
                os.environ["TMPDIR"] = tempfile.tempdir = folder  # where all goes with it
                _work(pieces, writing, said)
            finally:
                os._exit(1)
        os.close(writing)
        try:
            with os.fdopen(reading, "rb", 0) as told:
                faults, end = _heard(pid, told)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        if len(faults) < len(pieces):
            said.seek(0)
            output = said.read()[-20_000:].decode("utf-8", "replace")
            kind = MORE_CPU if end == -signal.SIGXCPU else _end_name(end)
            faults.append(Fault(kind, f"{kind} ({pieces[len(faults)].cpu_s:.0f} s)\n{output}"))
    return faults


def _end_name(status: int | None) -> str:
    if status is None:
        return NO_END
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"


def _heard(pid: int, told: IO[bytes]) -> tuple[list[Fault | None], int | None]:
    """What a child tells of its pieces, and its status, or None of one that waits."""
    faults: list[Fault | None] = []
    rest, heard = b"", time.monotonic()
    while time.monotonic() - heard < WALL_S:
        ended, status = os.waitpid(pid, os.WNOHANG)
        while select.select([told], [], [], 0 if ended else 0.2)[0] and (
            part := told.read(1 << 16)
        ):
            heard = time.monotonic()
            *lines, rest = (rest + part).split(b"\n")
            faults += [fault and Fault(*fault) for fault in map(json.loads, lines)]
        if ended:
            return faults, os.waitstatus_to_exitcode(status)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return faults, None


def _work(pieces: Sequence[Piece], writing: int, said: IO[bytes]) -> None:
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    faulthandler.enable(said)
    faulthandler.register(signal.SIGXCPU, said, chain=True)  # says where, and ends
    unexpected = _Unexpected()
    logging.getLogger("alignset").addHandler(unexpected)
    for piece in pieces:
        said.truncate(0)
        said.seek(0)
        fault = _fault_of(piece, unexpected)
        os.write(writing, json.dumps(fault).encode() + b"\n")
    os._exit(0)


class _Unexpected(logging.Handler):
    """Keeps what our own code logs of errors that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if _UNEXPECTED in (line := record.getMessage()):
            self.lines.append(line)


def _fault_of(piece: Piece, unexpected: _Unexpected) -> Fault | None:
    unexpected.lines.clear()
    begun_s, begun_bytes = _cpu_s(), _memory("VmRSS")
    _limit(piece)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is anew from here
    try:
        piece.work()
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [
            f for f in frames if f.filename.startswith(OURS) and "site-packages" not in f.filename
        ]
        last = (ours or frames)[-1]
        place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        return Fault(f"{type(error).__name__} at {place}", traceback.format_exc())
    finally:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    if unexpected.lines:
        return Fault(unexpected.lines[0].rpartition(" at ")[2], unexpected.lines[0])
    if (memory := _memory("VmHWM") - begun_bytes) > MEMORY:
        return Fault(MORE_MEMORY, f"{memory / 2**30:.1f} GiB of memory")
    if (seconds := _cpu_s() - begun_s) > piece.cpu_s:  # with processes that it started
        return Fault(MORE_CPU, f"{seconds:.0f} s of CPU")
    return None


def _limit(piece: Piece) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = int(own.ru_utime + own.ru_stime + piece.cpu_s + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + ADDRESSES, hard))


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _memory(name: str) -> int:
    """Bytes of this process: VmRSS, VmHWM (the peak of that) or VmSize."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) << 10
