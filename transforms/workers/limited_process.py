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

_REQUEST = struct.Struct("<HQdQ")  # bytes of the function's name and of the body; CPU s; memory
_REPLY = struct.Struct("<BI")  # the kind, and how many parts follow, each behind its size
_SIZE = struct.Struct("<Q")
_DONE, _RAISED, _NO_MEMORY = range(3)
_PIPE = 1 << 20  # bytes: 64 KiB, as pipes have, are 14 turns for an image of 640 x 480 px
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
                bufsize=0,
                env={**os.environ, **variables, **path},
            )
        except OSError as error:
            raise ChildError(f"no child process can be started: {error}") from error
        assert self.process.stdin
        assert self.process.stdout
        self._requests, self._replies = self.process.stdin, self.process.stdout
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # a user has a limit of pages in all pipes
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)

    def call(self, name: bytes, body: bytes, limits: Limits) -> list[bytearray]:
        try:
            self._send(_REQUEST.pack(len(name), len(body), *limits) + name)
            self._send(body)
        except BrokenPipeError:
            raise self._dead() from None
        self._wait(max(LIMIT_S, 2 * limits.cpu_s))
        kind, count = _REPLY.unpack(self._receive(_REPLY.size))
        sizes = [_SIZE.unpack(self._receive(_SIZE.size))[0] for _ in range(count)]
        parts = [self._receive(size) for size in sizes]
        if kind == _RAISED:
            raise RaisedError(*(part.decode("utf-8", "replace") for part in parts))
        if kind == _NO_MEMORY:
            raise CostlyError
        return parts

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._requests.write(view) :]

    def _wait(self, limit_s: float) -> None:
        looks = int(limit_s / _LOOK_S)  # no clock: it goes on while both processes are stopped
        waiting = select.poll()  # `select.select` takes no number above 1,023
        waiting.register(self._replies, select.POLLIN)
        while not waiting.poll(_LOOK_S * 1000):
            looks -= 1
            try:
                check_stopped()
            except InterruptedError as error:
                raise ChildError(str(error)) from error
            if looks <= 0:
                raise OvertimeError

    def _receive(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._replies.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise self._dead()
            view = view[count:]
        return data

    def _dead(self) -> _DeadError:
        return _DeadError(-self.process.wait())

    def end(self) -> None:
        self.process.kill()
        self.forget()
        self.process.wait()

    def forget(self) -> None:
        """Closes its pipes, at whose end it ends."""
        for pipe in (self._requests, self._replies):
            with suppress(OSError):
                pipe.close()


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
) -> list[bytearray]:
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


def _limit(limits: Limits) -> None:
    """Ends this process by SIGPROF after so much CPU time, and bounds its memory."""
    with open("/proc/self/statm") as file:
        begun_with = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = begun_with + limits.memory
    resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)


def _answer(requests: IO[bytes], replies: IO[bytes]) -> bool:
    """Answers one request; False where none comes any more."""
    head = requests.read(_REQUEST.size)
    if len(head) < _REQUEST.size:
        return False
    name_size, body_size, cpu_s, memory = _REQUEST.unpack(head)
    module, _, name = requests.read(name_size).decode().partition(":")
    function = getattr(importlib.import_module(module), name)
    kind, parts = _DONE, list[bytes]()
    body = requests.read(body_size)
    try:
        _limit(Limits(cpu_s, memory))
        parts = [*function(body)]
    except MemoryError:
        kind = _NO_MEMORY
    except Exception as error:  # decoders raise many kinds
        kind, number, text = _NO_MEMORY, getattr(error, "errno", None), str(error)
        if number != errno.ENOMEM and "out of memory" not in text.lower():
            kind = _RAISED
            parts = [type(error).__name__.encode(), text[:1000].encode("utf-8", "replace")]
    signal.setitimer(signal.ITIMER_PROF, 0)
    resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
    sizes = b"".join(_SIZE.pack(len(part)) for part in parts)
    replies.write(_REPLY.pack(kind, len(parts)) + sizes)
    for part in parts:
        replies.write(part)
    replies.flush()
    return True


def main() -> None:
    """Answers requests on standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Sent to a group of processes, these would cost a good image. The parent ends this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder may print
    with suppress(BrokenPipeError):
        while _answer(sys.stdin.buffer, replies):
            pass


if __name__ == "__main__":
    main()
