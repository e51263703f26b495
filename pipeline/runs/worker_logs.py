"""What Beam's worker processes on this machine log, said as this process says it."""

from __future__ import annotations

import logging
import re
import signal
import threading
import traceback
from contextlib import suppress

from google.protobuf import text_format

SOURCE = "apache_beam.runners.portability.local_job_service"  # it logs whatever workers log
HANDLERS = "apache_beam.runners.portability.fn_api_runner.worker_handlers"

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


def plain_worker_logs() -> None:
    """Has workers' logs pass through `OfWorkers` from now on, and leaves it to the pipeline, which
    fails too, to tell what fails in the threads in which Beam talks with a worker."""
    logging.getLogger(SOURCE).addFilter(OfWorkers())
    logging.getLogger(HANDLERS).setLevel(logging.CRITICAL)
    show = threading.excepthook

    def show_ours(failed: threading.ExceptHookArgs) -> None:
        if ended := _STATUS.search(str(failed.exc_value)):
            number = abs(int(ended[1])) % 128  # a shell adds 128
            with suppress(ValueError):
                LOG.warning("a worker process was ended by %s", signal.Signals(number).name)
        frames = traceback.extract_tb(failed.exc_traceback)
        if not any("apache_beam" in frame.filename for frame in frames):
            show(failed)

    threading.excepthook = show_ours
