"""Machines on one host, made of namespaces: each has its own network, processes, mounts, host name
and /tmp. They share the kernel with its clock, the processors, the project with its environment,
and one folder, as if by NFS.

All of it ends with the process that boots them, however that ends: a namespace has no name here and
lives as long as its first process, which the kernel kills with its parent.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.root import ROOT

HOST = "10.77.0.1"  # where this process is seen from the machines
ADDRESSES = {
    **{"login": "10.77.0.10", "head": "10.77.0.11"},
    **{f"w{number}": f"10.77.0.2{number}" for number in range(1, 5)},
}
_LINK = "alignset"  # of this process to the switch
_NAMESPACES = ("-n", "-m", "-p", "-u", "-i")
# The machine's first process collects what is orphaned there, as any init does.
_BOOT = """set -e
mount --make-rprivate /
mount --bind "$1/hosts" /etc/hosts
mount --bind "$1" /mnt
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$1"
mount --bind /mnt "$1"
hostname "$2"
ip link set lo up
echo up
while :; do sleep 1000; done
"""
# A script on a machine: -1 means all of its processes but the script and the first.
FREEZE = "kill -STOP -1; sleep 30; kill -CONT -1"
SLOW_DOWN = "for _ in $(seq 120); do kill -STOP -1; sleep 0.4; kill -CONT -1; sleep 0.1; done"


def why_not() -> str:
    """Why there can be no machines here; empty where they can be."""
    if os.geteuid():
        return "needs root, for network namespaces"
    if missing := [n for n in ("ip", "nsenter", "setpriv", "unshare") if not shutil.which(n)]:
        return f"needs {', '.join(missing)} (Debian: iproute2 util-linux)"
    if ROOT.is_relative_to("/tmp"):
        return "the project is below /tmp, of which each machine has its own"
    return ""


def until(true: Callable[[], object], what: str, limit_s: float = 400) -> None:
    """Waits for it; a wait without end would say nothing of what is missing."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"after {limit_s} s: no {what}"
        time.sleep(0.1)


class Machines:
    """A switch and the machines on it.

    Args:
      folder: that they share, at the same path on each; it gets their logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = [f"{address} {name}\n" for name, address in ADDRESSES.items()]
        (folder / "hosts").write_text("".join(["127.0.0.1 localhost\n", *names]))
        self._namespaces: dict[str, subprocess.Popen[bytes]] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._switch = self._first_process("switch", "-n", "bash", "-c", "echo up; sleep infinity")
        try:
            self._in_switch("add", "switch", "type", "bridge")
            self._in_switch("set", "switch", "up")
            self._connect(_LINK)
            _call("ip", "addr", "add", f"{HOST}/24", "dev", _LINK)
            _call("ip", "link", "set", _LINK, "up")
        except BaseException:
            self.close()
            raise

    def _first_process(self, name: str, *words: str) -> str:
        """Starts namespaces; returns the number of the process that holds them."""
        command = ["setpriv", "--pdeathsig=KILL", "unshare", "--fork", "--kill-child", *words]
        started = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._namespaces[name] = started
        assert started.stdout is not None
        assert started.stdout.readline() == b"up\n", f"{name} does not start"
        return _child(started)

    def _in_switch(self, *words: str) -> None:
        _call("nsenter", "-t", self._switch, "-n", "ip", "link", *words)

    def _connect(self, *end: str) -> None:
        """Connects the switch with a new link."""
        name = f"to-{end[0]}"
        _call("ip", "link", "add", name, "netns", self._switch, "type", "veth", "peer", *end)
        self._in_switch("set", name, "master", "switch", "up")

    def boot(self, name: str) -> None:
        """Starts a machine, or starts it again after it was lost."""
        words = (*_NAMESPACES, "--mount-proc", "bash", "-c", _BOOT, "boot", str(self.folder), name)
        first = self._first_process(name, *words)
        self._connect(name, "netns", first)
        self.script(name, f"ip addr add {ADDRESSES[name]}/24 dev {name} && ip link set {name} up")

    def is_up(self, name: str) -> bool:
        return name in self._namespaces

    def run(
        self, name: str, *words: str, log: Path | None = None, **variables: str
    ) -> subprocess.Popen[bytes]:
        """Starts a command on a machine, in the project's folder; it ends with the machine."""
        path = f"{Path(sys.executable).parent}:/usr/sbin:/sbin:{os.environ['PATH']}"
        variables = {"PATH": path, "PYTHONPATH": str(ROOT), **variables}
        place = ("nsenter", "-t", _child(self._namespaces[name]), *_NAMESPACES, "env", f"-C{ROOT}")
        command = (*place, *(f"{key}={value}" for key, value in variables.items()), *words)
        with (log or self.folder / f"{name}.log").open("ab") as sink:
            started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        self._started.append(started)
        return started

    def script(self, name: str, script: str, **variables: str) -> None:
        """Runs a script of bash on a machine to its end."""
        assert not self.run(name, "bash", "-c", script, **variables).wait(), script

    def link(self, name: str, state: str) -> None:
        """Plugs a machine's cable in ("up") or out ("down")."""
        self._in_switch("set", f"to-{name}", state)

    def lose(self, name: str) -> None:
        """Cuts a machine off and ends it, so that nothing tells its peers."""
        self.link(name, "down")
        namespaces = self._namespaces.pop(name)
        namespaces.kill()
        namespaces.wait()
        self._in_switch("del", f"to-{name}")

    def close(self) -> None:
        """Ends all machines and the switch; the kernel removes their links and mounts."""
        for process in (*self._namespaces.values(), *self._started):
            process.kill()
            process.wait()
        subprocess.run(["ip", "link", "del", _LINK], stderr=subprocess.DEVNULL, check=False)


def signal_command(command: subprocess.Popen[bytes], signum: int) -> None:
    """Signals what `run` has started: nsenter itself passes nothing on."""
    os.kill(int(_child(command)), signum)


def _child(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]


def _call(*words: str) -> None:
    subprocess.run(words, check=True)
