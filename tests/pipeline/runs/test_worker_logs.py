"""What worker processes log is passed on in its own words, where it is ours."""

import logging
import threading
from contextlib import suppress

import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as api

from alignset.pipeline.runs.worker_logs import HANDLERS, RAISED, SOURCE, is_ours, plain_logs

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
    assert is_ours(logged) is passes
    assert logged.getMessage() == message


@pytest.mark.parametrize("level", ["", "DEBUG"])
def test_all_is_set_back(level: str, monkeypatch: pytest.MonkeyPatch):
    def process() -> object:
        loggers = [logging.getLogger(name) for name in (*RAISED, SOURCE, HANDLERS, "alignset")]
        return [(one.level, [*one.filters]) for one in loggers], threading.excepthook

    monkeypatch.setenv("ALIGNSET_LOG_LEVEL", level)
    before, filters = process(), len(logging.getLogger(SOURCE).filters)  # of other tests' commands
    for _ in range(2):
        with suppress(OSError), plain_logs():
            levels = {logging.getLogger(name).level for name in RAISED}
            assert levels == {logging.DEBUG if level else logging.CRITICAL}
            assert len(logging.getLogger(SOURCE).filters) == filters + (not level)
            logging.getLogger("alignset").setLevel("ERROR")  # as --quiet does
            raise OSError
        assert process() == before


def failed_thread(code: str, name: str, shown: list[object], monkeypatch) -> None:
    """A thread that raises within a file of some name, and what is shown of it."""
    monkeypatch.setattr(threading, "excepthook", shown.append)
    with plain_logs():
        thread = threading.Thread(target=exec, args=(compile(code, name, "exec"), {}))
        thread.start()
        thread.join()


def test_a_thread_of_beam_prints_nothing_and_any_other_what_it_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    shown: list[object] = []
    ended = "raise RuntimeError('Worker subprocess exited with return code -9')"
    failed_thread(ended, "/apache_beam/runners/a.py", shown, monkeypatch)
    assert shown == []
    assert caplog.messages == ["a worker process was ended by SIGKILL"]
    failed_thread("1 / 0", "/a/b.py", shown, monkeypatch)
    assert len(shown) == 1
