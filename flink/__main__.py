"""`python -m flink start | stop`: a Flink cluster on this machine, and how to run on it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import zipfile
from pathlib import Path

from flink.cluster import PARTS, Cluster, ClusterError, Ports

MAIN = "org.apache.beam.runners.flink.FlinkJobServerDriver"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flink", description=__doc__)
    parser.add_argument("action", choices=["install", "start", "stop", "supervise"])
    parser.add_argument("--folder", type=Path, default=PARTS / "run", help="logs and what it needs")
    for port in dataclasses.fields(Ports):
        parser.add_argument(f"--{port.name}", type=int, default=port.default, help="a port")
    parser.add_argument("--task_managers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=2, help="of each TaskManager")
    flags = vars(parser.parse_args())
    ports = Ports(**{port.name: flags[port.name] for port in dataclasses.fields(Ports)})
    folder = flags["folder"].resolve()
    cluster = Cluster(folder, ports, flags["task_managers"], flags["slots"])
    try:
        return run(flags["action"], cluster)
    except ClusterError as error:
        print(f"flink: {error}", file=sys.stderr)
        return 1


def run(action: str, cluster: Cluster) -> int:
    if action == "install":
        write_job_server(PARTS)
    elif action == "supervise":
        cluster.supervise()
    elif action == "stop":
        print("stopped" if cluster.stop() else "no cluster is running")
    else:
        cluster.start()
        flags = cluster.flags()
        (cluster.folder / "flags").write_text("\n".join(flags) + "\n")
        print(f"Flink is up: {cluster.ui}")
        print(f"logs: {cluster.folder}/*.log; to end it: make flink-stop")
        print("to run on it, add to a command (all flags but the last are in .flink/run/flags):")
        print("  " + " ".join([*flags, "--parallelism=2"]))
    return 0


def write_job_server(parts: Path) -> None:
    """Writes `job-server.jar`, for `java -jar` and for --flink_job_server_jar.

    The job server sends its class path to Flink with each job, and that is this file alone.
    """
    jars = " ".join(
        f"job-server/{jar.name}" for jar in sorted((parts / "job-server").glob("*.jar"))
    )
    manifest = "".join(
        _wrapped(line)
        for line in ("Manifest-Version: 1.0", f"Main-Class: {MAIN}", f"Class-Path: {jars}")
    )
    aside = parts / "job-server.part"
    with zipfile.ZipFile(aside, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", manifest)
    os.replace(aside, parts / "job-server.jar")


def _wrapped(line: str) -> str:
    """A line of a manifest, which has at most 72 bytes; the next line continues behind a blank."""
    first, rest = line[:72], line[72:]
    parts = [first, *(f" {rest[at : at + 71]}" for at in range(0, len(rest), 71))]
    return "".join(f"{part}\r\n" for part in parts)


if __name__ == "__main__":
    sys.exit(main())
