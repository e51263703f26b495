"""SIGTERM, as of a machine that is taken away: a checkpoint, and then the end."""

import signal
import threading
from types import FrameType

from alignset import stoppable
from alignset.train.runs import processes


class StopRequest:
    """Within, the first SIGTERM asks for a checkpoint; the second ends the process as before.

    Where one of several processes is asked, all of them stop, at the same step.
    """

    def __init__(self) -> None:
        self._asked = False
        self._answer: processes.SharedAnswer | None = None

    def __enter__(self) -> "StopRequest":
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:  # no other thread may set handlers
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_main:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self._asked = True
        signal.signal(signal.SIGTERM, self._before)
        stoppable.ask_for_time()

    def after_step(self) -> bool:
        """Whether to stop behind this step; all processes call it once a step, and get the same.

        They ask each other about the step before: nobody waits for one that is slow at this one.
        """
        if processes.count() == 1:
            return self._asked
        before, self._answer = self._answer, processes.ask_any(self._asked)
        return before is not None and before.wait()
