"""A web server of one folder on loopback that knows ranges, or not, and hangs up at will."""

import contextlib
import re
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.serving import serving


class ShardServer(ThreadingHTTPServer):
    """Attributes:
    ranges: whether it knows them.
    cuts: after how many bytes of its body each answer in turn ends; then they are whole.
    status: what it answers instead, where that is not 200.
    asked: path and Range of each request.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder, self.ranges, self.status = folder, True, 200
        self.cuts: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: ShardServer

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append((self.path, asked))
        if server.status != 200 or not (server.folder / self.path[1:]).exists():
            return self.send_error(404 if server.status == 200 else server.status)
        body = (server.folder / self.path[1:]).read_bytes()
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if server.ranges and asked else 0
        self.send_response(206 if server.ranges and asked else 200)
        if server.ranges and asked:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", f'"{len(body)}"')
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        body = body[start:]
        with contextlib.suppress(OSError):
            self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_) -> None:
        pass


def shard_server(folder: Path) -> AbstractContextManager[ShardServer]:
    return serving(ShardServer(folder))
