"""A network namespace with a web in it: thousands of addresses, names, HTTP and TLS.

The servers are `web_server/`, a small program in Go, so that their CPU stays little beside what is
measured: 20 to 40 us for an answer, 0.3 ms for a TLS handshake.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import certifi

INSIDE = "ALIGNSET_WEB_NETWORK"
NETWORK = "93.184.0.0/16"
_SOURCES = Path(__file__).parent / "web_server"
# A host's own share of a kernel's queues, which are the namespace's: as a server of the web has it.
_SCRIPT = f"""\
ip link set lo up
ip route add local {NETWORK} dev lo
sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.core.somaxconn=65535 \
  net.ipv4.tcp_max_syn_backlog=65535
printf 'nameserver 127.0.0.1\\noptions timeout:2 attempts:2\\n' > $RESOLV
mount --bind $RESOLV /etc/resolv.conf
exec "$@"
"""


def enter_network() -> None:
    """Starts this program anew in a namespace whose loopback has all addresses of NETWORK and whose
    resolver is on it, and ends with it; within, returns.

    Raises:
      SystemExit: always where it is not within.
    """
    if os.environ.get(INSIDE):
        return
    with tempfile.NamedTemporaryFile() as resolver:
        environment = os.environ | {INSIDE: "1", "RESOLV": resolver.name}
        again = ["bash", "-ec", _SCRIPT, "bash", sys.executable, *sys.argv]
        namespace = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
        sys.exit(subprocess.run([*namespace, *again], env=environment, check=False).returncode)


def build_server(cache: Path) -> Path:
    """Compiles the servers; gives their path.

    Raises:
      SystemExit: there is no Go.
    """
    if not shutil.which("go"):
        raise SystemExit("go is not on the PATH: install it (Debian: apt install golang)")
    cache.mkdir(parents=True, exist_ok=True)
    built = cache / "web_server"
    subprocess.run(["go", "build", "-o", str(built), "."], cwd=_SOURCES, check=True)
    return built


class WebServer:
    """The servers under way.

    Attributes:
      trusted: a file of certificates, with this machine's bundle and the web's authority.
      seen: what the servers saw, after they have ended.
    """

    def __init__(self, process: subprocess.Popen[str], trusted: Path) -> None:
        self._process, self.trusted = process, trusted
        self.seen: dict[str, Any] = {}

    def name_server(self, *, up: bool) -> None:
        """Takes the name server away, or brings it back."""
        assert self._process.stdin is not None
        self._process.stdin.write("up\n" if up else "down\n")
        self._process.stdin.flush()

    def end(self) -> None:
        said, _ = self._process.communicate(timeout=60)
        self.seen = json.loads(said)


class Line(NamedTuple):
    """The network between a client and the web.

    Fields:
      dns_latency_ms: of an answer of the name server. ttl_s: of its answers.
      bandwidth: bytes a second of all answers together; 0: any.
      policy_latency_ms: of a robots.txt. distinct: whether each URL's JPEG has bytes of its own.
    """

    dns_latency_ms: int = 50
    ttl_s: int = 300
    bandwidth: float = 0.0
    policy_latency_ms: int = 0
    distinct: bool = False


@contextmanager
def serve_web(server: Path, files: Path, folder: Path, line: Line) -> Iterator[WebServer]:
    """The web while the context lasts; within a namespace of `enter_network`.

    Args:
      server: as built. files: the folder of the images. folder: for the authority's certificate.
    """
    authority, trusted = folder / "authority.pem", folder / "trusted.pem"
    flags = [f"-files={files}", f"-authority={authority}", f"-network={NETWORK}"]
    flags += [f"-dns_latency={line.dns_latency_ms}ms", f"-ttl={line.ttl_s}"]
    flags += [f"-bandwidth={line.bandwidth}", f"-policy_latency={line.policy_latency_ms}ms"]
    flags.append(f"-distinct={str(line.distinct).lower()}")
    command: Sequence[str] = [str(server), *flags]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{server} does not serve")
        while not authority.exists():
            time.sleep(0.01)
        trusted.write_text(Path(certifi.where()).read_text() + authority.read_text())
        web = WebServer(process, trusted)
        yield web
        web.end()
    finally:
        process.kill()
        process.wait()
