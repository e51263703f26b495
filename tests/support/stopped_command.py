"""The command in a process that is stopped at a chosen moment."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Its children are forked with all imported, so that a run to be killed costs no 4 s of imports.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["beam_runner", "pipeline.run"])


def _child(args: tuple[str, ...], said: str, stoppable: bool) -> None:
    import beam_runner

    with Path(said).open("w") as sink, contextlib.redirect_stderr(sink):
        sys.exit((beam_runner.stoppable_main if stoppable else beam_runner.main)(args))


def stop(args: tuple[str, ...], folder: Path, when: Callable[[], bool], signum: int) -> int:
    """Starts the command, and signals it once `when` is true; returns its exit status.

    What is to be killed runs in the child itself, so that it has ended when the child has.
    """
    stoppable = signum != signal.SIGKILL
    child = _FORKS.Process(target=_child, args=(args, str(folder / "said"), stoppable))
    child.start()
    while child.is_alive() and not when():
        time.sleep(0.005)
    assert child.is_alive(), "it ended before it could be stopped"
    os.kill(child.pid, signum)
    child.join()
    return child.exitcode
