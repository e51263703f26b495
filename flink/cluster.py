"""The cluster's processes: JobManager, TaskManagers, Beam's job server, a pool of Python workers.

Each is started as a deployment would start it, in a container of its own; a supervisor starts again
what dies, as Kubernetes would.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent
PARTS = ROOT / ".flink"  # where `make flink` puts the jars
JOB_SERVER = "job-server.jar"
HOST = "localhost"
START_S = 120  # for all to answer; 10 s are usual
_OPENED = (
    *("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util", "util.concurrent"),
    *("util.concurrent.atomic", "util.concurrent.locks"),
)
# What Flink's own configuration opens to it under Java 17.
_JAVA = (
    "-XX:+UseSerialGC",  # two cores, small heaps
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED),
)
# Started without Flink's scripts, a TaskManager must be told all of its memory, in MB. A job needs
# 384 of network buffers for two slots. gRPC takes direct memory that Flink does not count, hence
# the off-heap memory of tasks: with 700 a restart after a failure ran out of it.
_MEMORY_MB = {
    "task.heap.size": 768,
    "task.off-heap.size": 2048,
    "managed.size": 256,
    "network.min": 512,
    "network.max": 512,
    "framework.heap.size": 128,
    "framework.off-heap.size": 128,
    "jvm-metaspace.size": 256,
    "jvm-overhead.min": 192,
    "jvm-overhead.max": 192,
}
_RESTARTS = (
    ("initial-backoff", "4 s"),
    ("backoff-multiplier", 3.0),
    ("max-backoff", "36 s"),
    ("attempts-before-reset-backoff", 3),
    ("reset-backoff-threshold", "5 min"),
)


class ClusterError(Exception):
    """The cluster cannot be started; says what to do."""


@dataclass(frozen=True)
class Ports:
    """Where the parts listen."""

    ui: int = 8081
    rpc: int = 6123
    jobs: int = 8099
    artifacts: int = 8098
    workers: int = 50000


class FlinkJob(TypedDict):
    """The used part of Flink's description of a job."""

    name: str
    state: str
    duration: int  # ms


@dataclass(frozen=True)
class Cluster:
    """A cluster on this machine.

    Args:
      folder: for its logs and temporary files.
      slots: of each TaskManager.
    """

    folder: Path
    ports: Ports = field(default_factory=Ports)
    task_managers: int = 2
    slots: int = 2

    def commands(self) -> dict[str, list[str]]:
        """The processes to start, by name."""
        ports, main = self.ports, "org.apache.flink.runtime"
        config = ["--configDir", str(self.folder)]
        # Beam's classes are there already: a job would bring 157 MB of them.
        classes = f"{PARTS / 'flink' / '*'}:{PARTS / 'job-server' / '*'}"
        log = f"-Dlog4j.configurationFile={ROOT / 'flink' / 'log4j2.properties'}"
        heap = _MEMORY_MB["task.heap.size"] + _MEMORY_MB["framework.heap.size"]
        direct = sum(_MEMORY_MB[f"{n}.size"] for n in ("task.off-heap", "framework.off-heap"))
        memory = [
            f"-Xmx{heap}m",
            f"-XX:MaxDirectMemorySize={direct + _MEMORY_MB['network.max']}m",
            f"-XX:MaxMetaspaceSize={_MEMORY_MB['jvm-metaspace.size']}m",
        ]
        sizes = [f"-Dtaskmanager.memory.{name}={mb}m" for name, mb in _MEMORY_MB.items()]
        sizes.append(f"-Dtaskmanager.cpu.cores={self.slots}")
        worker = ["java", *_JAVA, *memory, log, "-cp", classes]
        started = {
            "jobmanager": [
                *("java", *_JAVA, "-Xmx512m", log, "-cp", classes),
                *(f"{main}.entrypoint.StandaloneSessionClusterEntrypoint", *config),
            ]
        }
        for number in range(1, self.task_managers + 1):
            runner = [f"{main}.taskexecutor.TaskManagerRunner", *config]
            started[f"taskmanager-{number}"] = [*worker, *runner, *sizes]
        started["job-server"] = [
            *("java", *_JAVA, "-Xmx512m", "-jar", str(PARTS / JOB_SERVER)),
            f"--flink-master={HOST}:{ports.ui}",
            f"--flink-conf-dir={self.folder}",
            f"--job-host={HOST}",
            f"--job-port={ports.jobs}",
            f"--artifact-port={ports.artifacts}",
            "--expansion-port=0",
            f"--artifacts-dir={self.folder / 'artifacts'}",
        ]
        started["workers"] = [sys.executable, "-m", "flink.workers", f"--port={ports.workers}"]
        return started

    def configure(self) -> None:
        """Writes Flink's configuration, and empties what an earlier cluster left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "tmp").mkdir(parents=True)
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": self.ports.rpc,
            "jobmanager.bind-host": HOST,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.numberOfTaskSlots": self.slots,
            "taskmanager.load-balance.mode": "SLOTS",  # on both, not two on the first
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": self.ports.ui,
            "web.submit.enable": "false",
            # Beam keeps Python workers from stage to stage only where Flink itself loaded it.
            "classloader.resolve-order": "parent-first",
            "io.tmp.dirs": self.folder / "tmp",
            "blob.storage.directory": self.folder / "tmp",
            # What is lost to a kill is done again; what fails four times in a row ends the job.
            # Beam hands on a dead worker for as long as it keeps workers (30 s), hence 4 + 12 + 36.
            "restart-strategy.type": "exponential-delay",
            **{f"restart-strategy.exponential-delay.{name}": value for name, value in _RESTARTS},
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 20000,
        }
        text = "".join(f"{name}: {value}\n" for name, value in settings.items())
        (self.folder / "config.yaml").write_text(text)

    def flags(self) -> list[str]:
        """Flags of `beam_runner.py`, to run on this cluster."""
        return [
            "--runner=FlinkRunner",
            f"--job_endpoint={HOST}:{self.ports.jobs}",
            "--environment_type=EXTERNAL",
            f"--environment_config={HOST}:{self.ports.workers}",
            f"--sdk_worker_parallelism={self.slots}",
            "--environment_cache_millis=30000",
        ]

    def start(self) -> None:
        """Starts the cluster under a supervisor of its own and waits until it takes jobs.

        Raises:
          ClusterError: it runs already, a port is taken, or it does not come up.
        """
        if self.supervisor():
            raise ClusterError(f"the cluster in {self.folder} runs already: make flink-stop first")
        for name, port in vars(self.ports).items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise ClusterError(f"port {port} ({name}) is taken: pass another") from error
        self.configure()
        arguments = [f"--{name}={value}" for name, value in vars(self.ports).items()]
        arguments += [f"--task_managers={self.task_managers}", f"--slots={self.slots}"]
        command = [sys.executable, "-m", "flink", "supervise", f"--folder={self.folder}"]
        with (self.folder / "supervisor.log").open("w") as log:
            subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.answers():
            if time.monotonic() > deadline:
                raise ClusterError(f"the cluster does not come up: see {self.folder}/*.log")
            time.sleep(0.3)

    def answers(self) -> bool:
        """Whether all slots are there and jobs are taken."""
        with contextlib.suppress(OSError):
            with urlopen(f"{self.ui}/overview", timeout=5) as answer:
                there = json.load(answer)["slots-total"]
            for port in (self.ports.jobs, self.ports.workers):
                socket.create_connection((HOST, port), 5).close()
            return there == self.task_managers * self.slots
        return False

    def jobs(self) -> list[FlinkJob]:
        """Flink's jobs, as it tells of them."""
        with urlopen(f"{self.ui}/jobs/overview", timeout=10) as answer:
            return list(json.load(answer)["jobs"])

    @property
    def ui(self) -> str:
        return f"http://{HOST}:{self.ports.ui}"

    def pids(self, name: str) -> list[int]:
        """The processes of a part that live, the part itself first."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / f"{name}.pid").read_text())
            return [pid, *(of for of, fields in _processes() if int(fields[1]) == pid)]
        return []

    def supervisor(self) -> int | None:
        """The number of the process that watches this cluster, if there is one."""
        with contextlib.suppress(OSError, ValueError), (self.folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read())
        return None

    def stop(self) -> bool:
        """Ends all of it; returns whether there was something to end."""
        if (pid := self.supervisor()) is None:
            return False
        for signum, wait_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signum)
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline:
                groups = [int(fields[2]) for _, fields in _processes() if fields[0] != "Z"]
                if pid not in groups:
                    return True
                time.sleep(0.1)
        raise ClusterError(f"processes of group {pid} do not end")

    def supervise(self) -> None:
        """Starts all parts, and again whatever dies, until a signal ends this process."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),  # workers run the code of this tree
            "ARROW_DEFAULT_MEMORY_POOL": "system",
        }
        running: dict[str, subprocess.Popen[bytes]] = {}
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.write(str(os.getpid()))
            lock.flush()
            while True:
                for name, command in self.commands().items():
                    if name in running:
                        if (status := running[name].poll()) is None:
                            continue
                        print(f"{time.ctime()} {name} ended with {status}: again", flush=True)
                    with (self.folder / f"{name}.log").open("a") as log:
                        running[name] = subprocess.Popen(
                            command,
                            cwd=self.folder,
                            env=environment,
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=log,
                        )
                    (self.folder / f"{name}.pid").write_text(str(running[name].pid))
                time.sleep(1)


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Each process, and what /proc says of it: state, parent, group."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()[:3]
