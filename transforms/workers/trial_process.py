"""Work tried in a process of its own, since it may end the process that does it.

A signal such as SIGSEGV cannot be caught, so whoever met one tries the same bytes here first.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from alignset.transforms.workers.limited_process import child_command, child_path
from alignset.transforms.workers.threads import check_stopped

# Raises nothing for any bytes; may end its process.
Work = Callable[[Sequence[bytes]], object]

# For one body: the largest image takes 3 s a decode. And for a new process, which imports and,
# where that was not done before, compiles kernels: 30 s of CPU.
TRIAL_S, START_S = 60.0, 600.0
_LOOK_S = 0.5  # between two looks whether the caller is to stop
# glibc's allocator for debugging, which has no caches and checks what is freed: what was written
# behind a block is otherwise found later, while innocent bytes are decoded, or not here at all.
# Other systems ignore it.
_CHECKED = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}


class TrialProcess:
    """Tries which bodies end the process that works on them. For all threads, one at a time.

    Args:
      work: pickled, a function that can be imported.

    Attributes:
      process: that works, once the first body came. scratch: the folder of its temporary files.
    """

    def __init__(self, work: bytes) -> None:
        self._work, self._lock = work, Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.scratch: tempfile.TemporaryDirectory[str] | None = None

    def lethal(self, bodies: Sequence[bytes]) -> set[int]:
        """The numbers of the bodies that, each by itself, end a process by a signal, or have it
        hang.

        Raises:
          RuntimeError: the work raised, or the process cannot be started.
        """
        with self._lock:
            return (
                set() if self._survives(bodies) else set(self._search(bodies, range(len(bodies))))
            )

    def _search(self, bodies: Sequence[bytes], rows: Sequence[int]) -> Iterator[int]:
        """Halves what has ended a process. Each trial has a new one, or what one body does to the
        heap would be held against the next."""
        half = len(rows) // 2
        for part in filter(len, (rows[:half], rows[half:])):
            self.end()
            if not self._survives([bodies[row] for row in part]):
                yield from part if len(part) == 1 else self._search(bodies, part)
        self.end()

    def _survives(self, bodies: Sequence[bytes]) -> bool:
        start_s = 0.0 if self.process else START_S
        process = self.process = self.process or self._start()
        try:
            self._send(pickle.dumps(bodies))
            error = self._answer(start_s + TRIAL_S * len(bodies))
        except (EOFError, BrokenPipeError):
            status = process.wait()
            self.end()
            if status >= 0:
                raise RuntimeError(f"a trial process ended with status {status}") from None
            return False
        except BaseException:  # this work is stopped: an answer that comes is nobody's
            self.end()
            raise
        if error:
            raise RuntimeError(f"a trial process raised {error}")
        return error is not None

    def _start(self) -> subprocess.Popen[bytes]:
        # It cannot take away what it was writing when it died.
        self.scratch = tempfile.TemporaryDirectory(prefix="alignset-trial-")
        self.process = subprocess.Popen(
            child_command("alignset.transforms.workers.trial_process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _CHECKED | child_path() | {"TMPDIR": self.scratch.name},
        )
        self._send(self._work)
        return self.process

    def _send(self, message: bytes) -> None:
        assert self.process
        assert self.process.stdin
        self.process.stdin.write(message)
        self.process.stdin.flush()

    def _answer(self, limit_s: float) -> str | None:
        """The error of the work, empty if none; None where the process hangs, which ends it."""
        assert self.process
        assert self.process.stdout
        until = time.monotonic() + limit_s
        waiting = select.poll()
        waiting.register(self.process.stdout, select.POLLIN)
        while not waiting.poll(_LOOK_S * 1000):
            check_stopped()
            if time.monotonic() > until:
                self.end()
                return None
        return pickle.load(self.process.stdout)

    def end(self) -> None:
        """Ends the process, if there is one; the next trial starts another."""
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None
        if self.scratch:
            self.scratch.cleanup()
            self.scratch = None


SHARED: dict[bytes, tuple[TrialProcess, int]] = {}  # with how many use it
_LOCK = Lock()


@contextmanager
def trial_process(work: Work) -> Iterator[TrialProcess]:
    """The trial process of some work, one for all threads of this process that use it at a time."""
    work_bytes = pickle.dumps(work)
    with _LOCK:
        trial, users = SHARED.get(work_bytes) or (TrialProcess(work_bytes), 0)
        SHARED[work_bytes] = trial, users + 1
    try:
        yield trial
    finally:
        with _LOCK:
            _, users = SHARED.pop(work_bytes)
            if users > 1:
                SHARED[work_bytes] = trial, users - 1
            else:
                trial.end()


def main() -> None:
    """Tries what comes on standard input until that ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Sent to a group of processes, these would condemn a good image. The parent ends this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder may print
    work: Work = pickle.load(sys.stdin.buffer)
    while True:
        try:
            bodies: Any = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        error = ""
        try:
            work(bodies)
        except Exception as raised:
            error = repr(raised)
        pickle.dump(error, answers)
        answers.flush()


if __name__ == "__main__":
    main()
