"""A real nginx on loopback, over a folder of files or before another server, with its log."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
_CONFIG = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  log_format paths '$request_method $request_uri $status $server_addr';
  access_log {folder}/access.log paths;
  types {{ image/jpeg jpg; }}
  {temporary}
  server {{ {listen} {content} }}
}}
"""
# As docs/search.md tells to set it up.
_BEFORE = """client_max_body_size 16m;
  location / {{ proxy_pass {url}; }}
  location /pics/ {{ proxy_pass {url}; }}
  location /cut/ {{ proxy_pass {url}/; }}"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Nginx:
    """A server that runs.

    Attributes:
      folder: of its log. files: what it serves.
    """

    url: str
    folder: Path
    files: Path

    def requests(self) -> Counter[str]:
        """How often each path was asked for, as the access log has it."""
        requests = Counter[str]()
        for (_, path), count in self.requests_by_host().items():
            requests[path] += count
        return requests

    def requests_by_host(self) -> Counter[tuple[str, str]]:
        """The same by (address of the host, path)."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return Counter((line.split()[3], line.split()[1]) for line in lines)


@contextlib.contextmanager
def nginx(folder: Path, before: str = "", hosts: int = 1) -> Iterator[Nginx]:
    """A server over `folder/files`, while the block runs.

    Args:
      hosts: how many addresses it serves, from 127.0.0.1 on, all with the same files.
      before: the URL of a server that it is a proxy of instead.
    """
    files = folder / "files"
    files.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    content = _BEFORE.format(url=before) if before else f"root {files};"
    listen = " ".join(f"listen 127.0.0.{n}:{port};" for n in range(1, hosts + 1))
    config = _CONFIG.format(
        folder=folder, port=port, content=content, temporary=temporary, listen=listen
    )
    (folder / "nginx.conf").write_text(config)
    command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", "stderr"]
    with subprocess.Popen(command) as server:
        try:
            _until_it_answers(server, port)
            yield Nginx(f"http://127.0.0.1:{port}", folder, files)
        finally:
            server.terminate()


def _until_it_answers(server: subprocess.Popen, port: int) -> None:
    while True:
        assert server.poll() is None, "nginx has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
