"""Serves the demo's web on loopback: `python -m alignset.demo.serve DIR --port=8765`.

A threaded HTTP/1.1 server with keep-alive. The first part of a path may ask for what the real web
does: /status/CODE/..., or /flaky/, /slow/, /trickle/, /cut/, /moved/, /loop/ or /chunked/ before
the path of a file.
"""

import argparse
import contextlib
import mimetypes
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

HOST = "127.0.0.1"
SLOW_S = 12.0  # well over the demo's time-out of 3 s
_PAGE = b"<html><body>This page says what went wrong, as pages do.</body></html>"
mimetypes.add_type("image/webp", ".webp")
mimetypes.add_type("image/avif", ".avif")


class _Connection(socketserver.StreamRequestHandler):
    """Answers GET and HEAD until the client goes. Parsing all headers would double the cost."""

    server: "WebServer"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            while self._answer_next():
                pass

    def _answer_next(self) -> bool:
        request = self.rfile.readline(65536).split()
        closing = False
        while (line := self.rfile.readline(65536)) not in (b"\r\n", b"\n", b""):
            closing |= line.lower().startswith(b"connection:") and b"close" in line.lower()
        if len(request) != 3:
            return False
        method, target = request[0].decode("latin-1"), request[1].decode("latin-1")
        if method not in ("GET", "HEAD"):
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, _PAGE)
            return False
        self.headers_only = method == "HEAD"
        path = unquote(target.split("?")[0])
        first, _, rest = path[1:].partition("/")
        special = _SPECIAL.get(first)
        stays_open = special(self, rest) if special else self._send_file(path)
        return stays_open and not closing

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "text/html",
        *,
        length: int | None = None,
        more: str = "",
    ) -> bool:
        size = len(body) if length is None else length
        head = (
            f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n"
        ).encode("latin-1")
        self.connection.sendall(head if self.headers_only else head + body)
        return True

    def _send_file(self, path: str) -> bool:
        file = self.server.files.get(path.lstrip("/"))
        if file is None:
            return self._send(HTTPStatus.NOT_FOUND, _PAGE)
        return self._send(HTTPStatus.OK, file.read_bytes(), self._kind(path))

    def _file(self, rest: str) -> bytes:
        file = self.server.files.get(rest)
        return file.read_bytes() if file else _PAGE

    @staticmethod
    def _kind(path: str) -> str:
        return mimetypes.guess_type(path)[0] or "application/octet-stream"

    def _flaky(self, rest: str) -> bool:
        if self.server.is_first_visit(rest):
            return self._send(HTTPStatus.SERVICE_UNAVAILABLE, _PAGE)
        return self._send_file(rest)

    def _slow(self, rest: str) -> bool:
        self.server.closing.wait(SLOW_S)
        return self._send_file(rest)

    def _trickle(self, rest: str) -> bool:
        """Headers at once, then a drop each half second: no time-out between two bytes ends it."""
        body = self._file(rest)
        self._send(HTTPStatus.OK, b"", self._kind(rest), length=len(body))
        steps = int(SLOW_S / 0.5)
        for i in range(steps):
            self.connection.sendall(body[i * 16 : i * 16 + 16])
            if self.server.closing.wait(0.5):
                break
        self.connection.sendall(body[steps * 16 :])
        return True

    def _cut(self, rest: str) -> bool:
        body = self._file(rest)
        self._send(HTTPStatus.OK, body[: len(body) // 2], self._kind(rest), length=len(body))
        return False

    def _redirect(self, place: str) -> bool:
        return self._send(HTTPStatus.FOUND, _PAGE, more=f"Location: {place}\r\n")

    def _chunked(self, rest: str) -> bool:
        body = self._file(rest)
        half = len(body) // 2
        head = (
            "HTTP/1.1 200 OK\r\n"
            f"Content-Type: {self._kind(rest)}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:])]
        self.connection.sendall(head.encode() + b"".join(chunks) + b"0\r\n\r\n")
        return True


_SPECIAL: dict[str, Callable[[_Connection, str], bool]] = {
    "status": lambda to, rest: to._send(int(rest.partition("/")[0]), _PAGE),
    "flaky": _Connection._flaky,
    "slow": _Connection._slow,
    "trickle": _Connection._trickle,
    "cut": _Connection._cut,
    "moved": lambda to, rest: to._redirect(f"/{rest}"),
    "loop": lambda to, rest: to._redirect(f"/loop/{rest}"),
    "chunked": _Connection._chunked,
}


class WebServer(socketserver.ThreadingTCPServer):
    """The files below `DIR/site` on `port` of loopback; 0 finds a free one."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024  # a fetcher opens hundreds of connections at once

    def __init__(self, directory: Path, port: int) -> None:
        site = directory / "site"
        if not site.is_dir():
            raise FileNotFoundError(
                f"no web in {directory}: run `python -m alignset.demo.web build {directory}`"
            )
        # Only what was there at the start is served, so no path can lead outside.
        self.files = {p.relative_to(site).as_posix(): p for p in site.rglob("*") if p.is_file()}
        self.closing = threading.Event()
        self._visited: set[str] = set()
        self._lock = threading.Lock()
        super().__init__((HOST, port), _Connection)

    def is_first_visit(self, path: str) -> bool:
        with self._lock:
            first = path not in self._visited
            self._visited.add(path)
        return first

    def handle_error(self, request: socket.socket, client_address: object) -> None:
        """Clients that hang up are part of the show; anything else is a bug and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(directory: Path, port: int) -> Iterator[int]:
    """Serves in a thread while the context lasts; gives the port."""
    try:
        server = WebServer(directory, port)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise OSError(
            f"cannot serve on port {port} ({error.strerror}): choose another --port"
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
    )
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m alignset.demo.serve", description=__doc__.splitlines()[0]
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=8765)
    arguments = parser.parse_args()
    try:
        with serving(arguments.directory, arguments.port) as port:
            print(
                f"serving {arguments.directory / 'site'} on http://{HOST}:{port}/, Ctrl-C ends",
                flush=True,
            )
            threading.Event().wait()
    except OSError as error:
        sys.exit(f"demo.serve: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
