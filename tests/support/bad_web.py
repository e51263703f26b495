"""A real HTTP server on loopback that answers as the worst of the web does. The path says how."""

import contextlib
import gzip
import socket
import socketserver
import struct
import threading
import time
from contextlib import AbstractContextManager
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.serving import serving

BODY = bytes(range(256)) * 64
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# What is all that comes of a path.
WRITTEN = {
    "cutchunks": _CHUNKED + b"5\r\nabcde\r\n",
    "badchunks": _CHUNKED + b"zz\r\nabcde\r\n",
    "garbage": b"220 mail.example ESMTP\r\n" * 50,
    "nothing": b"",
}


class BadWeb(socketserver.ThreadingTCPServer):
    """Counts the requests of each path and keeps the raw head of each."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Connection)
        self.heads: list[str] = []
        self.times: list[float] = []  # of the heads
        self.lock = threading.Lock()
        self.most_at_once = self.at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def requests_of(self, path: str) -> int:
        return sum(head.split(" ", 2)[1] == path for head in self.heads)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients hang up on bad answers: that is what the server is for


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: BadWeb
    _is_asked = False

    def handle(self) -> None:
        while head := self._read_head():
            with self.server.lock:
                self.server.heads.append(head)
                self.server.times.append(time.monotonic())
                self.server.at_once += 1
                self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
            self._is_asked = True
            try:
                if not self._answer(head):
                    return
            finally:
                self._is_answered()

    def _is_answered(self) -> None:
        """Is called before an answer is written: whoever has it may ask again at once."""
        with self.server.lock:
            self.server.at_once -= self._is_asked
            self._is_asked = False

    def _read_head(self) -> str:
        if self.rfile.peek(1)[:1] == b"\x16":  # TLS, which this server does not speak
            self.send("400 Bad Request")
            return ""
        lines = []
        while (line := self.rfile.readline(100_000)) not in (b"\r\n", b"\n", b""):
            lines.append(line.decode("latin-1"))
        return "".join(lines)

    def _answer(self, head: str) -> bool:
        """Answers one request; true where the connection can serve another."""
        self.path = head.split(" ", 2)[1]
        parts = urlsplit(self.path)
        name, _, argument = parts.path.strip("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        return self._answer_as(name, unquote(argument), query)

    def _answer_as(self, name: str, argument: str, query: dict[str, str]) -> bool:
        if name in WRITTEN:
            self.wfile.write(WRITTEN[name])
            return False
        return bool(getattr(self, f"_{name}", self._missing)(argument, query))

    def send(
        self, status: str, body: bytes = b"", *headers: str, length: int | None = None
    ) -> bool:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
        self._is_answered()
        self.wfile.write("\r\n".join([*lines, *headers, "\r\n"]).encode("latin-1") + body)
        return length in (None, len(body))

    def _missing(self, argument: str, query: dict[str, str]) -> bool:
        return self.send("404 Not Found")

    def _ok(self, argument: str, query: dict[str, str]) -> bool:
        return self.send("200 OK", BODY, "Set-Cookie: a=b; Path=/")

    def _status(self, argument: str, query: dict[str, str]) -> bool:
        """So a status, with the query as further fields of the header."""
        fields = [f"{name}: {value}" for name, value in query.items()]
        return self.send(f"{argument} Whatever", b"a page of words", *fields)

    def _tagged(self, argument: str, query: dict[str, str]) -> bool:
        """A good answer with the argument as its X-Robots-Tag."""
        return self.send("200 OK", BODY, f"X-Robots-Tag: {argument}")

    def _says(self, argument: str, query: dict[str, str]) -> bool:
        """A good answer with the query as further fields of its header; a redirect with `to`."""
        fields = [f"{name}: {value}" for name, value in query.items() if name != "to"]
        if "to" in query:
            return self.send("302 Found", b"moved", f"Location: {query['to']}", *fields)
        return self.send("200 OK", BODY, *fields)

    def _hinted(self, argument: str, query: dict[str, str]) -> bool:
        """Hints before a good answer, with an ETag of their own."""
        self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nETag: early\r\n\r\n")
        return self.send("200 OK", BODY, "ETag: late")

    def _after(self, argument: str, query: dict[str, str]) -> bool:
        """Asks for some seconds, then works."""
        if self.server.requests_of(self.path) > 1:
            return self.send("200 OK", BODY)
        return self.send("503 Later", b"", f"Retry-After: {argument}")

    def _later(self, argument: str, query: dict[str, str]) -> bool:
        """Works at the third request of this very path; before, as the query says."""
        if self.server.requests_of(self.path) > 2:
            return self.send("200 OK", BODY)
        return self._answer_as(query["first"], query.get("with", ""), query)

    def _reset(self, argument: str, query: dict[str, str]) -> bool:
        """A TCP reset after as many bytes of a good answer as the argument says."""
        self.wfile.write(
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + BODY)[: int(argument)]
        )
        time.sleep(0.05)  # the bytes first
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        return False

    def _cut(self, argument: str, query: dict[str, str]) -> bool:
        return self.send("200 OK", BODY, length=len(BODY) + 1)

    def _hang(self, argument: str, query: dict[str, str]) -> bool:
        time.sleep(float(argument))
        return self.send("200 OK", BODY)

    def _drip(self, argument: str, query: dict[str, str]) -> bool:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            self.wfile.write(b".")
            time.sleep(0.05)
        return False

    def _endless(self, argument: str, query: dict[str, str]) -> bool:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                self.wfile.write(BODY)
        return False

    def _announce(self, argument: str, query: dict[str, str]) -> bool:
        """Announces a length and sends nothing of it."""
        self.send("200 OK", length=int(argument))
        time.sleep(2)
        return False

    def _gzip(self, argument: str, query: dict[str, str]) -> bool:
        body = gzip.compress(b"\0" * int(argument))
        return self.send("200 OK", body, "Content-Encoding: gzip")

    def _badgzip(self, argument: str, query: dict[str, str]) -> bool:
        return self.send("200 OK", b"no gzip at all", "Content-Encoding: gzip")

    def _to(self, argument: str, query: dict[str, str]) -> bool:
        """Redirects to the argument as it stands, once unquoted."""
        return self.send(f"{query.get('status', '302')} Found", b"moved", f"Location: {argument}")

    def _loop(self, argument: str, query: dict[str, str]) -> bool:
        left = int(argument)
        target = f"/loop/{left - 1}" if left else "/ok"
        return self.send("301 Moved", b"", f"Location: {target}")


def bad_web(*, everywhere: bool = False) -> AbstractContextManager[BadWeb]:
    """A `BadWeb` that serves while the block runs, perhaps on all addresses of loopback."""
    return serving(BadWeb("0.0.0.0" if everywhere else "127.0.0.1"))
