"""Runs on a cluster, some of whose machines are lost, freeze or are slow: each ends by itself or by
the same command, with the bytes of a run in process, and says what happened."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from alignset.flink.jars import jars
from tests.support.machines import (
    ADDRESSES,
    FREEZE,
    HOST,
    SLOW_DOWN,
    Machines,
    signal_command,
    until,
    why_not,
)
from tests.support.serving import serving
from tests.support.small_web import SmallWeb
from tests.support.stores import FaultyProxy, Store, s3_store, s3_variables
from tests.support.web_run import WebRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=f"2026-12-02: {why_not()}"),
]
WORKERS = tuple(name for name in ADDRESSES if name.startswith("w"))


class Cluster:
    """Flink on machines, a web, and a store."""

    def __init__(self, machines: Machines, web: SmallWeb, store: Store, proxy: FaultyProxy) -> None:
        self.machines, self.folder = machines, machines.folder
        self.store, self.proxy = store, proxy
        self.run = WebRun(web, self.folder)

    def alignset(self, name: str, *words: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-m", "alignset", *words)
        values = {"ALIGNSET_FLINK": str(jars().parent), **s3_variables(self.proxy.url)}
        return self.machines.run(name, *command, log=log, **values)

    def boot_all(self) -> None:
        """Starts each machine that is off, with its part of the cluster; waits for all of them."""
        for name in ADDRESSES:
            if not self.machines.is_up(name):
                self.machines.boot(name)
                role = ("head",) if name == "head" else ("worker", "--head=head")
                if name != "login":
                    self.alignset(name, "cluster", *role, f"--folder={self.folder}/logs/{name}")
        (told := self.folder / "flags").unlink(missing_ok=True)
        asked = ("cluster", "flags", "--head=head", f"--wait_slots={len(WORKERS)}")
        assert self.alignset("login", *asked, log=told).wait() == 0, told.read_text()
        self.flags = told.read_text().split()

    def start(self, output: str) -> subprocess.Popen[bytes]:
        """The command, on the machine `login`; its log is in the shared folder."""
        words = ("curate", *self.run.flags, f"--output={output}", *self.flags, "--parallelism=2")
        return self.alignset("login", *words, log=self.log(output))

    def log(self, output: str) -> Path:
        return self.folder / f"{Path(output).name}.log"

    def ask(self, path: str) -> Any:
        with urlopen(f"http://{ADDRESSES['head']}:8081{path}", timeout=10) as answer:
            return json.load(answer)

    def running(self, stage: str) -> list[str]:
        """The ids of a stage's jobs that Flink runs."""
        return [
            job["jid"]
            for job in self.ask("/jobs/overview")["jobs"]
            if job["state"] in ("RUNNING", "RESTARTING") and f"alignset-{stage}" in job["name"]
        ]

    def busy(self, stage: str) -> list[str]:
        """The machines on which tasks of a stage run."""
        found = set()
        with contextlib.suppress(OSError):  # the head starts again
            for job in self.running(stage):
                for vertex in self.ask(f"/jobs/{job}")["vertices"]:
                    for task in self.ask(f"/jobs/{job}/vertices/{vertex['id']}")["subtasks"]:
                        if task["status"] == "RUNNING":
                            found.add(task["host"].partition(":")[0])
        return [name for name, address in ADDRESSES.items() if {name, address} & found]

    @contextlib.contextmanager
    def image_stage(self, command: subprocess.Popen[bytes]) -> Iterator[list[str]]:
        """Stops a run among its images while the block runs, which gets the machines that fetch."""
        with self.run.held(lambda: command.poll() is None):
            yield self.busy("images")

    def end(self, command: subprocess.Popen[bytes], output: str) -> int:
        """The status with which the command ends by itself."""
        until(lambda: command.poll() is not None, f"end of {output}")
        return command.returncode

    def end_well(self, command: subprocess.Popen[bytes], output: str) -> str:
        """Fails unless the command ends with the dataset that is expected; returns its log."""
        status, said = self.end(command, output), self.log(output).read_text()
        assert status == 0, said
        made = Path(output)
        if output.startswith("s3:"):
            made = self.store.download(output, self.folder / "downloaded")
        self.run.check(made, said)
        return said


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    machines = Machines(folder)
    with (
        contextlib.closing(machines),
        serving(SmallWeb((HOST, 0))) as web,
        s3_store(folder) as store,
        serving(FaultyProxy(store.url, HOST)) as proxy,
    ):
        yield Cluster(machines, web, store, proxy)


@pytest.fixture
def cluster(whole: Cluster) -> Cluster:
    whole.boot_all()
    return whole


def test_two_machines_are_lost_for_good(cluster: Cluster):
    """One in each stage; the spare slots take their work."""
    output = f"{cluster.folder}/lost"
    command = cluster.start(output)
    until(lambda: cluster.busy("texts"), "text stage")
    lost = cluster.busy("texts")[:1]
    cluster.machines.lose(lost[0])
    with cluster.image_stage(command) as busy:
        cluster.machines.lose(busy[0])
    said = cluster.end_well(command, output)
    assert all(f"timed out. (on {name})" in said for name in (*lost, busy[0])), said


def test_one_machine_freezes_and_one_is_slow(cluster: Cluster):
    """The frozen one is given up, and wakes up while others do its work."""
    output = f"{cluster.folder}/frozen"
    command = cluster.start(output)
    with cluster.image_stage(command) as busy:
        for name, script in zip(busy, (FREEZE, SLOW_DOWN), strict=False):
            cluster.machines.run(name, "bash", "-c", script)
    assert f"timed out. (on {busy[0]})" in cluster.end_well(command, output)


def test_two_links_are_cut_and_mended(cluster: Cluster):
    """One in the text stage, too shortly to be noticed; one among the images, until it is."""
    output = f"{cluster.folder}/cut"
    command = cluster.start(output)
    until(lambda: cluster.busy("texts"), "text stage")
    name = cluster.busy("texts")[0]
    cluster.machines.link(name, "down")
    time.sleep(8)  # Flink waits for 20
    cluster.machines.link(name, "up")
    with cluster.image_stage(command) as busy:
        cluster.machines.link(busy[0], "down")
        line = f"timed out. (on {busy[0]})"
        until(lambda: line in cluster.log(output).read_text(), line)
        cluster.machines.link(busy[0], "up")
        cluster.boot_all()  # it joins again by itself
    said = cluster.end_well(command, output)
    assert said.count("timed out. (on ") == 1, said


def test_the_command_is_killed_and_then_stopped(cluster: Cluster):
    """Flink has no job of it after Control-C, and no image is asked for."""
    output = f"{cluster.folder}/stopped"
    command = cluster.start(output)
    with cluster.image_stage(command):
        signal_command(command, signal.SIGKILL)
        command.wait()
        assert cluster.running("images")
        command = cluster.start(output)
        line = "left running by an earlier start of this command, is cancelled"
        until(lambda: line in cluster.log(output).read_text(), line)
        until(lambda: cluster.busy("images"), "image stage")
        signal_command(command, signal.SIGINT)
        assert cluster.end(command, output) == 1
        assert not cluster.running("")
        time.sleep(5)  # workers look each 2 s whether they are stopped
    asked = len(cluster.run.web.requests)
    time.sleep(3)
    assert len(cluster.run.web.requests) == asked
    cluster.end_well(cluster.start(output), output)


def test_the_head_is_lost_and_then_the_store_fails(cluster: Cluster):
    """First its JobManager alone; the store answers 503 for 20 s."""
    output = f"{cluster.store.root}/headless"
    log = cluster.log(output)
    command = cluster.start(output)
    with cluster.image_stage(command):
        cluster.machines.script("head", "pkill -KILL -f StandaloneSession")
        assert cluster.end(command, output) == 1
        command = cluster.start(output)
        until(lambda: cluster.busy("images"), "image stage")
        cluster.machines.lose("head")
        until(lambda: "Flink at head:8081 has not answered" in log.read_text(), "word of the head")
        cluster.boot_all()
        assert cluster.end(command, output) == 1
        command = cluster.start(output)
        until(lambda: cluster.busy("images"), "image stage")
        cluster.proxy.fault = lambda *_: 503
    time.sleep(20)
    cluster.proxy.fault = lambda *_: None
    assert "Could not find Flink job" in cluster.end_well(command, output)
    assert cluster.proxy.failed
