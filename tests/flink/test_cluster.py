"""The parts of a cluster that need no Flink: the pool of Python workers, and what is refused."""

import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as api

from alignset.flink.__main__ import main
from alignset.flink.cluster import last_line
from alignset.flink.workers import WorkerPool
from tests.support.root import ROOT


def request(port: int) -> api.StartWorkerRequest:
    asked = api.StartWorkerRequest(worker_id="1-1")
    asked.control_endpoint.url = f"localhost:{port}"
    return asked


def wait_until_empty(folder: Path) -> None:
    while list(folder.iterdir()):
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("python", "why"),
    [("/bin/false", "it ended with status 1"), ("/no/python", "No such file or directory")],
)
def test_a_pool_says_why_a_worker_does_not_start(
    python: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "workers" / "of a dead pool").mkdir(parents=True)
    pool = WorkerPool("w3 (localhost:50000 there)", tmp_path / "workers")
    assert list((tmp_path / "workers").iterdir()) == []
    monkeypatch.setattr(sys, "executable", python)
    error = pool.StartWorker(request(1), None).error
    named = "the worker pool of w3 (localhost:50000 there) cannot start a Python worker: "
    assert error.startswith(named)
    assert why in error


def test_a_worker_and_its_files_end_with_its_task_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    pool = WorkerPool("here", tmp_path / "workers")
    task_manager = grpc.server(ThreadPoolExecutor(2))
    port = task_manager.add_insecure_port("localhost:0")
    task_manager.start()
    assert pool.StartWorker(request(port), None).error == ""
    assert len(list((tmp_path / "workers").iterdir())) == 1
    task_manager.stop(0).wait()
    wait_until_empty(tmp_path / "workers")


def test_what_cannot_be_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALIGNSET_FLINK", str(tmp_path))
    with socket.socket() as silent:
        silent.bind(("localhost", 0))
        nowhere = f"--head=localhost:{silent.getsockname()[1]}"
        table = {
            ("head",): "does not exist: alignset cluster install",
            ("worker", nowhere, "--slots=0"): "--slots must be at least 1; got 0",
            ("head", "--slots=-1"): "--slots must be at least 0; got -1",
            ("status", nowhere): "no Flink answers at localhost:",
            ("flags", nowhere, "--wait_slots=2", "--wait_s=0"): "no Flink answers at localhost:",
        }
        for words, said in table.items():
            assert main([*words], "alignset cluster") == 2
            error = capsys.readouterr().err
            assert error.startswith("alignset cluster: ")
            assert said in error
            assert error.count("\n") == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["install"], "alignset cluster") == 2
    assert "Maven (mvn) is not on the PATH" in capsys.readouterr().err


def test_the_last_line_of_a_log(tmp_path: Path):
    for text, last in (("", ""), ("a\nb\n\n", "b"), ("x" * 9000 + "\nÜ\n", "Ü")):
        (tmp_path / "log").write_text(text)
        assert last_line(tmp_path / "log") == last
