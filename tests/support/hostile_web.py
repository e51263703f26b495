"""A small hostile internet on loopback: hosts that answer as `hostile_answers` has it, the resolver
of their names, and private servers that nobody may reach. Needs a network of its own."""

import asyncio
import contextlib
import ipaddress
import itertools
import random
import socket
import ssl
import struct
import threading
from collections import Counter
from pathlib import Path

from tests.support.hostile_answers import KINDS
from tests.support.name_server import AAAA, A, NameServer

PUBLIC = ("93.184.216.34", "2606:2800:220:1::34")
PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.100.100.200"),
    *("168.63.129.16", "::1", "fd00:ec2::254", "64:ff9b::a00:1", "2002:a00:1::1"),
)
_CNAME = 5


class HostileWeb:
    """Its servers.

    Attributes:
      told: what went wrong for the fetcher's side: private hosts reached, secrets in a request.
      requests: how often each kind was asked for.
    """

    def __init__(self, certificate: Path) -> None:
        self.told: list[str] = []
        self.requests: Counter[str] = Counter()
        self._certificate = certificate
        self._resolved: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        for address, port in itertools.product(PUBLIC, (80, 8081)):
            self._servers.append(await asyncio.start_server(self._web, address, port, backlog=4096))
        for address in PUBLIC:
            self._servers.append(await asyncio.start_server(self._tls, address, 443, backlog=4096))
        for address, port in itertools.product(PRIVATE, (80, 443, 8081)):
            reached = self._reached(address)
            self._servers.append(await asyncio.start_server(reached, address, port))
        threading.Thread(target=_Names(self).serve, daemon=True).start()

    def _reached(self, address: str):
        async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.told.append(f"{address} was reached")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
            writer.close()

        return told

    async def _web(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self._answer(reader, writer):
                pass
        with contextlib.suppress(OSError):
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        for word in ("cookie:", "authorization:", "referer:", "pass@"):
            if word in head.lower():
                self.told.append(f"a request has {word} {head!r}")
        host = head.lower().partition("\nhost:")[2].split()[0]
        name, _, seed = head.split()[1].strip("/").partition("/")
        if name not in KINDS or not seed.isdigit():
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        self.requests[name] += 1
        writer.transport.set_write_buffer_limits(1 << 16)
        for part in KINDS[name].answer(random.Random(int(seed))):
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif part == "keep":
                return True
            elif part == "reset":
                await asyncio.sleep(0.02)  # the bytes first
                _linger_not(writer)
                return False
            else:
                text = part.replace(b"{host}", host.encode()).replace(b"{seed}", seed.encode())
                writer.write(text)
                await writer.drain()
        return False

    async def _tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TLS, broken in one of several ways."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            hello = await reader.read(2000)
            way = random.Random(hello).randrange(6)
            if way == 0:
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            elif way == 1:
                _linger_not(writer)
            elif way == 2:
                writer.write(random.Random(hello).randbytes(5000))
            elif way == 3:
                await asyncio.sleep(30)
            elif way == 4:
                writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # alert: handshake failure
            else:
                await asyncio.to_thread(self._with_own_certificate, writer, hello)
            await asyncio.sleep(0.05)
        with contextlib.suppress(OSError):
            writer.close()

    def _with_own_certificate(self, writer: asyncio.StreamWriter, hello: bytes) -> None:
        """The server's first flight, with a certificate that nobody trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        into.write(hello)
        with contextlib.suppress(ssl.SSLError):
            context.wrap_bio(into, out, server_side=True).do_handshake()
        writer.write(out.read())

    def addresses(self, name: str) -> list[str] | None:
        """What a name leads to now; None where there is no such name."""
        kind = name.split(".")[0].split("-")[0]
        self._resolved[name] += 1
        if kind == "rebind":  # outside for the two questions (A, AAAA) of the first resolution
            return list(PUBLIC) if self._resolved[name] <= 2 else ["127.0.0.1", "10.0.0.1", "::1"]
        of_kind = {
            "private": [PRIVATE[hash(name) % len(PRIVATE)]],
            "mapped": ["::ffff:10.0.0.1"],
            "mixed": ["10.0.0.1", *PUBLIC, "::1"],
            "empty": [],
            "nx": None,
        }
        return of_kind.get(kind, list(PUBLIC))


def _linger_not(writer: asyncio.StreamWriter) -> None:
    """Closing then sends a reset."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class _Names(NameServer):
    """The resolver. Its answers may not be kept."""

    ttl = 0

    def __init__(self, web: HostileWeb) -> None:
        super().__init__(port=53)
        self.web = web

    def records(self, name: str, kind: int) -> list[tuple[int, bytes]] | int | None:
        if name.startswith("silent"):
            return None
        if name.startswith("servfail"):
            return 2
        if name.startswith("loop"):
            return [(_CNAME, b"\xc0\x0c")]
        addresses = self.web.addresses(name)
        if addresses is None:
            return 3
        wanted = {A: 4, AAAA: 6}.get(kind)
        ips = map(ipaddress.ip_address, addresses)
        return [(kind, ip.packed) for ip in ips if ip.version == wanted]
