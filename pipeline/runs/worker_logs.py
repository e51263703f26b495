"""Logs of Beam's worker processes on this machine, in the form of this process."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from google.protobuf import text_format

SOURCE = "apache_beam.runners.portability.local_job_service"  # it logs whatever workers log
# These log what is raised in this process all the same.
RAISED = ("apache_beam.runners.common", "apache_beam.runners.worker")
HANDLERS = "apache_beam.runners.portability.fn_api_runner.worker_handlers"
LOG = logging.getLogger("alignset")


def is_ours(record: logging.LogRecord) -> bool:
    """Passes on what our own code logs in a worker, by its words alone, and nothing of Beam's: it
    logs each record as the text of a protocol buffer, with warnings of things that we do not use.
    """
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
    """While the block runs, workers' logs pass through `is_ours`, and Beam neither logs nor prints
    what its pipeline raises here too. ALIGNSET_LOG_LEVEL has all of it said."""
    level, show = os.environ.get("ALIGNSET_LOG_LEVEL", ""), threading.excepthook
    passes = partial(is_ours)  # another for each block
    levels = dict.fromkeys(RAISED, level or "CRITICAL") | ({} if level else {HANDLERS: "CRITICAL"})
    before = {name: logging.getLogger(name).level for name in (*levels, LOG.name)}

    def show_ours(failure: threading.ExceptHookArgs) -> None:
        ended = re.search(r"subprocess exited with return code (-\d+|1[2-5]\d)", str(failure[1]))
        with suppress(ValueError):  # it is no signal; a shell adds 128 to one
            if ended:
                name = signal.Signals(abs(int(ended[1])) % 128).name
                LOG.warning("a worker process was ended by %s", name)
        frames = traceback.extract_tb(failure.exc_traceback)
        if not any("apache_beam" in frame.filename for frame in frames):
            show(failure)

    for name, new_level in levels.items():
        logging.getLogger(name).setLevel(new_level)
    if not level:
        logging.getLogger(SOURCE).addFilter(passes)
        threading.excepthook = show_ours
    try:
        yield
    finally:
        threading.excepthook = show
        logging.getLogger(SOURCE).removeFilter(passes)
        for name, earlier in before.items():
            logging.getLogger(name).setLevel(earlier)
