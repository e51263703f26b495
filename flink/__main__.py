"""`python -m flink start | stop`: a Flink cluster on this machine, and how to run on it."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from flink.cluster import PARTS, Cluster, ClusterError, Ports
from flink.job_server import write_job_server


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


if __name__ == "__main__":
    sys.exit(main())
