"""Ends commands by signals, as Control-C does: what a run has published stays."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from alignset.extras import without_package

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

    def interrupt(*_: object) -> NoReturn:
        nonlocal is_interrupted
        is_interrupted = True
        for one in ours:  # `timeout` sends two signals for one request
            signal.signal(one, signal.SIG_DFL if one == signal.SIGINT else signal.SIG_IGN)
        watch = threading.Timer(PATIENCE_S, end_stopped)  # Beam joins its workers without a limit
        watch.daemon = True
        watch.start()
        raise KeyboardInterrupt

    def end_stopped() -> NoReturn:
        print(f"{name}: stopped; run the same command again", file=sys.stderr, flush=True)
        os._exit(1)

    ours = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    ours = [one for one in ours if signal.getsignal(one) != signal.SIG_IGN]
    for one in ours:
        signal.signal(one, interrupt)
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
        print(f"{name}: {without_package(error)}", file=sys.stderr)
        status = 2
    if is_interrupted:  # threads may still wait for a server, or compute
        sys.stderr.flush()
        os._exit(status)
    return status


def end_with_parent(parent: int) -> None:
    """Has the system send this process SIGKILL when its parent ends (Linux alone)."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os.kill(os.getpid(), signal.SIGKILL)
