"""Flink's REST API: ends jobs, and tells what a job waits for and why its tasks failed.

Source: https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/ops/rest_api/
"""

from __future__ import annotations

import _thread
import logging
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from threading import Event, Thread

import grpc
import msgspec
import pycurl

from alignset.extras import extra_of

LOG = logging.getLogger("alignset")
ANSWER_S = 5
MOST_BYTES = 64 << 20  # of an answer; a dump of a TaskManager's threads has 80 KB
ENDED = ("FINISHED", "CANCELED", "FAILED")
CANCEL_S = 7.0  # a command ends 10 s after Control-C
START_CANCEL_S = 200.0  # Flink ends a TaskManager whose task does not stop within 180 s
LOOK_S = 3.0  # between two looks at a job
SILENT_S, SLOTS_S, WORKER_S = 30.0, 20.0, 45.0  # before something is said
LOST_S = 10.0  # without the job, until the command ends
WRITES = "WriteShards"  # the step, by which Flink names its tasks
STALLED = "all shards are written; the job does not end, and is cancelled"
# What no restart mends.
_HOPELESS = ("UnfitMachineError", "ModuleNotFoundError: No module named")
_NO_POOL, _NO_WORKER = "WorkerPoolBlockingStub.startWorker", b"ExternalEnvironmentFactory"
# A line that names an exception, of Python or of Java.
_NAMED = re.compile(r"^(?:Caused by: )?((?:[A-Za-z_][\w$]*\.)*[A-Z]\w*(?:Error|Exception)): (.+)$")


class FlinkError(OSError):
    """No Flink answers there."""


class StalledError(RuntimeError):
    """All shards are written, but the job did not end, and is cancelled."""


class Item(msgspec.Struct):
    """The used part of the description of a job, one of its steps, a failure or a TaskManager."""

    jid: str = ""
    id: str = ""
    name: str = ""
    state: str = ""
    status: str = ""
    parallelism: int = 0
    tasks: dict[str, int] = {}  # by state
    timestamp: int = 0
    stacktrace: str = ""
    endpoint: str | None = None  # HOST:PORT; a failure of the job itself has none


_NAMES = {"slots": "slots-total", "free": "slots-available", "failures": "exceptionHistory"}


class Answer(msgspec.Struct, rename=_NAMES):
    """The used part of Flink's answers, whichever was asked for."""

    slots: int = -1
    free: int = 0
    jobs: list[Item] = []
    vertices: list[Item] = []
    taskmanagers: list[Item] | int = 0  # of an overview their number
    entries: list[Item] = []
    failures: Answer | None = None


class Flink:
    """A Flink cluster; its methods raise FlinkError.

    Args:
      address: of its JobManager's REST API, `HOST:PORT` or a URL.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def read(self, path: str, method: str = "GET") -> bytes:
        """The body of the answer to a request."""
        curl, body = pycurl.Curl(), BytesIO()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        curl.setopt(pycurl.WRITEDATA, body)
        curl.setopt(pycurl.MAXFILESIZE, MOST_BYTES)
        curl.setopt(pycurl.TIMEOUT, ANSWER_S)
        curl.setopt(pycurl.FAILONERROR, 1)
        curl.setopt(pycurl.PROXY, "")
        try:
            curl.setopt(pycurl.URL, f"{self.address}/{path}")
            curl.perform()
        except (pycurl.error, ValueError) as error:  # an id may be anything
            raise FlinkError(str(error.args[-1])) from error
        return body.getvalue()

    def ask(self, path: str) -> Answer:
        """The answer to a request."""
        try:
            return msgspec.json.decode(self.read(path), type=Answer)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise FlinkError(f"an answer of something else ({error})") from error

    def jobs(self, starts: Sequence[str]) -> list[Item]:
        """The jobs of some starts of the command."""
        endings = tuple(f"-{start}" for start in starts)
        return [job for job in self.ask("jobs/overview").jobs if job.name.endswith(endings)]

    def cancel(
        self, starts: Sequence[str], *, is_sent: bool = False, wait_s: float = CANCEL_S
    ) -> list[str]:
        """Cancels the jobs of some starts, and waits for their ends; returns their names.

        Args:
          is_sent: whether to wait for a job that may still be on its way to Flink.
        """
        names, until = set[str](), time.monotonic() + wait_s
        while True:
            jobs = self.jobs(starts)
            running = [job for job in jobs if job.state not in ENDED]
            for job in running:
                if job.name not in names:
                    self.read(f"jobs/{job.jid}?mode=cancel", "PATCH")
                    names.add(job.name)
            if time.monotonic() > until or not (running or (is_sent and not jobs)):
                return sorted(names)
            time.sleep(0.3)

    def hosts_without_worker(self) -> list[str]:
        """The hosts of TaskManagers that wait for a Python worker."""
        there = self.ask("taskmanagers").taskmanagers
        ids = [of.id for of in there] if isinstance(there, list) else []
        waiting = [of for of in ids if _NO_WORKER in self.read(f"taskmanagers/{of}/thread-dump")]
        return sorted({of.rpartition(":")[0] for of in waiting})


class JobWatch:
    """Watches a job while its block runs: tells, each once, what it waits for and why its tasks
    failed, and cancels it where it does not end or cannot succeed.

    Args:
      job: what the job's name ends with. pool: the address of the worker pools.
      is_whole: whether all shards are written. whole_s: how long the job may then continue.

    Attributes:
      failure: of a job that has failed, or cannot succeed.
      is_stalled: whether all shards are written, and the job did not end.
    """

    def __init__(
        self, flink: Flink, job: str, pool: str, is_whole: Callable[[], bool], whole_s: float
    ) -> None:
        self._flink, self._job, self._pool = flink, job, pool or "localhost:50000"
        self._is_whole, self._whole_s = is_whole, whole_s
        self._seen: dict[str, tuple[object, float, bool]] = {}
        self._answers, self.failure, self.is_stalled = 0, "", False
        self._over, self._thread = Event(), Thread(target=self._watch, name="Flink", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        if kind and issubclass(kind, Exception):  # Control-C does not wait for an answer
            self._thread.join()
            self.look(time.monotonic())  # why it failed

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Looks at the job."""
        try:
            jobs = self._flink.jobs([self._job])
            for job in jobs[:1]:
                self._look_at(job, now)
            self._answers += 1
            is_lost = self._stays("lost", not jobs or now, now, LOST_S) and "job" in self._seen
            if is_lost and not self._over.is_set():  # Beam would wait for it without end
                LOG.error("Flink was started again, and has lost the job")
                _thread.interrupt_main(signal.SIGTERM)  # `run_main` wakes it
        except FlinkError as error:
            if self._stays("answers", self._answers, now, SILENT_S):
                where = self._flink.address
                LOG.warning("Flink at %s has not answered for %.0f s: %s", where, SILENT_S, error)

    def _look_at(self, job: Item, now: float) -> None:
        flink, path = self._flink, f"jobs/{job.jid}"
        if self._stays("job", job.jid, now, 0.0):
            LOG.info("Flink has the job: %s/#/job/running/%s", flink.address, job.jid)
        if (history := flink.ask(f"{path}/exceptions").failures) and history.entries:
            last = max(history.entries, key=lambda failure: failure.timestamp)
            text = self._explain(last)
            is_hopeless = any(name in last.stacktrace for name in _HOPELESS)
            if is_hopeless or job.state == "FAILED":
                self.failure = text  # which the command ends with
            elif self._stays("failure", last.timestamp, now, 0.0):
                LOG.warning("Flink: %s", text)
            if is_hopeless and job.state not in ENDED:
                flink.cancel([self._job])
        steps, tasks = flink.ask(path).vertices, Counter[str]()
        for step in steps:
            tasks.update(step.tasks)
        there = flink.ask("overview")
        wanted = max((step.parallelism for step in steps), default=0)
        is_active = any(tasks[state] for state in ("RUNNING", "DEPLOYING", "INITIALIZING"))
        waits = tasks["SCHEDULED"] and (wanted > there.slots or not is_active)
        if self._stays("slots", bool(waits) or now, now, SLOTS_S):
            LOG.warning(
                "Flink: %d slots are wanted, %d are there, %d of them free: start a TaskManager "
                "more, or stop this command and pass a smaller --parallelism",
                *(wanted, there.slots, there.free),
            )
        if tasks["RUNNING"] and self._stays("tasks", sorted(tasks.items()), now, WORKER_S):
            for host in flink.hosts_without_worker():
                LOG.warning(
                    "Flink: the TaskManager on %s waits for a Python worker of the pool at %s: see "
                    "its log, or start it again (alignset cluster worker)",
                    *(host, self._pool),
                )
        writes = any(WRITES in step.name and step.status != "FINISHED" for step in steps)
        is_stalled = writes and job.state not in ENDED and self._is_whole()
        if self._stays("whole", is_stalled or now, now, self._whole_s) and is_stalled:
            self.is_stalled = True
        if self.is_stalled and job.state not in ENDED:
            flink.cancel([self._job])

    def _stays(self, what: str, value: object, now: float, limit_s: float) -> bool:
        """Whether something has been the same for so long; True once."""
        before, since, is_told = self._seen.get(what, (None, now, False))
        if value != before:
            since, is_told = now, False
        is_due = not is_told and now - since >= limit_s
        self._seen[what] = value, since, is_told or is_due
        return is_due

    def _explain(self, failure: Item) -> str:
        host = (failure.endpoint or "").rpartition(":")[0]
        if _NO_POOL in failure.stacktrace:
            return (
                f"the worker pool at {self._pool} of the TaskManager on {host} does not answer: "
                "start it (alignset cluster worker)"
            )
        reason = job_error(RuntimeError(failure.stacktrace))
        return f"{reason} (on {host})" if host else reason


def job_error(error: BaseException) -> str:
    """Why a job failed, in one line: what Python said on a worker, else what the runner said."""
    if isinstance(error, grpc.RpcError) and hasattr(error, "details"):
        return f"the job service does not answer: {error.details()}"
    text = str(error)
    matches = [match for line in text.splitlines() if (match := _NAMED.match(line.strip()))]
    if not matches:
        return text.strip().splitlines()[-1] if text.strip() else repr(error)
    kind, reason = matches[-1].groups()
    if missing := re.search(r"No module named '([\w.]+)'", reason):
        module = missing[1].partition(".")[0]
        return (
            f"the workers have no package {module}: install there what is installed here "
            f"(requirements/{extra_of(module) or 'base'}.txt, and this project)"
        )
    if "call already cancelled" in reason or "call is closed" in reason:  # as gRPC says it
        return (
            "a Python worker died, and again: its log, or the kernel's, may tell why (no memory?)"
        )
    is_told = kind.rpartition(".")[2] in ("RuntimeError", "UnfitMachineError")
    return reason if is_told else f"{kind}: {reason}"
