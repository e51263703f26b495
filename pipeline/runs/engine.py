"""The runner: in process or a job service; its jobs by name, and what is left there of a start."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from threading import Thread

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_job_api_pb2_grpc
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.portable_runner import TERMINAL_STATES

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.beam_patches import beam_patches
from alignset.pipeline.runs.flink_jobs import CANCEL_S as FLINK_CANCEL_S
from alignset.pipeline.runs.flink_jobs import (
    STALLED,
    START_CANCEL_S,
    Flink,
    FlinkError,
    JobWatch,
    StalledError,
    job_error,
)
from alignset.transforms.storage.files import is_local

LOG = logging.getLogger("alignset")
CANCEL_S = 60.0
ANSWER_S = 10.0
FLINK_PORT = 8081


def runner_of(options: PipelineOptions) -> str:
    """The runner's name in lower case; empty for Beam's own choice."""
    return (options.view_as(StandardOptions).runner or "").lower()


def is_dry_run(options: PipelineOptions) -> bool:
    """Whether Dataflow's graphs are only made and checked."""
    return runner_of(options) == "dataflowrunner" and bool(options.get_all_options().get("dry_run"))


def gives_out_at_start(options: PipelineOptions) -> bool:
    """Whether the runner gives all elements of a step to its workers at once, as Flink and Spark
    do in batch jobs; Dataflow, and the one in process, as workers ask."""
    return runner_of(options) in ("flinkrunner", "portablerunner", "sparkrunner")


def check_engine(options: PipelineOptions) -> None:
    """Raises UsageError where the flags name no runner, for Beam would download one, or a
    parallelism that is none."""
    flink = options.view_as(FlinkRunnerOptions)
    server = options.view_as(PortableOptions).job_endpoint or flink.flink_job_server_jar
    if runner_of(options) == "flinkrunner" and not server and flink.flink_master == "[auto]":
        raise UsageError(
            "--runner=FlinkRunner needs --job_endpoint=HOST:PORT: alignset cluster head --slots=2 "
            "starts a cluster here, and alignset cluster flags prints the flags"
        )
    if flink.parallelism is not None and flink.parallelism < 1 and flink.parallelism != -1:
        raise UsageError(
            f"--parallelism must be at least 1, or -1 for the cluster's; got {flink.parallelism}"
        )


class EngineError(RuntimeError):
    """A job failed; says why in one line."""


class WorkerDiedError(EngineError):
    """A worker process of this machine died, and its job with it."""


class Engine:
    """The runner of the pipelines.

    Args:
      options: Beam's.
      start: tells this start of the command from all others; it is part of the jobs' names.
      tell_workers: that some starts were stopped.
    """

    def __init__(
        self,
        options: PipelineOptions,
        start: str,
        tell_workers: Callable[[Sequence[str]], object] = lambda _: None,
    ) -> None:
        self._options, self._start, self._tell_workers = options, start, tell_workers
        self.in_process = runner_of(options) in ("", "directrunner", "fnapirunner")
        self._name = options.view_as(GoogleCloudOptions).job_name or "alignset"
        self._endpoint = options.view_as(PortableOptions).job_endpoint or ""
        master = options.view_as(FlinkRunnerOptions).flink_master
        is_named = not self.in_process and master not in ("[auto]", "[local]", "[collection]")
        self._flink_master = master if is_named else ""

    @cached_property
    def _flink(self) -> Flink | None:
        """The cluster that --flink_master names, else one on the host of the job service."""
        if address := self._flink_master:
            return Flink(address)
        if runner_of(self._options) == "flinkrunner" and self._endpoint:
            flink = Flink(f"{self._endpoint.rpartition(':')[0]}:{FLINK_PORT}")
            with suppress(FlinkError):
                return flink if flink.ask("overview").slots >= 0 else None
        return None

    @contextmanager
    def pipeline(
        self, stage: str, is_whole: Callable[[], bool] = lambda: False, whole_s: float = 0.0
    ) -> Iterator[beam.Pipeline]:
        """A pipeline to build; it runs to its end where the block ends.

        Args:
          is_whole, whole_s: as of `JobWatch`.

        Raises:
          EngineError: the job failed elsewhere; in process an error comes as it is.
          StalledError: all shards are written, but the job did not end.
        """
        name = f"{self._name}-{stage}-{self._start}"
        if not self.in_process:
            self._options.view_as(GoogleCloudOptions).job_name = name
            address = self._flink_master or self._endpoint or runner_of(self._options)
            LOG.info("the job %s is sent to %s", name, address)
        watch, is_sent, job = None, False, f"{stage}-{self._start}"
        if self._flink:
            pool = self._options.view_as(PortableOptions).environment_config or ""
            watch = JobWatch(self._flink, job, pool, is_whole, whole_s)
        # Named by itself, Beam's DirectRunner first tries to download another runner.
        runner = FnApiRunner() if self.in_process else None
        try:
            with (
                beam_patches(),
                watch or nullcontext(),
                beam.Pipeline(runner=runner, options=self._options) as pipeline,
            ):
                yield pipeline
                is_sent = True
        except KeyboardInterrupt:
            telling = Thread(target=self._tell_workers, args=([self._start],), daemon=True)
            telling.start()  # a store that does not answer keeps no job from being cancelled
            try:
                if is_sent and not self.cancel([job], is_sent=True) and self._flink:
                    LOG.warning("Flink has no running job %s: it may begin yet", name)
            except EngineError as error:
                LOG.warning("the job %s may run on: %s", name, error)
            telling.join(1)
            raise
        except Exception as error:
            if watch and watch.is_stalled:
                raise StalledError(STALLED) from error
            if not self.in_process:
                raise EngineError((watch and watch.failure) or job_error(error)) from error
            if "Channel closed prematurely" not in str(error):
                raise
            raise WorkerDiedError(
                "a worker process died, and again: the system may have ended it for want of "
                "memory, which its log tells (dmesg)"
            ) from error

    def cancel(self, starts: Sequence[str], *, is_sent: bool = False) -> list[str]:
        """Cancels what Flink, or else a job service, still runs for some starts of the command, and
        waits until that has ended; returns the names of these jobs.

        Args:
          is_sent: whether a job may be on its way to Flink. Beam's job service, told to cancel it,
            sends it all the same.

        Raises:
          EngineError: no Flink or no job service answers. Beam would wait for it for minutes.
        """
        names, endings = [], tuple(f"-{start}" for start in starts)
        host, _, port = self._endpoint.rpartition(":")
        try:
            if self._flink:
                wait_s = FLINK_CANCEL_S if is_sent else START_CANCEL_S
                names = self._flink.cancel(starts, is_sent=is_sent, wait_s=wait_s)
            if self.in_process or not port or (self._flink and is_sent):
                return names
            socket.create_connection((host, int(port)), ANSWER_S).close()
            if self._flink or not starts:
                return names
            with grpc.insecure_channel(self._endpoint) as channel:
                jobs = beam_job_api_pb2_grpc.JobServiceStub(channel)
                for job in jobs.GetJobs(api.GetJobsRequest(), timeout=CANCEL_S).job_info:
                    state, until = job.state, time.monotonic() + CANCEL_S
                    if state in TERMINAL_STATES or not job.job_name.endswith(endings):
                        continue
                    names.append(job.job_name)
                    jobs.Cancel(api.CancelJobRequest(job_id=job.job_id), timeout=CANCEL_S)
                    while state not in TERMINAL_STATES and time.monotonic() < until:
                        time.sleep(0.2)
                        request = api.GetJobStateRequest(job_id=job.job_id)
                        state = jobs.GetState(request, timeout=CANCEL_S).state
        except FlinkError as error:
            where = self._flink and self._flink.address
            raise EngineError(f"no Flink answers at {where} ({error}): is it up?") from error
        except (OSError, ValueError, grpc.RpcError) as error:
            code = error.code() if isinstance(error, grpc.RpcError) else None
            if code in (None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise EngineError(
                    f"no job service answers at {self._endpoint} "
                    f"({code.name.lower() if code else error}): is the cluster up "
                    "(alignset cluster status)?"
                ) from error
        return names


def everywhere(path: str) -> str:
    """A path as workers can use it, which may run in another folder."""
    return os.path.abspath(path) if is_local(path) else path
