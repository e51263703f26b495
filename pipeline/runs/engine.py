"""The runner: in process or a job service; its jobs by name, and what is left there of a start."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

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

from alignset.extras import extra_of
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.beam_patches import beam_patches
from alignset.transforms.storage.files import is_local

LOG = logging.getLogger("alignset")
CANCEL_S = 60.0
ANSWER_S = 10.0
# A line that names an exception, of Python or of Java.
_NAMED = re.compile(r"^(?:Caused by: )?((?:[A-Za-z_][\w$]*\.)*[A-Z]\w*(?:Error|Exception)): (.+)$")


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
            "--runner=FlinkRunner needs --job_endpoint=HOST:PORT: make flink starts a cluster "
            "here, and says with which flags"
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
    """

    def __init__(self, options: PipelineOptions, start: str) -> None:
        self._options, self._start = options, start
        self.in_process = runner_of(options) in ("", "directrunner", "fnapirunner")
        self._name = options.view_as(GoogleCloudOptions).job_name or "alignset"
        self._endpoint = options.view_as(PortableOptions).job_endpoint or ""

    @contextmanager
    def pipeline(self, plane: str) -> Iterator[beam.Pipeline]:
        """A pipeline to build; it runs to its end where the block ends.

        Raises:
          EngineError: the job failed elsewhere; in process an error comes as it is.
        """
        name = f"{self._name}-{plane}-{self._start}"
        if not self.in_process:
            self._options.view_as(GoogleCloudOptions).job_name = name
            flink = self._options.view_as(FlinkRunnerOptions).flink_master.replace("[auto]", "")
            address = flink or self._endpoint or runner_of(self._options)
            LOG.info("the job %s is sent to %s", name, address)
        # Named by itself, Beam's DirectRunner first tries to download another runner.
        runner = FnApiRunner() if self.in_process else None
        try:
            with beam_patches(), beam.Pipeline(runner=runner, options=self._options) as pipeline:
                yield pipeline
        except KeyboardInterrupt:
            with suppress(EngineError):
                self.cancel([self._start])
            raise
        except Exception as error:
            if not self.in_process:
                raise EngineError(job_error(error)) from error
            if "Channel closed prematurely" not in str(error):
                raise
            raise WorkerDiedError(
                "a worker process died, and again: the system may have ended it for want of "
                "memory, which its log tells (dmesg)"
            ) from error

    def cancel(self, starts: Sequence[str]) -> list[str]:
        """Cancels what a job service still runs for some starts of the command, and waits until
        that has ended; returns the names of these jobs.

        Raises:
          EngineError: no job service answers. Beam would wait for it for minutes.
        """
        if self.in_process or ":" not in self._endpoint:
            return []
        names, endings = [], tuple(f"-{start}" for start in starts)
        host, _, port = self._endpoint.rpartition(":")
        try:
            socket.create_connection((host, int(port)), ANSWER_S).close()
            if not starts:
                return []
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
        except (OSError, ValueError, grpc.RpcError) as error:
            code = error.code() if isinstance(error, grpc.RpcError) else None
            if code in (None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise EngineError(
                    f"no job service answers at {self._endpoint} "
                    f"({code.name.lower() if code else error}): is the cluster up (make flink)?"
                ) from error
        return names


def everywhere(path: str) -> str:
    """A path as workers can use it, which may run in another folder."""
    return os.path.abspath(path) if is_local(path) else path


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
    return reason if kind == "RuntimeError" else f"{kind}: {reason}"
