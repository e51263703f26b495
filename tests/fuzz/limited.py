"""Work on hostile bytes in child processes, with limits of CPU time and memory for each piece.

A child does one piece after another until one ends it. The next child goes on behind that.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
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
    """Faults of the pieces up to the one that ends the child, or of all."""
    hearing, telling = Pipe(duplex=False)
    with (
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryDirectory(prefix="alignset-fuzz-", ignore_cleanup_errors=True) as folder,
    ):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()  # with what it starts
                os.environ["TMPDIR"] = tempfile.tempdir = folder  # where all goes with it
                _work(pieces, telling, said)
            finally:
                os._exit(1)
        telling.close()
        faults: list[Fault | None] = []
        with contextlib.suppress(EOFError):  # it has ended
            while len(faults) < len(pieces) and hearing.poll(WALL_S):
                faults.append(hearing.recv())
            os.killpg(pid, signal.SIGKILL)
        end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what it has started
        if len(faults) < len(pieces):
            said.seek(0)
            output = said.read()[-20_000:].decode("utf-8", "replace")
            kind = _end_name(end)
            faults.append(Fault(kind, f"{kind} ({pieces[len(faults)].cpu_s:.0f} s)\n{output}"))
    return faults


def _end_name(status: int) -> str:
    if status >= 0:
        return f"ended with {status}"
    names = {signal.SIGKILL: NO_END, signal.SIGXCPU: MORE_CPU}
    return names.get(signal.Signals(-status), f"ended by {signal.Signals(-status).name}")


def _work(pieces: Sequence[Piece], telling: Connection, said: IO[bytes]) -> None:
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    faulthandler.enable(said)
    faulthandler.register(signal.SIGXCPU, said, chain=True)  # says where, and ends
    unexpected = _Unexpected()
    logging.getLogger("alignset").addHandler(unexpected)
    for piece in pieces:
        said.truncate(0)
        said.seek(0)
        telling.send(_fault_of(piece, unexpected))
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
