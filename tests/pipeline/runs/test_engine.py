"""What is changed in Beam, what a runner says of a failed job, and stores out of reach."""

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from unittest.mock import patch

import apache_beam.pipeline
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2 as fn_api
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import make_settings, read_flags
from alignset.pipeline.runs.beam_patches import (
    HANDLERS,
    RAISED,
    SOURCE,
    beam_patches,
    is_ours,
    plain_logs,
    quick_imports,
    worker_environment,
)
from alignset.pipeline.runs.engine import Engine, EngineError, check_engine
from alignset.pipeline.runs.flink_jobs import job_error
from alignset.pipeline.runs.stores import check_stores
from tests.support.root import ROOT

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
        (["--runner=FlinkRunner"], "needs --job_endpoint=HOST:PORT: alignset cluster"),
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
    jar = PipelineOptions(["--runner=FlinkRunner", "--flink_job_server_jar=a.jar"])
    assert Engine(jar, "a").cancel([]) == []


def patched() -> dict[str, object]:
    return {
        "workers": vars(SubprocessSDKEnvironment)["from_command_string"],
        "options": PipelineOptions.view_as,
        "notebook": apache_beam.pipeline.alter_label_if_ipython,
    }


@pytest.mark.parametrize("left_out", ["", "imports,workers", "notebook,options", "all"])
def test_beam_is_changed_for_a_pipeline_unless_it_is_left_out(
    left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = patched()
    monkeypatch.setenv("ALIGNSET_WITHOUT_PATCHES", left_out)
    with suppress(OSError), Engine(PipelineOptions([]), "s").pipeline("texts"):
        same = {name for name, now in patched().items() if now is before[name]}
        raise OSError("the disk")
    assert same == {name for name in before if name in left_out or left_out == "all"}
    assert patched() == before


def test_worker_processes_import_what_the_command_needs() -> None:
    with beam_patches():
        environment = SubprocessSDKEnvironment.from_command_string("python -m apache_beam")
    ignores, command = environment.command_string.split("; exec ")
    assert ignores == "trap '' INT"
    python, *of_module = command.split()
    assert of_module == ["-m", "alignset.pipeline.runs.sdk_worker_main"]
    code = f"""if True:
        import runpy, sys
        try:
            runpy.run_module({of_module[1]!r}, run_name="__main__")
        except KeyError:  # where Beam has told it nothing
            print(*sys.modules)
        """
    optional = {"pandas", "google.auth", "boto3", "scipy"}
    for flag, expected in (("--output=s3://a", set()), ("--rules=a.py", optional)):
        with worker_environment([flag]):
            done = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True)
        imported = set(done.stdout.split())
        assert imported >= {
            "apache_beam.runners.worker.sdk_worker_main",
            "alignset.pipeline.run",
        }, done.stderr
        assert imported & optional == expected


@pytest.mark.parametrize("path", [None, "/a:/b"])
def test_the_environment_of_workers_is_set_back(
    path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path:
        monkeypatch.setenv("PYTHONPATH", path)
    environment = dict(os.environ)
    with suppress(OSError), worker_environment(["--RUNNER=DataflowRunner"]):
        assert os.environ["PYTHONPATH"] == (f"{ROOT}:{path}" if path else str(ROOT))
        with quick_imports(os.environ["ALIGNSET_USES"].split()):
            import google.auth  # noqa: F401
        raise OSError
    assert dict(os.environ) == environment


BEAMS = "/site-packages/apache_beam/runners/worker/sdk_worker_main.py:421"
OURS = "/alignset/transforms/workers/unexpected.py:27"


def record(entry: fn_api.LogEntry) -> logging.LogRecord:
    """As Beam's `BeamFnLoggingServicer` makes it."""
    text = str(entry).replace("\n", " ")
    return logging.LogRecord("beam", logging.WARNING, "", 1, "Worker: %s", (text,), None)


@pytest.mark.parametrize(("place", "passes"), [(BEAMS, False), (OURS, True)])
def test_what_beam_logs_is_left_out(place: str, passes: bool):
    message = 'an image raised ValueError("a\nb") at x.py:3: 100% "é"'
    logged = record(fn_api.LogEntry(message=message, log_location=place, thread="T"))
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


@pytest.fixture(autouse=True)
def variables() -> Iterator[None]:
    """None of a store's; what a command sets goes again."""
    with patch.dict(os.environ):
        for name in [name for name in os.environ if re.match("AWS_|GOOGLE_|STORAGE_", name)]:
            del os.environ[name]
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent"
        os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "/nonexistent"
        yield


def check(*flags: str) -> None:
    words = {"--input": "in.csv", "--output": "out"} | dict(flag.split("=", 1) for flag in flags)
    check_stores(make_settings(read_flags([f"{name}={value}" for name, value in words.items()])))


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        (
            "--input=hdfs://host/a",
            "input 'hdfs://host/a': hdfs:// cannot be read here; pass a path of this machine "
            "(/mnt/…), s3://, gs://, hf:// or https://",
        ),
        ("--output=file:///a", "cannot be written here; pass a path of this machine (/mnt/…), s3:"),
        ("--output=hf://datasets/me/set", "hf:// can only be read; pass --output=FOLDER, s3://"),
        ("--output=https://host/set", "https:// can only be read"),
        ("--vocabulary=s3://", "vocabulary 's3://' has no bucket; pass s3://BUCKET/FOLDER"),
        ("--input=s3://bucket/a", "no credentials for s3://: set AWS_ACCESS_KEY_ID and"),
        ("--eval_images=coco=gs://a/b", "no credentials for gs:// (File /nonexistent was not"),
        (
            "--input=hf://datasets/me/set",
            "hf:// needs huggingface_hub: pip install huggingface_hub",
        ),
        ("--blocklist=a=s3://bucket/a", "s3:// needs boto3: pip install 'alignset[aws]' ('.[aws]'"),
        ("--s3_api_version=2006-03-01", "--s3_api_version: no effect; pass --s3_endpoint_url"),
    ],
)
def test_what_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, flag: str, says: str):
    for module, needs in (("huggingface_hub", "input=hf"), ("boto3", "blocklist")):
        if needs in flag:
            monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as raised:
        check(flag)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_flags_of_s3_are_variables_of_boto3():
    os.environ["AWS_SESSION_TOKEN"] = "another key's"
    flags = ["--s3_access_key_id=key", "--s3_secret_access_key=secret", "--s3_region_name=here"]
    check("--output=s3://bucket/set", *flags, "--s3_endpoint_url=http://host", "--s3_verify=a.pem")
    assert {name: value for name, value in os.environ.items() if name.startswith("AWS_")} == {
        **{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        **{"AWS_DEFAULT_REGION": "here", "AWS_ENDPOINT_URL_S3": "http://host"},
        **{"AWS_CA_BUNDLE": "a.pem", "AWS_EC2_METADATA_DISABLED": "true"},
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    check("--output=s3://bucket/set", "--s3_session_token=token")
    assert os.environ["AWS_SESSION_TOKEN"] == "token"
