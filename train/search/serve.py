"""`alignset search serve INDEX`: the page and its paths on a port of this machine."""

import argparse
import ipaddress
import socket
import sys
from collections.abc import Callable

import uvicorn

from alignset.train.counts import counted
from alignset.train.errors import SettingsError
from alignset.train.model.embedder import Embedder
from alignset.train.search.app import SearchApp
from alignset.train.search.commands import open_model
from alignset.train.search.decode_pool import DecodePool
from alignset.train.search.model_queue import ModelQueue, why
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.served_limits import LOCAL_NAMES, Guard, RateLimit

_MOST_CONNECTIONS = 512
_DECODING = 2  # processes


class Server:
    """A server of one index, which listens from the start and answers when `run` is called.

    Attributes:
      url: of the page.
    """

    def __init__(
        self,
        index: OpenedIndex,
        load: Callable[[], Embedder],
        address: tuple[str, int],
        requests_per_minute: int,
        trusted_proxy: str = "",
    ):
        """
        Args:
          trusted_proxy: an address or a network, from which what X-Forwarded-For says is held for
            the address of a request. Then any Host is answered, since the proxy shows the page.

        Raises:
          SettingsError: nothing can listen at the address, or the proxy is no address.
        """
        _check_proxy(trusted_proxy)
        host, port = address
        shown = f"[{host}]" if ":" in host else host
        self._socket = _listening(host, port)
        own = _is_loopback(host) and not trusted_proxy
        names = LOCAL_NAMES | {shown.lower()} if own else None
        self._failure: str | None = None
        self._app = SearchApp(index, ModelQueue(load, self._failed), DecodePool(_DECODING))
        guarded = Guard(self._app.asgi, limit=RateLimit(requests_per_minute), names=names)
        self._server = uvicorn.Server(
            uvicorn.Config(
                guarded,
                # Its own closes all handlers of the process, and some close what they write to.
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                proxy_headers=bool(trusted_proxy),
                forwarded_allow_ips=trusted_proxy,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=64 << 10,
            )
        )
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"

    def run(self) -> None:
        """Until a signal or `stop` ends it. Raises SettingsError where there is no model."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._app.close()
            self._socket.close()
        if self._failure is not None:
            raise SettingsError(self._failure)

    def stop(self) -> None:
        self._server.should_exit = True

    def _failed(self, error: BaseException) -> None:
        self._failure = why(error)
        self.stop()


def run_serve(flags: argparse.Namespace) -> int:
    """Serves until a signal comes."""
    if not 0 <= flags.port < 1 << 16:
        raise SettingsError(f"port must be from 0 to 65535; got {flags.port}")
    index = OpenedIndex(flags.index)
    server = Server(
        index,
        lambda: _load(flags, index),
        (flags.host, flags.port),
        flags.requests_per_minute,
        flags.trusted_proxy,
    )
    print(f"{counted(index.pictures, 'picture')} at {server.url}", flush=True)
    if not _is_loopback(flags.host):
        print(
            "everybody who reaches this address may search: put a server with TLS before it",
            file=sys.stderr,
        )
    server.run()
    return 0


def _load(flags: argparse.Namespace, index: OpenedIndex) -> Embedder:
    """Reads the model, and tells when it is there: the page shows before, and searches wait."""
    print("reading the model, for which searches wait", file=sys.stderr, flush=True)
    model = open_model(flags.model, index.document, flags.index)
    print("the model is read", file=sys.stderr, flush=True)
    return model


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(1024)
    except OSError as error:
        raise SettingsError(
            f"nothing can listen at {host}:{port} ({error.strerror}): choose another --port, or "
            "0 for a free one"
        ) from error
    return made


def _check_proxy(address: str) -> None:
    try:
        if address:
            ipaddress.ip_network(address)
    except ValueError as error:
        raise SettingsError(
            f"--trusted_proxy must be an address or a network, such as 127.0.0.1 or 10.0.0.0/8; "
            f"got {address!r} ({error})"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
