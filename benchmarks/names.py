"""Hosts' names a second: c-ares in our fetcher's loop, against a name server that takes its time.

  python benchmarks/names.py [--names=10000] [--at_once=1000] [--dns_latency_ms=50]

90% of the names have an address, 5% are never answered. Of 2.5% the server says that it cannot
tell, and of 2.5% it says so at first and tells when it is asked again. The server is that of
`web_server/`, on loopback; needs Go. Each name's outcome is compared with its truth. The server's
CPU is in no figure, but on the same cores.
"""

import argparse
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results import print_results
from web_network import build_server

from alignset.transforms.fetching import name_questions
from alignset.transforms.fetching.host_names import HostNames
from alignset.transforms.fetching.host_queue import Job

KINDS = {
    "h": (0.90, None),
    "quiet": (0.05, "timeout"),
    "servfail": (0.025, "dns"),
    "busy": (0.025, None),
}


@contextmanager
def name_server(cache: Path, latency_ms: int) -> Iterator[str]:
    """The server while the context lasts; its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as nothing:
        flags = [f"-files={nothing}", "-http=0", "-https=0", f"-dns={address}"]
        command = [str(build_server(cache)), *flags, f"-dns_latency={latency_ms}ms"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield address
        finally:
            process.kill()
            process.wait()


class Loop:
    """The sockets of the names, and how many threads there were at most."""

    def __init__(self, timeout_s: float) -> None:
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self.names = HostNames(timeout_s, self._watch)
        self.threads = 0

    def _watch(self, fd: int, events: int) -> None:
        if events and fd in self._watched:
            self._epoll.modify(fd, events)
        elif events:
            self._epoll.register(fd, events)
            self._watched.add(fd)
        elif fd in self._watched:
            self._epoll.unregister(fd)
            self._watched.discard(fd)

    def turn(self) -> list[tuple[Job, float, str | None]]:
        for fd, events in self._epoll.poll(min(1.0, self.names.due_s())):
            self.names.process(fd, events)
        self.threads = max(self.threads, threading.active_count())
        return list(self.names.ended())


def look_up(loop: Loop, names: list[str], at_once: int) -> Counter[tuple[str, str | None]]:
    """(Kind, detail) of each."""
    waiting, ends = list(reversed(names)), Counter[tuple[str, str | None]]()
    while ends.total() < len(names):
        while waiting and len(loop.names) < at_once:
            loop.names.add(Job(0, "", f"http://{waiting.pop()}/", left_s=30.0))
        for job, _, detail in loop.turn():
            ends[job.host.split("-")[0], detail] += 1
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--at_once", type=int, default=1000)
    parser.add_argument("--dns_latency_ms", type=int, default=50)
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="for the server")
    flags = parser.parse_args()
    of_kind = [kind for kind, (share, _) in KINDS.items() for _ in range(round(40 * share))]
    names = [f"{of_kind[n % len(of_kind)]}-{n}.web.test" for n in range(flags.names)]
    with name_server(flags.cache, flags.dns_latency_ms) as address:
        name_questions.SERVERS[:] = [address]
        loop = Loop(timeout_s=5.0)
        began, cpu_began = time.monotonic(), time.process_time()
        ends = look_up(loop, names, flags.at_once)
        wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
        loop.names.close()
    row = {
        "names/s": flags.names / wall_s,
        "CPU us a name": 1e6 * cpu_s / flags.names,
        "threads": loop.threads,
        "wrong": sum(count for (kind, detail), count in ends.items() if detail != KINDS[kind][1]),
        "names": flags.names,
        "at once": flags.at_once,
    }
    print_results([row], {"benchmark": "names", **row}, ("pycares",))


if __name__ == "__main__":
    main()
