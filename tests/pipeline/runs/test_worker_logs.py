"""What worker processes log is passed on in its own words, where it is ours."""

import logging

import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as api

from alignset.pipeline.runs.worker_logs import OfWorkers

BEAMS = "/site-packages/apache_beam/runners/worker/sdk_worker_main.py:421"
OURS = "/alignset/transforms/workers/unexpected.py:27"


def record(entry: api.LogEntry) -> logging.LogRecord:
    """As Beam's `BeamFnLoggingServicer` makes it."""
    text = str(entry).replace("\n", " ")
    return logging.LogRecord("beam", logging.WARNING, "", 1, "Worker: %s", (text,), None)


@pytest.mark.parametrize(("place", "passes"), [(BEAMS, False), (OURS, True)])
def test_what_beam_logs_is_left_out(place: str, passes: bool):
    message = 'an image raised ValueError("a\nb") at x.py:3: 100% "é"'
    logged = record(api.LogEntry(message=message, log_location=place, thread="T"))
    assert OfWorkers().filter(logged) is passes
    assert logged.getMessage() == message


@pytest.mark.parametrize("args", [(), ("no entry {",), ("a", "b")])
def test_what_is_no_record_of_a_worker_passes_as_it_is(args: tuple[str, ...]):
    logged = logging.LogRecord("beam", logging.WARNING, "", 1, "%s" * len(args), args, None)
    assert OfWorkers().filter(logged)
    assert logged.getMessage() == "".join(args)
