"""Ends a command within 5 seconds of a signal, whatever it is doing.

Python answers a signal where its interpreter comes to it, and that may be never: while a kernel
runs, while a call in C keeps the interpreter's lock, while threads are waited for. So the command
runs in a child of this process, which does nothing but wait: it hands the first signal on, and
kills what is left a while later. A run that writes each file aside loses nothing by that.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PATIENCE_S = 4.0  # after the first signal; then the command and all its processes are killed
LONGER_S = 120.0  # of a command that has heard it and asked for time: cloud machines have no more
# A second signal ends it at once, but not one of the same request: `timeout` sends two.
AGAIN_S = 0.5
GONE_S = 0.8  # for the system to take a killed process away; one that waits for a disk stays longer
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ASK = signal.SIGUSR1  # what a command asks for time by
_asks: list[int] = []  # in a command: the process that waits for it
# Control-C, `kill`, a terminal that is closed, Control-\\ and Control-Z.
_OURS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP})


def run_stoppable(
    command: Callable[[], int], *, stop_message: str, stopped_status: int, name: str = ""
) -> int:
    """Runs a command in a child process, which leads a process group of its own.

    SIGINT, SIGTERM, SIGHUP and SIGQUIT raise KeyboardInterrupt in it, once. Processes that it
    leaves running end with it. This function returns in both processes: pass its result to
    `sys.exit`.

    Args:
      command: gives its exit status; called in the child alone.
      stop_message, stopped_status: what is said, and the status, where a signal ended the command
        before it could say so itself.
      name: what the line begins with where it was not stopped and dies by a signal all the same.

    Returns:
      The command's status; 128 + n where it died by a signal n that did not come through here.
    """
    if sys.platform != "linux":
        return _read_or_not(command)
    # What is ignored, as Control-C by a shell's background job or nohup's, stays so.
    ours = {one for one in _OURS if signal.getsignal(one) != signal.SIG_IGN}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, children could not be waited for
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*ours, signal.SIGCHLD, _ASK})
    parent, child = os.getpid(), os.fork()
    if child == 0:
        end_with_parent(parent)
        _asks[:] = [parent]
        try:
            with _interrupted_once(ours - {signal.SIGTSTP}, mask):
                return _read_or_not(command)
        except KeyboardInterrupt:
            print(stop_message, file=sys.stderr)
            return stopped_status
    try:
        with suppress(OSError):  # the child may have done it itself
            os.setpgid(child, child)
        stop_requested = _wait(child, {*ours, signal.SIGCHLD, _ASK})
        with suppress(OSError):
            os.killpg(child, signal.SIGKILL)  # of a command that has ended, what it has left
        status = _status(child)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if status >= 0:
        return status
    why = f"failed: {signal.strsignal(-status)} (signal {-status}); the same command resumes"
    # The command may have been drawing lines, and is then at the first of them.
    clear = "\r\033[J" if sys.stderr.isatty() else ""
    print(f"{clear}{stop_message}" if stop_requested else f"{clear}{name}{why}", file=sys.stderr)
    return stopped_status if stop_requested else 128 - status


def _read_or_not(command: Callable[[], int]) -> int:
    """Runs a command; ends it without a word where `head`, or whoever reads it, has read enough."""
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def ask_for_time() -> None:
    """Called by a command that has heard a signal and has something to finish: it gets LONGER_S. A
    second signal ends it at once all the same."""
    for parent in _asks:
        os.kill(parent, _ASK)


def end_with_parent(parent: int) -> None:
    """Has this process get SIGKILL where its parent does, and lead a group that may print."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):  # the parent may have done it
        os.setpgid(0, 0)


@contextmanager
def _interrupted_once(signals: set[signal.Signals], mask: set[int]) -> Iterator[None]:
    """The first of the signals raises KeyboardInterrupt. Those that follow are ignored, since they
    would interrupt the command's last steps; and so is one that comes when it has ended."""

    def ignore() -> None:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)

    def interrupt(*_: object) -> None:
        ignore()
        raise KeyboardInterrupt

    for one in signals:
        signal.signal(one, interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield
    finally:
        ignore()


def _wait(child: int, signals: set[signal.Signals]) -> bool:
    """Until the child has ended, or has had its time after a signal; whether there was one."""
    asked_at, patience_s = None, PATIENCE_S
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        left_s = 3600.0 if asked_at is None else asked_at + patience_s - time.monotonic()
        if left_s <= 0:
            break
        came = signal.sigtimedwait(signals, left_s)
        if came is None or came.si_signo == signal.SIGCHLD:
            continue
        if came.si_signo == _ASK:
            patience_s = LONGER_S
            continue
        if came.si_signo == signal.SIGTSTP:  # Control-Z
            os.killpg(child, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.killpg(child, signal.SIGCONT)
        elif asked_at is None:
            asked_at = time.monotonic()
            os.kill(child, came.si_signo)
        elif time.monotonic() - asked_at > AGAIN_S:
            break
    return asked_at is not None


def _status(child: int) -> int:
    """The exit status of a child that has ended or was killed; -n where a signal n ended it."""
    until = time.monotonic() + GONE_S
    while not (pid_and_status := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            return -signal.SIGKILL
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(pid_and_status[1])
