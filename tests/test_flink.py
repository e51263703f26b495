"""The whole command on a real Flink cluster: the same bytes, and the same after a kill."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ROOT, digests
from conftest import Golden
from small_web import SmallWeb

from flink.cluster import PARTS, Cluster
from flink.runs import cluster

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def flink() -> Iterator[Cluster]:
    assert (PARTS / "ready").exists(), "Flink is not here: make .flink/ready"
    with cluster("test") as started:
        yield started


@contextlib.contextmanager
def command(plain: Golden, output: Path, flink: Cluster, log: Path) -> Iterator[subprocess.Popen]:
    flags = [*plain.flags, *flink.flags(), "--parallelism=2", "--sdk_worker_parallelism=1"]
    args = ["beam_runner.py", f"--input={plain.pairs}", *flags]
    args.append(f"--output={os.path.relpath(output, ROOT)}")  # workers are in another folder
    with log.open("a") as sink:
        started = subprocess.Popen([sys.executable, *args], cwd=ROOT, stdout=sink, stderr=sink)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def wait_for_images(web: SmallWeb, begun: int, process: subprocess.Popen) -> None:
    while len(web.requests) < begun + 5:
        assert process.poll() is None, "it ended before it fetched"
        time.sleep(0.02)


def test_the_same_bytes_though_workers_and_the_command_are_killed(
    plain: Golden, web: SmallWeb, flink: Cluster, tmp_path: Path
):
    """The command dies while images are fetched; started again, it cancels the job that it left,
    and then a Python worker, that runs a shard, dies."""
    output, log = tmp_path / "set", tmp_path / "log"
    web.delay_s = 0.05
    try:
        with command(plain, output, flink, log) as first:
            wait_for_images(web, len(web.requests), first)
            first.kill()
        with command(plain, output, flink, log) as second:
            wait_for_images(web, len(web.requests), second)
            victims = flink.pids("workers")[1:]
            assert victims
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            web.delay_s = 0
            status = second.wait(300)
    finally:
        web.delay_s = 0
    said = log.read_text()
    assert status == 0, said
    assert "left running by an earlier start of this command, is cancelled" in said
    assert digests(output) == digests(plain.output)
