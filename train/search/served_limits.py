"""What holds for every request of the page: its headers, its host, and how many come from where."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MOST_ADDRESSES = 10_000  # that are remembered
_BURST_S = 10.0  # a minute's requests may come within a sixth of it


@dataclass
class RateLimit:
    """So many requests a minute from one address, and a burst of a sixth of them at once.

    An IPv6 address is told by its first 64 bits, since one customer has all below them.
    """

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait_s(self, address: str) -> float:
        """0 where a request may be answered, which it then counts; else seconds to wait."""
        most = max(1.0, self.per_minute * _BURST_S / 60)
        rate = self.per_minute / 60
        now, name = self.clock(), _network(address)
        left, then = self._left.pop(name, (most, now))
        left = min(most, left + (now - then) * rate)
        allowed = left >= 1
        self._left[name] = (left - allowed, now)
        while len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / rate


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.IPv6Network((ip, 64), strict=False)) if ip.version == 6 else address


class Guard:
    """Refuses what an app should not see, and puts HEADERS on every answer.

    Of a server that listens on loopback, requests for another host's name are refused: by a name
    that leads to 127.0.0.1, any web page could read what is served here.

    Args:
      names: to which the server answers; None: all.
    """

    def __init__(self, app: ASGIApp, *, limit: RateLimit, names: frozenset[str] | None):
        self._app, self._limit, self._names = app, limit, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy before this server may take the other one for the body's end.
            said = "a request has a Content-Length or a Transfer-Encoding, and not both"
            return JSONResponse({"error": said}, 400, {"Connection": "close"})
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._names is not None and name not in self._names:
            said = "this server is for its own machine: ask for http://127.0.0.1, or start it with "
            return JSONResponse({"error": f"{said}--host"}, 421)
        if scope["path"].startswith("/api/"):
            client = scope.get("client")
            wait_s = self._limit.wait_s(client[0] if client else "")
            if wait_s:
                seconds = max(1, round(wait_s + 0.5))
                return JSONResponse(
                    {"error": f"too many requests: wait {seconds} s"},
                    429,
                    {"Retry-After": str(seconds)},
                )
        return None
