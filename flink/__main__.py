"""alignset cluster install
alignset cluster head [--host=NAME] [--slots=N]
alignset cluster worker --head=NAME [--slots=N]
alignset cluster status --head=NAME
alignset curate … $(alignset cluster flags --head=NAME)

A Flink cluster: one head, and a worker on each machine, each until Control-C.
`head --slots=N` is head and worker in one. `COMMAND --help` lists flags.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignset.flink.cluster import (
    HEAD_PORTS,
    LOCAL,
    WORKER_PORTS,
    Machine,
    ask,
    configuration,
    own_address,
)
from alignset.flink.jars import check, install
from alignset.pipeline.command_line import CommandParser, print_end
from alignset.pipeline.errors import UsageError
from alignset.signals import run_main

NAME = "python -m alignset.flink"
# Flink sets keepalive, which waits while something is sent, but no time-out of what is sent. We do
# not set this: it is of all connections of the machine.
_RETRIES = Path("/proc/sys/net/ipv4/tcp_retries2")
MAX_RETRIES = 8
# Beam deals the steps that begin on a machine out to its Python processes in turn, whichever slots
# they are of. With a process a slot, two slots often fetch in one process while another idles.
_PROCESSES_A_SLOT = 2


def main(arguments: list[str], name: str = NAME) -> int:
    flags = parser(name).parse_args(arguments)
    command = {"head": head, "worker": worker, "status": status, "flags": print_flags}.get(
        flags.command, lambda _: install()
    )
    try:
        command(flags)
    except UsageError as error:
        return print_end(name, error, error.status)
    return 0


def parser(name: str = NAME) -> CommandParser:
    """The parser of all commands' flags."""
    whole = CommandParser(prog=name, description=str(__doc__).replace("alignset cluster", name))
    commands = whole.add_subparsers(
        dest="command", required=True, metavar="install|head|worker|status|flags"
    )
    commands.add_parser("install", help="download Flink and Beam's job server, by Maven")
    for role, ports in (("head", HEAD_PORTS | WORKER_PORTS), ("worker", WORKER_PORTS)):
        add = commands.add_parser(role, help=f"run a {role} here, until Control-C").add_argument
        if role == "worker":
            add("--head", required=True, metavar="HOST[:UI]", help="the head's host")
        add("--host", help="name or address by which the other machines reach this one")
        slots = 1 if role == "worker" else 0
        add("--slots", type=int, default=slots, help=f"Python workers here at once ({slots})")
        folder = Path(tempfile.gettempdir()) / f"alignset-{role}-{os.getuid()}"
        add("--folder", type=Path, default=folder, help=f"logs and temporary files ({folder})")
        for port, (default, whose) in ports.items():
            add(f"--{port}", type=int, default=default, metavar="PORT", help=f"{whose} ({default})")
    for command, does in (
        ("status", "print machines, slots and jobs"),
        ("flags", "print the flags with which a command runs on the cluster"),
    ):
        add = commands.add_parser(command, help=does).add_argument
        add("--head", default="localhost", metavar="HOST[:UI]", help="the head's host (localhost)")
        add("--wait_slots", type=int, default=0, help="first wait until so many are there")
        if command == "flags":
            default, whose = WORKER_PORTS["pool"]
            add("--pool", type=int, default=default, metavar="PORT", help=f"{whose} ({default})")
        add("--wait_s", type=float, default=300, help="wait at most so many seconds (300)")
    return whole


def head(flags: argparse.Namespace) -> None:
    """Runs a head, and a worker on the same machine where it has slots."""
    if flags.slots < 0:
        raise UsageError(f"--slots must be at least 0; got {flags.slots}")
    check()
    host = flags.host or socket.gethostname()
    ports = HEAD_PORTS | (WORKER_PORTS if flags.slots else {})
    machine = Machine(
        flags.folder.absolute(), host, {n: getattr(flags, n) for n in ports}, flags.slots
    )
    ui = f"{host}:{flags.ui}"
    run(
        machine,
        {},
        f"Flink starts: http://{ui} is its page; logs: {machine.folder}/*.log",
        f"on each other machine: alignset cluster worker --head={ui}",
        f"to run on it: alignset curate … $(alignset cluster flags --head={ui})",
    )


def worker(flags: argparse.Namespace) -> None:
    """Runs a worker of a head, for which it waits."""
    if flags.slots < 1:
        raise UsageError(f"--slots must be at least 1; got {flags.slots}")
    check()
    said = False
    while True:
        try:
            settings = configuration(flags.head)
            host = flags.host or own_address(flags.head)
            break
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not said:
                print(f"{flags.head} does not answer ({error}): waiting", flush=True)
            said = True
            time.sleep(1)
    machine = Machine(
        flags.folder.absolute(),
        host,
        {name: getattr(flags, name) for name in WORKER_PORTS},
        flags.slots,
        flags.head,
    )
    lines = [f"a worker of {flags.head}: {host}; logs: {machine.folder}/*.log"]
    retries = int(_RETRIES.read_text()) if _RETRIES.exists() else 0
    if host not in LOCAL and retries > MAX_RETRIES:
        lines += [
            f"net.ipv4.tcp_retries2 is {retries} here: where this machine has sent to one that is "
            "lost, a run may wait 15 minutes for it; 100 s after, as root:",
            f"  sysctl -w net.ipv4.tcp_retries2={MAX_RETRIES}",
        ]
    run(machine, settings, *lines)


def run(machine: Machine, settings: Mapping[str, str], *lines: str) -> None:
    """Runs a machine until a signal ends it."""
    with machine.locked():
        machine.configure(settings)
        print(*lines, "Control-C ends it", sep="\n", flush=True)
        try:
            machine.run()
        except KeyboardInterrupt:
            print("ended", flush=True)


def wait(flags: argparse.Namespace) -> tuple[dict[str, str], list[Any]]:
    """The head's configuration and its TaskManagers, once they have the slots.

    Raises:
      UsageError: they have not.
    """
    until = time.monotonic() + flags.wait_s
    while True:
        try:
            settings = configuration(flags.head)
            machines = ask(flags.head, "taskmanagers")["taskmanagers"]
            slots = sum(machine["slotsNumber"] for machine in machines)
            why = f"{flags.wait_slots} slots are wanted, {slots} are there"
            if slots >= flags.wait_slots:
                return settings, machines
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"no Flink answers at {flags.head}: {error}"
        if not flags.wait_slots or time.monotonic() > until:
            raise UsageError(why)
        time.sleep(1)


def status(flags: argparse.Namespace) -> None:
    """Prints machines, slots and jobs."""
    _, machines = wait(flags)
    for one in machines:
        print(f"{one['id']}: {one['slotsNumber']} slots, {one['freeSlots']} free")
    print(f"{sum(one['slotsNumber'] for one in machines)} slots on {len(machines)} machines")
    for job in ask(flags.head, "jobs/overview")["jobs"]:
        print(f"{job['name']}: {job['state']}, {job['duration'] // 1000} s")


def print_flags(flags: argparse.Namespace) -> None:
    """Prints the flags with which a command runs on the cluster."""
    settings, machines = wait(flags)
    if "alignset.jobs" not in settings:
        raise UsageError(f"{flags.head} was not started by alignset cluster head")
    slots = [one["slotsNumber"] for one in machines]
    if not slots:
        raise UsageError(f"{flags.head} has no worker: alignset cluster worker --head={flags.head}")
    host = settings["jobmanager.rpc.address"]
    print(
        "--runner=FlinkRunner",
        f"--job_endpoint={host}:{settings['alignset.jobs']}",
        f"--flink_master={host}:{settings['rest.port']}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{flags.pool}",
        f"--sdk_worker_parallelism={_PROCESSES_A_SLOT * max(slots)}",
        "--environment_cache_millis=30000",
        f"--parallelism={sum(slots)}",
        sep="\n",
    )


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
