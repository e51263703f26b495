"""Flink's REST API, as a server on loopback that answers as Flink does, or does not."""

import json
import logging
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from alignset.pipeline.runs.engine import Engine, EngineError
from alignset.pipeline.runs.flink_jobs import Flink, JobWatch
from tests.support.serving import serving

UNFIT = "alignset.transforms.storage.shared_paths.UnfitMachineError: w3 does not see /a"
NO_POOL = (
    "at org.apache.beam.model.fnexecution.v1.WorkerPoolBlockingStub.startWorker\n"
    "Caused by: java.net.ConnectException: Connection refused"
)
WRITES = [{"name": "[1]WriteShards", "status": "RUNNING", "parallelism": 3}]


class FakeFlink(ThreadingHTTPServer):
    """Serves `answers` by path; a PATCH cancels a job at once.

    Attributes:
      raw: what is answered instead, whatever is asked for.
    """

    def __init__(self, **jobs: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.names = [{"jid": jid, "name": name, "state": "RUNNING"} for jid, name in jobs.items()]
        self.answers = {
            "/jobs/overview": {"jobs": self.names},
            "/overview": {"taskmanagers": 2, "slots-total": 2, "slots-available": 0},
            "/taskmanagers": {"taskmanagers": [{"id": "w1:6122-a"}, {"id": "w2:6122-b"}]},
            "/taskmanagers/w1:6122-a/thread-dump": {},
            "/taskmanagers/w2:6122-b/thread-dump": "ExternalEnvironmentFactory",
        }
        self.raw = b""
        for jid in jobs:
            self.show(jid)

    def show(self, jid: str, tasks: dict[str, int] | None = None, failure: str = "") -> None:
        """Has a job's writing step have such tasks, and a failure on w3."""
        failures = [{"stacktrace": failure, "timestamp": 1, "endpoint": "w3:6121"}]
        history = {"entries": failures if failure else []}
        self.answers[f"/jobs/{jid}"] = {"vertices": [WRITES[0] | {"tasks": tasks or {}}]}
        self.answers[f"/jobs/{jid}/exceptions"] = {"exceptionHistory": history}

    def states(self) -> dict[str, str]:
        return {job["jid"]: job["state"] for job in self.names}


class _Handler(BaseHTTPRequestHandler):
    server: FakeFlink

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path)
        self.send_response(404 if answer is None else 200)
        self.end_headers()
        self.wfile.write(self.server.raw or json.dumps(answer).encode())

    def do_PATCH(self) -> None:
        for job in self.server.names:
            if self.path == f"/jobs/{job['jid']}?mode=cancel":
                job["state"] = "CANCELED"
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fake() -> Iterator[FakeFlink]:
    with serving(FakeFlink(a="x-texts-abc", b="x-images-abc", c="x-texts-def", d="abc")) as started:
        yield started


def address(fake: FakeFlink) -> str:
    return f"127.0.0.1:{fake.server_port}"


def test_only_the_jobs_of_some_starts_are_cancelled(fake: FakeFlink):
    fake.names[0]["state"] = "FINISHED"
    engine = Engine(
        PipelineOptions(["--runner=FlinkRunner", f"--flink_master={address(fake)}"]), ""
    )
    assert engine.cancel(["abc", "old"]) == ["x-images-abc"]
    assert fake.states() == {"a": "FINISHED", "b": "CANCELED", "c": "RUNNING", "d": "RUNNING"}
    assert engine.cancel(["abc", "old"]) == engine.cancel([]) == []
    fake.raw = b"<html>"
    with pytest.raises(EngineError, match=rf"no Flink answers at {address(fake)} .*: is it up"):
        engine.cancel([])


SLOTS = "Flink: 3 slots are wanted, 2 are there, 0 of them free: start a TaskManager more"
POOL = (
    "Flink: the worker pool at localhost:50000 of the TaskManager on w3 does not answer: start it "
    "(alignset cluster worker)"
)
WORKER = "Flink: the TaskManager on w2 waits for a Python worker of the pool at localhost:50000"


@pytest.mark.parametrize(
    ("tasks", "failure", "until_s", "says"),
    [
        ({"SCHEDULED": 3}, "", 19, ""),
        ({"SCHEDULED": 3}, "", 20, SLOTS),
        ({"SCHEDULED": 1, "RUNNING": 2}, "", 20, SLOTS),
        ({"RUNNING": 3}, "", 44, ""),
        ({"RUNNING": 3}, "", 45, WORKER),
        ({}, NO_POOL, 0, POOL),
        ({}, "Caused by: java.io.IOException: gone", 0, "Flink: java.io.IOException: gone (on w3)"),
    ],
)
def test_a_watch_tells_once_what_a_job_waits_for(
    fake: FakeFlink,
    caplog: pytest.LogCaptureFixture,
    tasks: dict[str, int],
    failure: str,
    until_s: int,
    says: str,
):
    fake.show("b", tasks, failure)
    watch = JobWatch(Flink(address(fake)), "images-abc", "", lambda: False, 60)
    with caplog.at_level(logging.WARNING, "alignset"):
        for now in sorted({0, until_s // 2, until_s}) * 2:
            watch.look(now)
    assert [line.startswith(says) for line in caplog.messages] == [True] * bool(says)
    assert set(fake.states().values()) == {"RUNNING"}


def test_a_job_that_no_restart_mends_is_cancelled(fake: FakeFlink):
    fake.show("b", {"RUNNING": 3}, UNFIT)
    watch = JobWatch(Flink(address(fake)), "images-abc", "", lambda: False, 60)
    watch.look(0)
    assert watch.failure == "w3 does not see /a (on w3)"
    assert [jid for jid, state in fake.states().items() if state == "CANCELED"] == ["b"]


def test_a_job_that_does_not_end_is_cancelled(fake: FakeFlink):
    whole = False
    watch = JobWatch(Flink(address(fake)), "images-abc", "", lambda: whole, 60)
    watch.look(0)
    watch.look(100)
    whole = True
    watch.look(101)
    watch.look(160)
    assert (watch.is_stalled, fake.states()["b"]) == (False, "RUNNING")
    watch.look(161)
    assert (watch.is_stalled, fake.states()["b"]) == (True, "CANCELED")


def test_a_command_ends_where_flink_has_lost_its_job(
    fake: FakeFlink, monkeypatch: pytest.MonkeyPatch
):
    """A JobManager that starts again knows no job; one that was not there yet is not a lost one."""
    signals = list[int]()
    monkeypatch.setattr("_thread.interrupt_main", signals.append)
    watch = JobWatch(Flink(address(fake)), "images-abc", "", lambda: False, 60)
    jobs, fake.answers["/jobs/overview"] = fake.answers["/jobs/overview"], {"jobs": []}
    for now in (0, 30):
        watch.look(now)
    fake.answers["/jobs/overview"] = jobs
    watch.look(31)
    fake.answers["/jobs/overview"] = {"jobs": []}
    for now in (32, 41):
        watch.look(now)
    assert signals == []
    watch.look(42)
    assert signals == [signal.SIGTERM]


@pytest.mark.parametrize(
    "raw", [b"<html>", b"[]", b'{"jobs":1}', b'{"jobs":' + b"[" * 100_000, b"\xff", b"{}" * 2]
)
def test_a_server_that_is_no_flink_is_told_of_once(
    fake: FakeFlink, caplog: pytest.LogCaptureFixture, raw: bytes
):
    fake.raw = raw
    watch = JobWatch(Flink(address(fake)), "images-abc", "", lambda: False, 60)
    for now in (0, 29):
        watch.look(now)
    assert caplog.messages == []
    for now in (30, 31, 100):
        watch.look(now)
    assert len(caplog.messages) == 1
    assert f"Flink at {address(fake)} has not answered for 30 s" in caplog.messages[0]
