"""The processes of a Flink cluster: what each runs, with which settings, and who keeps them up.

The head runs Flink's JobManager and Beam's job server. A worker runs a TaskManager and a pool of
Python workers. One machine may be both.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignset.flink.jars import class_path
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.flink_jobs import Flink
from alignset.signals import end_with_parent

# Each port, and what listens there. Workers and commands ask the head's web page for the others.
HEAD_PORTS = {
    "ui": (8081, "Flink's web page and REST API"),
    "rpc": (6123, "JobManager"),
    "blobs": (6124, "JobManager's files"),
    "jobs": (8099, "Beam's job server"),
    "artifacts": (8098, "Beam's job server"),
}
WORKER_PORTS = {
    "task_rpc": (6122, "TaskManager"),
    "data": (6121, "TaskManager's data"),
    "pool": (50000, "pool of Python workers, for this machine alone; the same on all"),
}
LOCAL = ("localhost", "127.0.0.1")
_CODE = Path(__file__).absolute().parents[2]  # that workers run, too
ANSWER_S = 5.0
STOP_S = 5.0
_PROCESS = "org.apache.flink.runtime"
_JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
_OPENED = (
    *("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util", "util.concurrent"),
    *("util.concurrent.atomic", "util.concurrent.locks"),
)
_LOG = "-Dorg.slf4j.simpleLogger"
_JAVA = (
    "java",
    "-XX:+UseSerialGC",  # two cores, small heaps
    # Without the last compiler: start and a first job take 21 CPU-s instead of 53, and three text
    # stages of 150,000 pairs 19 in the TaskManager instead of 34.
    "-XX:TieredStopAtLevel=1",
    # What Flink's own configuration opens to it under Java 17.
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    *(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED),
    f"{_LOG}.showDateTime=true",
    f"{_LOG}.dateTimeFormat=HH:mm:ss,SSS",
    # A warning a job for each of Beam's types that Flink serializes by Kryo.
    f"{_LOG}.log.org.apache.flink.api.java.typeutils=error",
)
SETTINGS = {
    "taskmanager.load-balance.mode": "SLOTS",  # on all machines, not all on the first
    "web.submit.enable": "false",
    # Beam keeps Python workers from stage to stage only where Flink itself loaded it.
    "classloader.resolve-order": "parent-first",
    # What is lost to a kill is done again; what fails four times in a row ends the job.
    # Beam hands on a dead worker for as long as it keeps workers (30 s), hence 4 + 12 + 36.
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "4 s",
    "restart-strategy.exponential-delay.backoff-multiplier": 3.0,
    "restart-strategy.exponential-delay.max-backoff": "36 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": 3,
    "restart-strategy.exponential-delay.reset-backoff-threshold": "5 min",
    # A machine that is lost for good is found within 20 s. Connections to it are closed before the
    # first restart uses them, and a new one is given up.
    "heartbeat.interval": 2000,
    "heartbeat.timeout": 20000,
    "slot.request.timeout": 60000,
    "taskmanager.network.tcp-connection.enable-reuse-across-jobs": "false",
    "taskmanager.network.netty.client.connectTimeoutSec": 20,
    "taskmanager.network.netty.client.tcp.keepIdleSec": 10,
    "taskmanager.network.netty.client.tcp.keepIntervalSec": 3,
    "taskmanager.network.netty.client.tcp.keepCount": 3,
    "metrics.internal.query-service.port": "6125-6224",
}


def memory_mb(slots: int) -> dict[str, int]:
    """The memory of a TaskManager, which Flink's scripts would else share out.

    gRPC takes direct memory that Flink does not count, hence the off-heap memory of tasks: with
    700 for two slots a restart after a failure ran out of it.
    """
    network = 192 + 192 * slots
    return {
        "task.heap.size": 256 + 256 * slots,
        "task.off-heap.size": 1024 + 512 * slots,
        "managed.size": 128 * slots,
        "network.min": network,
        "network.max": network,
        "framework.heap.size": 128,
        "framework.off-heap.size": 128,
        "jvm-metaspace.size": 256,
        "jvm-overhead.min": 192,
        "jvm-overhead.max": 192,
    }


@dataclass(frozen=True)
class Machine:
    """A machine of a cluster, and the processes that it runs.

    Args:
      folder: for its logs (*.log) and temporary files.
      host: its name or address, by which the others reach it.
      ports: by name.
      head: the head's host; None: it is this machine.
      slots: of its TaskManager; 0: it has none.
    """

    folder: Path
    host: str
    ports: Mapping[str, int]
    slots: int
    head: str | None = None

    def commands(self) -> dict[str, list[str]]:
        """The processes to run, by name."""
        java = [*_JAVA, "-cp", class_path()]
        config = ["--configDir", str(self.folder)]
        commands = {}
        if self.head is None:
            main = f"{_PROCESS}.entrypoint.StandaloneSessionClusterEntrypoint"
            commands["jobmanager"] = [*java, "-Xmx512m", self._log("jobmanager"), main, *config]
            commands["job-server"] = [
                *(*java, "-Xmx512m", _JOB_SERVER),
                f"--flink-master={self.host}:{self.ports['ui']}",
                f"--flink-conf-dir={self.folder}",
                f"--job-host={self.host}",
                f"--job-port={self.ports['jobs']}",
                f"--artifact-port={self.ports['artifacts']}",
                "--expansion-port=0",
                f"--artifacts-dir={self.folder / 'tmp' / 'artifacts'}",
            ]
        if self.slots:
            sizes = memory_mb(self.slots)
            heap = sizes["task.heap.size"] + sizes["framework.heap.size"]
            direct = sizes["task.off-heap.size"] + sizes["framework.off-heap.size"]
            commands["taskmanager"] = [
                *(*java, f"-Xmx{heap}m", f"-XX:MaxMetaspaceSize={sizes['jvm-metaspace.size']}m"),
                f"-XX:MaxDirectMemorySize={direct + sizes['network.max']}m",
                *(self._log("taskmanager"), f"{_PROCESS}.taskexecutor.TaskManagerRunner", *config),
                *(f"-Dtaskmanager.memory.{name}={mb}m" for name, mb in sizes.items()),
                f"-Dtaskmanager.cpu.cores={self.slots}",
            ]
            commands["workers"] = [
                *(sys.executable, "-m", "alignset.flink.workers", f"--host={self.host}"),
                *(f"--port={self.ports['pool']}", f"--folder={self.folder / 'tmp' / 'workers'}"),
            ]
        return commands

    def _log(self, name: str) -> str:
        return f"-Dlog.file={self.folder / name}.log"  # Flink's web page shows it

    def configure(self, head: Mapping[str, Any]) -> None:
        """Writes Flink's configuration, and empties what an earlier start left.

        Args:
          head: the head's configuration; empty where this machine is the head.
        """
        temporary = self.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        settings = SETTINGS | {"io.tmp.dirs": temporary, "blob.storage.directory": temporary}
        bind = self.host if self.host in LOCAL else "0.0.0.0"
        if self.head is None:
            settings |= {
                "jobmanager.rpc.address": self.host,
                "jobmanager.rpc.port": self.ports["rpc"],
                "jobmanager.bind-host": bind,
                "blob.server.port": self.ports["blobs"],
                "rest.address": self.host,
                "rest.bind-address": bind,
                "rest.port": self.ports["ui"],
                "alignset.jobs": self.ports["jobs"],
            }
        else:
            names = ("jobmanager.rpc.address", "jobmanager.rpc.port")
            settings |= {name: head[name] for name in names}
        if self.slots:
            settings |= {
                "taskmanager.host": self.host,
                "taskmanager.bind-host": bind,
                "taskmanager.rpc.port": self.ports["task_rpc"],
                "taskmanager.data.port": self.ports["data"],
                "taskmanager.numberOfTaskSlots": self.slots,
            }
        text = "".join(f"{name}: {json.dumps(str(value))}\n" for name, value in settings.items())
        (self.folder / "config.yaml").write_text(text)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds this machine's folder, so that no other start uses it.

        Raises:
          UsageError: another start holds it, another user made it, or a port is taken.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.lstat().st_uid != os.getuid():  # in /tmp anybody may have made it
            raise UsageError(f"{self.folder} is another user's: pass --folder=FOLDER")
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"a cluster runs already in {self.folder}: end it, or pass --folder=FOLDER"
                ) from None
            for name, port in self.ports.items():
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        probe.bind(("", port))
                    except OSError as error:
                        raise UsageError(f"port {port} is taken: pass --{name}=PORT") from error
            yield

    def run(self) -> None:
        """Starts all processes, and again what ends, until this process is interrupted."""
        end = functools.partial(end_with_parent, os.getpid())
        running: dict[str, subprocess.Popen[bytes]] = {}
        paths = [str(_CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "grpc_proxy": "",  # else gRPC asks http_proxy, for localhost too
        }
        try:
            while True:
                for name, command in self.commands().items():
                    log = self.folder / f"{name}.log"
                    if name in running:
                        if (status := running[name].poll()) is None:
                            continue
                        ended = f"{name} ended with {status} and is started again"
                        print(f"{time.ctime()} {ended}: {last_line(log)}", flush=True)
                    with log.open("a") as sink:
                        running[name] = subprocess.Popen(
                            command,
                            cwd=self.folder,
                            env=environment,
                            stdin=subprocess.DEVNULL,
                            stdout=sink,
                            stderr=sink,
                            start_new_session=True,
                            preexec_fn=end,
                        )
                time.sleep(1)
        finally:
            for signum in (signal.SIGTERM, signal.SIGKILL):
                for process in running.values():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signum)
                until = time.monotonic() + STOP_S
                for process in running.values():
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0, until - time.monotonic()))
            shutil.rmtree(self.folder / "tmp", ignore_errors=True)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return next(filter(str.strip, reversed(lines)), "")


def ask(head: str, path: str) -> Any:
    """Returns an answer of Flink's REST API.

    Args:
      head: HOST or HOST:PORT of the head's web page.

    Raises:
      OSError, ValueError: it does not answer, or not in JSON.
    """
    address = head if ":" in head else f"{head}:{HEAD_PORTS['ui'][0]}"
    return json.loads(Flink(address).read(path))


def configuration(head: str) -> dict[str, str]:
    """Flink's configuration, as the head has it; raises as `ask`."""
    return {one["key"]: one["value"] for one in ask(head, "jobmanager/config")}


def own_address(head: str) -> str:
    """The address of this machine from which it reaches the head."""
    host, _, port = head.partition(":")
    if host in LOCAL:
        return host
    with socket.create_connection((host, int(port or HEAD_PORTS["ui"][0])), ANSWER_S) as probe:
        return str(probe.getsockname()[0])
