"""A real HTTP server on loopback over files in memory, with a log of what was asked for."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.serving import serving

POLICIES = ("/robots.txt", "/.well-known/tdmrep.json")
# Flags of a run whose answers are held back: its images must not time out meanwhile.
PATIENT = ("--timeout_s=600", "--idle_timeout_s=600")


class SmallWeb(ThreadingHTTPServer):
    """Serves `files` by path; anything else is a 404.

    Attributes:
      files: path to body. Each is said to be a JPEG, as much of the web says of anything.
      headers: path to further headers. moved: path to where it leads instead.
      requests: the paths asked for, in order, but for
      policies_asked: requests of files in which a host states opt-outs, which every run reads.
      delay_s: how long every answer waits.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512  # the usual 5 loses connections when 64 come at once

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, _Handler)
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.moved: dict[str, str] = {}
        self.requests: list[str] = []
        self.policies_asked: list[str] = []
        self.delay_s = 0.0
        self._held: Callable[[str], bool] = lambda _: False
        self._let_go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"

    @contextmanager
    def holding(self, held: Callable[[str], bool]) -> Iterator[None]:
        """While the block runs, no image comes of whose path `held` is true: no run that needs it
        can end before it is stopped, however slow the machine is."""
        self._held, self._let_go = held, threading.Event()
        try:
            yield
        finally:
            self._held = lambda _: False
            self._let_go.set()

    def holding_after(self, count: int) -> AbstractContextManager[None]:
        """The same for all images but the next `count` that are asked for."""
        last = len(self.requests) + count
        return self.holding(lambda _: len(self.requests) > last)

    def wait(self, path: str) -> None:
        """Until an image may come."""
        let_go = self._let_go
        if self._held(path):
            let_go.wait()
        time.sleep(self.delay_s)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a killed client hangs up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet; apart, the second waits 40 ms for an ACK
    server: SmallWeb

    def do_GET(self) -> None:
        of_policy = self.path in POLICIES or self.path.startswith("/license")
        (self.server.policies_asked if of_policy else self.server.requests).append(self.path)
        if not of_policy:
            self.server.wait(self.path)
        body = self.server.files.get(self.path)
        if target := self.server.moved.get(self.path):
            self.send_response(302)
            self.send_header("Location", target)
        else:
            self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body or b"")))
        for name, value in self.server.headers.get(self.path, {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


def small_web() -> AbstractContextManager[SmallWeb]:
    """A `SmallWeb` that serves while the block runs."""
    return serving(SmallWeb())
