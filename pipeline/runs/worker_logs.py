"""Logs of Beam's worker processes on this machine, in the form of this process."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from google.protobuf import text_format

SOURCE = "apache_beam.runners.portability.local_job_service"  # it logs whatever workers log
HANDLERS = "apache_beam.runners.portability.fn_api_runner.worker_handlers"

# They log what is raised in this process all the same.
RAISED = ("apache_beam.runners.common", "apache_beam.runners.worker")
LOG = logging.getLogger("alignset")
_STATUS = re.compile(r"Worker subprocess exited with return code (-\d+|1[2-5]\d)")


class OfWorkers(logging.Filter):
    """Passes on what our own code logs in a worker, by its words alone, and nothing of Beam's.

    Beam logs each record as the text of a protocol buffer, with warnings of things that we do not
    use; what fails in a worker is raised in this process, too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        from apache_beam.portability.api import beam_fn_api_pb2 as api  # as Beam has by then

        if not isinstance(record.args, tuple) or len(record.args) != 1:
            return True
        try:
            entry = text_format.Parse(str(record.args[0]), api.LogEntry())
        except text_format.ParseError:
            return True
        record.msg, record.args = entry.message, ()
        return "apache_beam" not in entry.log_location


@contextmanager
def plain_logs() -> Iterator[None]:
    """While the block runs, workers' logs pass through `OfWorkers`, and Beam neither logs nor
    prints what its pipeline raises here too. ALIGNSET_LOG_LEVEL has all of it said."""
    level = os.environ.get("ALIGNSET_LOG_LEVEL", "")
    levels = dict.fromkeys(RAISED, level or "CRITICAL")
    if not level:
        levels[HANDLERS] = "CRITICAL"
    before = {name: logging.getLogger(name).level for name in (*levels, LOG.name)}
    for name, new_level in levels.items():
        logging.getLogger(name).setLevel(new_level)
    of_workers, show = OfWorkers(), threading.excepthook
    if not level:
        logging.getLogger(SOURCE).addFilter(of_workers)
        threading.excepthook = partial(_show_ours, show)
    try:
        yield
    finally:
        threading.excepthook = show
        logging.getLogger(SOURCE).removeFilter(of_workers)
        for name, earlier in before.items():
            logging.getLogger(name).setLevel(earlier)


def _show_ours(
    show: Callable[[threading.ExceptHookArgs], object], failure: threading.ExceptHookArgs
) -> None:
    if status := _STATUS.search(str(failure.exc_value)):
        number = abs(int(status[1])) % 128  # a shell adds 128
        with suppress(ValueError):
            LOG.warning("a worker process was ended by %s", signal.Signals(number).name)
    frames = traceback.extract_tb(failure.exc_traceback)
    if not any("apache_beam" in frame.filename for frame in frames):
        show(failure)
