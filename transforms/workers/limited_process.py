"""Functions called in child processes, within limits of CPU time and memory.

A file of some KB can keep a decoder busy for hours, or have it take all memory. No thread can be
stopped in that, so what may be asked for it runs in a process that can.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import resource
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock, Semaphore
from typing import IO, NamedTuple

from alignset.transforms.workers.threads import THREADS, check_stopped

Function = Callable[[bytes], Sequence[bytes]]

_LIMITS = struct.Struct("<dQ")  # CPU s, memory; the function's name follows, then the body
_REPLY = struct.Struct("<BI")  # the kind, and how many parts follow
_SIZE = struct.Struct("<Q")  # before each message
_DONE, _RAISED, _NO_MEMORY = range(3)
_PIPE_BYTES = 1 << 20  # 64 KiB, as pipes have, are 14 turns for an image of 640 x 480 px
LIMIT_S = 300.0  # a decoder that waits for itself takes no CPU time
# glibc's allocator keeps blocks below 32 MiB for the next image. Else it returns each one to the
# system, and new pages take half as long as a decode.
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 26)}
# glibc's allocator for debugging, which has no caches and checks what is freed: what was written
# behind a block is otherwise found later, in another call, or not here at all. Other systems
# ignore it.
_CHECKS = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
_LOOK_S = 0.5  # between two looks whether the caller is to stop


class CostlyError(Exception):
    """A function took more CPU time or memory than it was given."""


class OvertimeError(CostlyError):
    """It took more time."""


class CrashError(Exception):
    """A function ended its process by a signal, twice."""


class ChildError(BaseException):
    """No child process answers: none can be started, one ends, or this thread's work is to end.

    Who decodes an image holds every Exception against the image, and this is not its fault.
    """


class RaisedError(Exception):
    """An error that a function raised, by its type's name and its message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Limits(NamedTuple):
    """Limits of a call: CPU time in s, and bytes of memory that its process may take for it."""

    cpu_s: float
    memory: int


class _DeadError(Exception):
    """The process ended by this signal, or with this status as a negative number."""


class _Child:
    """A process that calls functions, one at a time."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        # It finds what this process imports, and takes no module out of the folder of the user.
        path = {"PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "alignset.transforms.workers.limited_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **variables, **path},
            )
        except OSError as error:
            raise ChildError(f"no child process can be started: {error}") from error
        assert self.process.stdin
        assert self.process.stdout
        self._requests, self._replies = self.process.stdin, self.process.stdout
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # a user has a limit of pages in all pipes
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def call(self, name: bytes, body: bytes, limits: Limits) -> list[bytes]:
        try:
            _send(self._requests, _LIMITS.pack(*limits) + name, body)
            self._wait(max(LIMIT_S, 2 * limits.cpu_s))
            kind, count = _REPLY.unpack(_receive(self._replies))
            parts = [_receive(self._replies) for _ in range(count)]
        except (EOFError, OSError):
            self.process.kill()  # it may have closed its pipe and live; else this changes nothing
            raise _DeadError(-self.process.wait()) from None
        if kind == _RAISED:
            raise RaisedError(*(part.decode("utf-8", "replace") for part in parts))
        if kind == _NO_MEMORY:
            raise CostlyError
        return parts

    def _wait(self, limit_s: float) -> None:
        looks = int(limit_s / _LOOK_S)  # no clock: it goes on while both processes are stopped
        waiting = select.poll()  # `select.select` takes no number above 1,023
        waiting.register(self._replies, select.POLLIN)
        while not waiting.poll(_LOOK_S * 1000):
            looks -= 1
            try:
                check_stopped()
            except InterruptedError as error:  # an OSError, which would say that the child died
                raise ChildError(str(error)) from error
            if looks <= 0:
                raise OvertimeError

    def end(self) -> None:
        self.process.kill()
        self.forget()
        self.process.wait()

    def forget(self) -> None:
        """Closes its pipes, at whose end it ends."""
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # of what a dead one has not read
                pipe.close()


def _send(pipe: IO[bytes], *messages: bytes) -> None:
    for message in messages:
        pipe.write(_SIZE.pack(len(message)))
        pipe.write(message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """Reads a message, into memory that is allocated once: the pieces that a pipe gives are small.

    Raises:
      EOFError: the pipe ends before.
    """
    head = pipe.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    (size,) = _SIZE.unpack(head)
    message = pipe.read(size)
    if len(message) < size:
        raise EOFError
    return message


class Children:
    """The idle children of this process. As many work at once as it has threads for images.

    Args:
      variables: added to this process's environment for them.
    """

    def __init__(self, variables: Mapping[str, str] = _HEAP) -> None:
        self._variables = variables
        self._renew()
        os.register_at_fork(after_in_child=self._leave)

    def _renew(self) -> None:
        self._idle: list[_Child] = []
        self._lock, self._slots = Lock(), Semaphore(THREADS)

    def _leave(self) -> None:
        """The children are the parent's: they would not end with it while a fork holds a pipe."""
        for child in self._idle:
            child.forget()
            child.process.returncode = 0  # or `Popen` would wait for it when it is deleted
        self._renew()

    @contextmanager
    def one(self, fresh: bool) -> Iterator[_Child]:
        """A child, which stays for others unless its call raises more than its function did."""
        with self._slots:
            with self._lock:
                child = self._idle.pop() if self._idle and not fresh else None
            child = child or _Child(self._variables)
            try:
                yield child
            except RaisedError:
                self._keep(child)
                raise
            except BaseException:
                child.end()
                raise
            self._keep(child)

    def _keep(self, child: _Child) -> None:
        with self._lock:
            self._idle.append(child)

    def end_idle(self) -> None:
        """Ends those that do nothing; the next call may start another."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()


CHILDREN = Children()
CHECKED = Children(_CHECKS)  # they die of what would be found later elsewhere, and are slower


def call_limited(
    function: Function, body: bytes, limits: Limits, children: Children | None = None
) -> list[bytes]:
    """Calls a function in a child process. For all threads.

    Args:
      function: of a module; its parts are handed back.
      children: CHILDREN if None.

    Raises:
      CostlyError: it passed a limit; OvertimeError if this is a limit of time.
      CrashError: it ended its process by a signal, and a new one too: a process may die of what an
        earlier call did to its heap.
      RaisedError: it raised.
      ChildError: no process can be started, or the work of this thread is to end.
    """
    name = f"{function.__module__}:{function.__qualname__}".encode()
    for is_last in (False, True):
        try:
            with (children or CHILDREN).one(fresh=is_last) as child:
                return child.call(name, body, limits)
        except _DeadError as dead:
            (number,) = dead.args
            if number == signal.SIGPROF:
                raise OvertimeError from None
            if number <= 0:
                raise ChildError(f"a child process ended with status {-number}") from None
            if is_last:
                raise CrashError(signal.strsignal(number)) from None
    raise AssertionError


def _answer(name: str, body: bytes, cpu_s: float, memory: int) -> tuple[int, Sequence[bytes]]:
    """Calls a function; this process ends by SIGPROF after so much CPU time."""
    module, _, function = name.partition(":")
    called = getattr(importlib.import_module(module), function)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    try:
        with open("/proc/self/statm") as file:
            bound = int(file.read().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (bound if hard < 0 else min(bound, hard), hard))
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        return _DONE, [*called(body)]
    except MemoryError:
        return _NO_MEMORY, ()
    except Exception as error:  # decoders raise many kinds
        text = str(error)
        if getattr(error, "errno", None) == errno.ENOMEM or "out of memory" in text.lower():
            return _NO_MEMORY, ()
        return _RAISED, [type(error).__name__.encode(), text[:1000].encode("utf-8", "replace")]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def main() -> None:
    """Answers requests on standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Sent to a group of processes, these would cost a good image. The parent ends this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder may print
    with suppress(EOFError, BrokenPipeError):
        while True:
            head, body = _receive(requests), _receive(requests)
            name = head[_LIMITS.size :].decode()
            kind, parts = _answer(name, body, *_LIMITS.unpack_from(head))
            _send(replies, _REPLY.pack(kind, len(parts)), *parts)


if __name__ == "__main__":
    main()
