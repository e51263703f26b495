"""`alignset search serve INDEX`: the page and its paths on a port of this machine."""

import argparse
import ipaddress
import socket
import sys

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignset.train.counts import counted
from alignset.train.errors import SettingsError
from alignset.train.model.embedder import Embedder
from alignset.train.search.app import SearchApp
from alignset.train.search.commands import open_model
from alignset.train.search.opened_index import OpenedIndex

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MAX_CONNECTIONS = 512


class Guard:
    """Refuses what an app should not see, and puts HEADERS on every answer.

    Of a server that listens on loopback, requests for another host's name are refused: by a name
    that leads to 127.0.0.1, any web page could read what is served here.

    Args:
      names: to which the server answers; None: all.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None):
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy before this server may take the other one for the body's end.
            reason = "a request has a Content-Length or a Transfer-Encoding, and not both"
            return JSONResponse({"error": reason}, 400, {"Connection": "close"})
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._names is not None and name not in self._names:
            reason = "this server is for its own machine: ask for http://127.0.0.1"
            return JSONResponse({"error": reason}, 421)
        return None


class Server:
    """A server of one index, which listens from the start and answers when `run` is called.

    Attributes:
      url: of the page.
    """

    def __init__(self, index: OpenedIndex, model: Embedder, address: tuple[str, int]):
        """Raises SettingsError where nothing can listen at the address."""
        host, port = address
        shown = f"[{host}]" if ":" in host else host
        self._socket = _listening_socket(host, port)
        names = _LOCAL_NAMES | {shown.lower()} if is_loopback(host) else None
        self._server = uvicorn.Server(
            uvicorn.Config(
                Guard(SearchApp(index, model).asgi, names),
                # Its own closes all handlers of the process, and some close what they write to.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                proxy_headers=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=64 << 10,
            )
        )
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"

    def run(self) -> None:
        """Until a signal or `stop` ends it."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        self._server.should_exit = True


def _listening_socket(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        raise SettingsError(
            f"nothing can listen at {host}:{port} ({error.strerror}): choose another --port, or "
            "0 for a free one"
        ) from error
    return listening


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_serve(flags: argparse.Namespace) -> int:
    """Serves until a signal comes."""
    if not 0 <= flags.port < 1 << 16:
        raise SettingsError(f"port must be from 0 to 65535; got {flags.port}")
    index = OpenedIndex(flags.index)
    server = Server(index, open_model(flags.model, index), (flags.host, flags.port))
    print(f"{counted(index.pictures, 'picture')} at {server.url}", flush=True)
    if not is_loopback(flags.host):
        print(
            "everybody who reaches this address may search: put a proxy before it (docs/search.md)",
            file=sys.stderr,
        )
    server.run()
    return 0
