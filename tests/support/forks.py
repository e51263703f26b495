"""Commands in forks of a process that has imported all of theirs, which saves 3 to 6 s of CPU each.

The process is one of its own, `python -m tests.support.forks`, so that a command sees nothing of
the test's: it has its own arguments, environment, folder and output. It is started for the first
command, and ends with the process that started it.
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
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NoReturn

from alignset.signals import run_main
from tests.support.root import ROOT

CURATION = (
    *("alignset.beam_runner", "alignset.pipeline.run"),
    "alignset.transforms.shards.build_shard",
)
TRAINING = (
    *(
        "alignset.train.loop",
        "alignset.train.__main__",
        "alignset.train.classify.classifier",
        "alignset.train.evaluate.__main__",
    ),
    *("alignset.train.start", "tensorboardX", "torch.distributed.run"),
)
# One thread: several may share a sum out differently from run to run. And no GPU is looked for but
# by a library that leaves it to the forks: to workers that test with one.
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ALONE |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
SHARED = "ALIGNSET_FORKS"  # in the environment: where the process listens that all share
MOST_BYTES = 1 << 20  # of a request: arguments and environment
# Before any test changes it: what is imported in it serves the tests of all workers.
_ENVIRONMENT = dict(os.environ)
_STARTED: list[subprocess.Popen[bytes]] = []  # kept: they end as their standard input does
_STARTING = threading.Lock()


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

        def read(stream: IO[str] | None) -> str:
            if stream is None or stream.closed:
                return ""
            with stream:
                return stream.read()

        with ThreadPoolExecutor(2) as pool:
            said = pool.map(read, (self.stdout, self.stderr))
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            out, err = said
            return out, err

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def connect(modules: tuple[str, ...]) -> socket.socket:
    """A channel to the process that has imported some modules, which is started if it must be."""
    # Without a file, so that nothing is left of it: Linux knows it by this name alone.
    place = "\0" + os.environ.get(SHARED, f"alignset-{os.getpid()}-{modules[0]}")
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _STARTING:
        if not channel.connect_ex(place):
            return channel
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(place)
            listening.listen()
            words = ["-m", "tests.support.forks", str(listening.fileno()), *modules]
            started = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env=_ENVIRONMENT | ALONE,
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
            )
            _STARTED.append(started)
    channel.connect(place)
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
    trains = main.startswith(("alignset.train.", "torch.")) or main.endswith(":training")
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
    if stdin is None:
        stdin = os.open(os.devnull, os.O_RDONLY)
        ends.append(stdin)
    channel = connect(TRAINING if trains else CURATION)
    socket.send_fds(channel, [json.dumps(words).encode()], [*given, stdin])
    for end in ends:
        os.close(end)
    return Forked(channel, *streams)


def _serve(listening: socket.socket) -> None:
    """Forks for each request, until the process that started this one ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while listening in select.select([listening, sys.stdin], [], [])[0]:
        channel = listening.accept()[0]
        if os.fork() == 0:
            listening.close()
            try:
                _watch(channel)
            finally:
                os._exit(0)
        channel.close()


def _watch(channel: socket.socket) -> None:
    """A command in a fork, whose number and status the process that asked for it is told."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, files, *_ = socket.recv_fds(channel, MOST_BYTES, 3)
    if not message:
        return
    pid = os.fork()
    if pid == 0:
        channel.close()
        _run(*json.loads(message), *files)
    for file in files:
        os.close(file)
    channel.send(str(pid).encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # nobody waits for it any more
        channel.send(str(status).encode())


def _run(
    main: str, args: list[str], cwd: str, environment: dict[str, str], *files: int
) -> NoReturn:
    for file, ours in zip(files, (1, 2, 0), strict=True):
        os.dup2(file, ours)
    for file in {*files}:
        os.close(file)
    if terminal := os.isatty(0):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdout.reconfigure(line_buffering=terminal)
    os.chdir(cwd)
    os.environ.clear()
    os.environ |= environment
    module, _, function = main.partition(":")
    sys.argv = [module, *args]
    try:
        there = importlib.import_module(module)
        call = getattr(there, function)
        is_command = function == "main" and hasattr(there, "NAME")
        status = run_main(call, there.NAME, args) if is_command else call(args) or 0
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
