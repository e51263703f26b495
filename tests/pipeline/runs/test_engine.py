"""What a runner says of a failed job, in one line; and jobs that a dead start left."""

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.engine import Engine, EngineError, check_engine, job_error

FROM_WORKER = """Pipeline job_1 failed in state FAILED: java.lang.RuntimeException: Error received \
from SDK harness for instruction 1: Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1512, in apache_beam.runners.common.DoFnRunner.process
OSError: [Errno 28] No space left on device

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
RuntimeError: OSError: [Errno 28] No space left on device [while running 'JudgePairs']
"""
MISSING = """Pipeline job_1 failed in state FAILED: java.lang.IllegalStateException: gone
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3: Traceback
  File "/usr/lib/python3.11/x.py", line 3, in <module>
ModuleNotFoundError: No module named 'numba.core'
"""
LOST = """Pipeline job_1 failed in state FAILED: org.apache.flink.runtime.JobException: Recovery is
Caused by: org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: Slot request
"""

DIED = """Pipeline job_1 failed in state FAILED: org.apache.flink.runtime.JobException: Recovery is
Caused by: org.apache.beam.vendor.grpc.v1p69p0.io.grpc.StatusRuntimeException: CANCELLED: call \
already cancelled. Use ServerCallStreamObserver.setOnCancelHandler() to disable this exception
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            DIED,
            "a Python worker died, and again: its log, or the kernel's, may tell why (no memory?)",
        ),
        (FROM_WORKER, "OSError: [Errno 28] No space left on device [while running 'JudgePairs']"),
        (
            MISSING,
            "the workers have no package numba: install there what is installed here "
            "(requirements/base.txt, and this project)",
        ),
        (
            MISSING.replace("numba", "lxml"),
            "the workers have no package lxml: install there what is installed here "
            "(requirements/pages.txt, and this project)",
        ),
        (
            LOST,
            "org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: "
            "Slot request",
        ),
        ("Pipeline job_1 failed in state CANCELLED: unknown error", None),
        ("", "RuntimeError('')"),
    ],
)
def test_why_a_job_failed(text: str, said: str | None):
    assert job_error(RuntimeError(text)) == (said or text)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--runner=FlinkRunner"], "needs --job_endpoint=HOST:PORT: make flink"),
        (["--runner=FlinkRunner", "--job_endpoint=h:1", "--parallelism=0"], "at least 1.*; got 0"),
        (["--runner=FlinkRunner", "--flink_master=h:1", "--parallelism=-2"], "got -2"),
    ],
)
def test_flags_that_name_no_engine(flags: list[str], said: str):
    with pytest.raises(UsageError, match=said):
        check_engine(PipelineOptions(flags))
    for more in ([], ["--parallelism=1"], ["--parallelism=-1"]):
        for named in ("--job_endpoint=h:1", "--flink_job_server_jar=a.jar"):
            check_engine(PipelineOptions(["--runner=FlinkRunner", named, *more]))
        check_engine(PipelineOptions(more))


class Jobs(LocalJobServicer):
    """A job service with jobs that run until they are cancelled."""

    def __init__(self, running: dict[str, str]) -> None:
        super().__init__()
        self.states = dict.fromkeys(running, api.JobState.RUNNING)
        self.names = running

    def GetJobs(self, request, context=None):
        info = [
            api.JobInfo(job_id=job_id, job_name=self.names[job_id], state=state)
            for job_id, state in self.states.items()
        ]
        return api.GetJobsResponse(job_info=info)

    def Cancel(self, request, context=None):
        self.states[request.job_id] = api.JobState.CANCELLED
        return api.CancelJobResponse(state=api.JobState.CANCELLED)

    def GetState(self, request, context=None):
        return api.JobStateEvent(state=self.states[request.job_id])


def test_only_the_jobs_of_some_starts_are_cancelled():
    jobs = Jobs({"1": "alignset-texts-abc", "2": "alignset-texts-def", "3": "other", "5": "a-old"})
    jobs.states["4"], jobs.names["4"] = api.JobState.DONE, "alignset-images-abc"
    port = jobs.start_grpc_server()
    flags = ["--runner=PortableRunner", f"--job_endpoint=localhost:{port}"]
    try:
        engine = Engine(PipelineOptions(flags), "new")
        assert engine.cancel(["old", "abc"]) == ["alignset-texts-abc", "a-old"]
        ended = {job_id for job_id, s in jobs.states.items() if s == api.JobState.CANCELLED}
        assert ended == {"1", "5"}
        assert engine.cancel(["old", "abc"]) == []
        assert engine.cancel([]) == []
    finally:
        jobs.stop()
    with pytest.raises(EngineError, match=rf"at localhost:{port} .*refused.*: is the cluster up"):
        engine.cancel([])
    for elsewhere in ("--flink_master=localhost:1", "--flink_job_server_jar=a.jar"):
        assert Engine(PipelineOptions(["--runner=FlinkRunner", elsewhere]), "a").cancel([]) == []
