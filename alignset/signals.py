"""Ends commands by signals, as Control-C does: what a run has published stays."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from alignset.extras import explain_missing_package

PATIENCE_S = 10.0  # for a command that a signal has interrupted
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_main(
    main: Callable[[list[str], str], int], name: str, arguments: list[str] | None = None
) -> int:
    """Runs a command; returns its exit status.

    The first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt in it, and the process then ends
    without its threads, at the latest after `PATIENCE_S`. A second Control-C ends it at once.
    Signals that are ignored stay so, as with `nohup`. A reader that closes the output, such as
    `head`, ends the command with status 0.

    Args:
      main: gets the arguments and the name.
      name: how the command was called, for its messages.
      arguments: by default the ones of the process.
    """
    is_interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal is_interrupted
        if is_interrupted:  # `timeout` sends two signals for one request
            return
        is_interrupted = True
        if signal.SIGINT in ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    def end_stopped() -> NoReturn:
        print(f"{name}: stopped; run the same command again", file=sys.stderr, flush=True)
        os._exit(1)

    ours = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
    ours = [one for one in ours if signal.getsignal(one) != signal.SIG_IGN]
    for one in ours:
        signal.signal(one, interrupt)
    _watch(ours, interrupt, lambda: is_interrupted, end_stopped)
    try:
        try:
            status = main(sys.argv[1:] if arguments is None else arguments, name)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except KeyboardInterrupt:
        end_stopped()
    except ModuleNotFoundError as error:
        print(f"{name}: {explain_missing_package(error)}", file=sys.stderr)
        status = 2
    if is_interrupted:  # threads may still wait for a server, or compute
        sys.stderr.flush()
        os._exit(status)
    return status


def _watch(
    signals: Sequence[int],
    handler: Callable[..., None],
    is_interrupted: Callable[[], bool],
    end: Callable[[], object],
) -> None:
    """Calls `end` in a thread, `PATIENCE_S` after the first of some signals that has this handler:
    a command may have put another in its place, such as for a last checkpoint.

    Until the main thread has run the handler, it is sent a signal again: another thread may have
    got the first one while the main thread began to wait for a lock.
    """
    main_thread = threading.get_ident()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # the pipe is the parent's

    def watch() -> None:
        while True:
            number = os.read(reading, 1)[0]
            if number in signals and signal.getsignal(number) is handler:
                break
        last = time.monotonic() + PATIENCE_S
        while time.monotonic() < last:
            if not is_interrupted():
                signal.pthread_kill(main_thread, signals[-1])
            time.sleep(0.1)
        end()

    threading.Thread(target=watch, daemon=True).start()


def end_with_parent(parent: int) -> None:
    """Has the system send this process SIGKILL when its parent ends (Linux alone)."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os.kill(os.getpid(), signal.SIGKILL)
