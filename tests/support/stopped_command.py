"""The command in a process that is stopped at a chosen moment."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.forks import start


def stop(args: tuple[str, ...], folder: Path, when: Callable[[], bool], signum: int) -> int:
    """Starts the command, and signals it once `when` is true; returns its exit status."""
    with (folder / "said").open("w") as said:
        child = start("alignset.beam_runner:main", *args, stderr=said.fileno())
    while child.poll() is None and not when():
        time.sleep(0.005)
    assert child.poll() is None, "it ended before it could be stopped"
    os.kill(child.pid, signum)
    return child.wait()
