"""A Flink cluster of this machine, as a user starts it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from tests.support.root import ROOT
from tests.support.stores import free_port

PORTS = ("ui", "rpc", "blobs", "jobs", "artifacts", "task_rpc", "data", "pool")
CLUSTER = (sys.executable, "-m", "alignset", "cluster")


class FlinkCluster(NamedTuple):
    """A head that is also a worker, which has all ports and a folder of its own."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def ui(self) -> str:
        return f"localhost:{self.ports['ui']}"

    def flags(self) -> list[str]:
        """The flags of a command that runs on it; waits until the cluster is up."""
        wait = (f"--head={self.ui}", f"--pool={self.ports['pool']}", "--wait_slots=2")
        return subprocess.check_output([*CLUSTER, "flags", *wait], text=True, cwd=ROOT).split()

    def jobs(self) -> list[dict]:
        """Flink's jobs, as it tells of them."""
        with urlopen(f"http://{self.ui}/jobs/overview", timeout=10) as answer:
            return json.load(answer)["jobs"]

    def pids(self, word: str) -> list[int]:
        """The processes of the cluster with a word in their command line."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_text()
                if (
                    word in line
                    and str(self.folder) in line + (path.parent / "environ").read_text()
                ):
                    pids.append(int(path.parent.name))
        return pids


@contextlib.contextmanager
def flink_cluster(folder: Path, environment: Mapping[str, str]) -> Iterator[FlinkCluster]:
    """A cluster with two slots, while the block runs."""
    cluster = FlinkCluster(folder, {name: free_port() for name in PORTS})
    ports = [f"--{name}={port}" for name, port in cluster.ports.items()]
    head = (*CLUSTER, "head", "--host=localhost", "--slots=2", f"--folder={folder}", *ports)
    started = subprocess.Popen(head, cwd=ROOT, env=os.environ | environment)
    try:
        cluster.flags()
        yield cluster
    finally:
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 0
        assert cluster.pids("") == []
