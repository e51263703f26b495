"""Commands in forks of a process that has imported all of theirs, which saves 3 to 6 s of CPU each.

The process is one of its own, `python -m tests.support.forks`, so that a command sees nothing of
the test's: it has its own arguments, environment, folder and output. It is started by the first
command that needs it, serves all workers of a run of pytest, and ends with the last of them.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import traceback
from collections.abc import Mapping
from functools import lru_cache
from typing import IO, NamedTuple, NoReturn

from alignset.signals import run_main
from tests.support.root import ROOT

CURATION = (
    "alignset.beam_runner",
    "alignset.pipeline.run",
    "alignset.transforms.shards.build_shard",
)
TRAINING = (
    *(
        "alignset.train.loop",
        "alignset.train.__main__",
        "alignset.train.classify.loop",
        "alignset.train.evaluate.__main__",
    ),
    *("alignset.train.memory", "tensorboardX", "torch.distributed.run"),
)
# One thread: several may share a sum out differently from run to run. And no GPU is looked for but
# by a library that leaves it to the forks: to workers that test with one.
ALONE = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
SHARED = "ALIGNSET_FORKS"  # in the environment: where the process listens that all share
MOST_BYTES = 1 << 20  # of a request: arguments and environment
# Before any test changes it: what is imported in it serves the tests of all workers.
_ENVIRONMENT = dict(os.environ)
_STARTED: list[subprocess.Popen[bytes]] = []  # kept, since nobody waits for their end


class Forked:
    """A command that was started, much as `subprocess.Popen` has it.

    Attributes:
      pid: of the process that a command is, which starts no other Python.
      stdout, stderr: what it says, unless it was given files to say it to.
    """

    def __init__(self, channel: socket.socket, stdout: IO[str] | None, stderr: IO[str] | None):
        self._channel, self.stdout, self.stderr = channel, stdout, stderr
        self.returncode: int | None = None
        self.pid = int(channel.recv(20))

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                self.returncode = int(self._channel.recv(20))
            except (TimeoutError, BlockingIOError) as error:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from error
            self._channel.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has said when it has ended."""
        said = ["", ""]

        def read(at: int, stream: IO[str] | None) -> None:
            if stream and not stream.closed:
                said[at] = stream.read()
                stream.close()

        readers = [
            threading.Thread(target=read, args=(at, stream), daemon=True)
            for at, stream in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return said[0], said[1]

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _connected(place: str) -> socket.socket | None:
    """A channel to the process that listens there, if one does."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.connect(place)
    except OSError:
        channel.close()
        return None
    return channel


@lru_cache
def server_of(modules: tuple[str, ...]) -> socket.socket:
    """A channel to the process that has imported some modules, which is started if it must be."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")
    # Without a file, so that nothing is left of it: Linux knows it by this name alone.
    place = "\0" + os.environ.get(SHARED, f"alignset-{run}-{modules[0]}")
    while (channel := _connected(place)) is None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            try:
                listening.bind(place)
            except OSError:  # another worker starts it just now
                time.sleep(0.01)
                continue
            listening.listen()
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forks", str(listening.fileno()), *modules],
                cwd=ROOT,
                env=_ENVIRONMENT | ALONE,
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
            )
            _STARTED.append(started)
    return channel


def start(
    main: str,
    *args: object,
    cwd: object = ROOT,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    stdin: int | None = None,
) -> Forked:
    """Starts a command: a function of its arguments that gives an exit status.

    Args:
      main: as "package.module:function".
      env: in place of this process's environment.
      stdout, stderr: files that it says to what it says, in place of pipes.
      stdin: a file that it reads; where that is a terminal, the command takes hold of it.
    """
    words = [main, [str(word) for word in args], str(cwd), dict(os.environ if env is None else env)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    streams: list[IO[str] | None] = []
    ends, given = [], []
    for file in (stdout, stderr):
        if file is None:
            reading, writing = os.pipe()
            streams.append(os.fdopen(reading, errors="replace"))
            ends.append(writing)
            given.append(writing)
        else:
            streams.append(None)
            given.append(file)
    trains = main.startswith(("alignset.train.", "torch.")) or main.endswith(":training")
    modules = TRAINING if trains else CURATION
    request = json.dumps(words).encode()
    with theirs:
        files = [*given, theirs.fileno(), *([] if stdin is None else [stdin])]
        try:
            socket.send_fds(server_of(modules), [request], files)
        except ConnectionError:  # the system has ended it, as for want of memory
            server_of.cache_clear()
            socket.send_fds(server_of(modules), [request], files)
    for end in ends:
        os.close(end)
    return Forked(ours, *streams)


class _Request(NamedTuple):
    main: str
    args: list[str]
    cwd: str
    environment: dict[str, str]


def _serve(listening: socket.socket) -> None:
    """Forks for each request, until nobody is left who could make one."""

    def reap(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    signal.signal(signal.SIGCHLD, reap)
    channels = [listening.accept()[0]]  # of the process that started this one
    while ready := select.select([listening, *channels], [], [], None if channels else 0)[0]:
        channel = ready[0]
        if channel is listening:
            channels.append(listening.accept()[0])
            continue
        message, files, *_ = socket.recv_fds(channel, MOST_BYTES, 4)
        if not message:
            channel.close()
            channels.remove(channel)
        elif os.fork() == 0:
            for channel in (listening, *channels):
                channel.close()
            _watch(_Request(*json.loads(message)), *files)
        for file in files:
            os.close(file)


def _watch(request: _Request, stdout: int, stderr: int, channel: int, *stdin: int) -> NoReturn:
    """A command in a fork, whose number and status the process that asked for it is told."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    files = (stdout, stderr, *stdin)
    if pid == 0:
        os.close(channel)
        _run(request, *files)
    for file in files:
        os.close(file)
    with socket.socket(fileno=channel) as told:
        told.send(str(pid).encode())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):  # nobody waits for it any more
            told.send(str(status).encode())
    os._exit(0)


def _run(request: _Request, *files: int) -> NoReturn:
    for file, ours in zip(files, (1, 2, 0), strict=False):
        os.dup2(file, ours)
    for file in {*files}:
        os.close(file)
    if terminal := os.isatty(0):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdout.reconfigure(line_buffering=terminal)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ |= request.environment
    module, _, function = request.main.partition(":")
    sys.argv = [module, *request.args]
    try:
        there = importlib.import_module(module)
        call = getattr(there, function)
        is_command = function == "main" and hasattr(there, "NAME")
        status = run_main(call, there.NAME, request.args) if is_command else call(request.args) or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    # As Python ends, but for taking down all that was imported, which is a second of CPU.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def main() -> NoReturn:
    number, *modules = sys.argv[1:]
    gc.disable()  # what is imported is no garbage
    sys.modules["wandb"] = None  # type: ignore[assignment]  # as conftest.py has it
    with socket.socket(fileno=int(number)) as listening:
        for module in modules:
            importlib.import_module(module)
        del sys.modules["wandb"]
        gc.freeze()
        gc.enable()
        _serve(listening)
    os._exit(0)  # as in _run


if __name__ == "__main__":
    main()
