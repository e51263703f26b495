"""Headers of every response of the search page, and requests that are refused."""

import asyncio

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0  # for the line and headers of a request to arrive

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Puts HEADERS on every answer of an app, and refuses requests for another host's name: by a
    name that leads to 127.0.0.1, any web page could read what is served here.

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

        app = self._app
        headers = Headers(scope=scope)
        if scope["type"] == "http" and not self._is_named(headers.get("host", "")):
            reason = "this server is for its own machine: ask for http://127.0.0.1"
            app = JSONResponse({"error": reason}, 421)
        elif "content-length" in headers and "transfer-encoding" in headers:
            # A proxy before this server may take the other one for the body's end.
            reason = "a request has a Content-Length or a Transfer-Encoding, and not both"
            app = JSONResponse({"error": reason}, 400, {"Connection": "close"})
        await app(scope, receive, send_with_headers)

    def _is_named(self, host: str) -> bool:
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return self._names is None or name.lower() in self._names


class HeadDeadline(H11Protocol):
    """HTTP/1.1 with a deadline for a request's head. uvicorn has one between requests alone, and
    holds a connection whose head never ends."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_S, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # the head is there
            self._end_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        super().connection_lost(exc)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
