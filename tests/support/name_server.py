"""A real name server on loopback, which does what the first part of a name says."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

A, AAAA = 1, 28


class NameServer:
    """Answers `silent…` never, `servfail…` that it cannot tell, `no…` that there is no such name,
    that `bare…` has no address, `many…` with 70, and all others with 127.0.0.1; `short…` for a
    second only. `busy…` it cannot tell before the third question. `six…` has ::1 as well, and the
    first question for its other address is lost; `sixonly…` has ::1 alone, and `sixlost…` loses
    each such question, of `sixfail…` it cannot tell.

    Attributes:
      asked: how often each name was asked for, by A. questions: of any kind.
      is_down: whether it answers nobody.
      delay_s: before each answer.
    """

    ttl = 300

    def __init__(self, delay_s: float = 0.0, port: int = 0) -> None:
        self.asked: Counter[str] = Counter()
        self.questions: Counter[str] = Counter()
        self.is_down = False
        self.delay_s = delay_s
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", port))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                data, sender = self._socket.recvfrom(512)
            except OSError:  # closed
                return
            if not data:
                return
            answer = self._answer(data)
            if answer is None:
                continue
            if self.delay_s:
                timer = threading.Timer(self.delay_s, self._send, (answer, sender))
                timer.daemon = True
                timer.start()
            else:
                self._send(answer, sender)

    def _send(self, answer: bytes, sender: tuple[str, int]) -> None:
        if self._socket.fileno() >= 0:
            self._socket.sendto(answer, sender)

    def _answer(self, data: bytes) -> bytes | None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]])
            at += 1 + data[at]
        name = b".".join(labels).decode().lower()
        (kind,) = struct.unpack(">H", data[at + 1 : at + 3])
        self.asked[name] += kind == A
        self.questions[name] += 1
        found = None if self.is_down else self.records(name, kind)
        if found is None:
            return None
        code, records = (found, []) if isinstance(found, int) else (0, found)
        head = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        ttl = 1 if name.startswith("short") else self.ttl
        parts = [
            struct.pack(">HHHIH", 0xC00C, of, 1, ttl, len(value)) + value for of, value in records
        ]
        return head + data[12 : at + 5] + b"".join(parts)

    def records(self, name: str, kind: int) -> list[tuple[int, bytes]] | int | None:
        """What a name has of a kind: types and values; or a code; None where no answer comes."""
        lost = name.startswith("six.") and self.asked[name] == 1
        if name.startswith("silent") or (kind == A and (lost or name.startswith("sixlost"))):
            return None
        busy = name.startswith("busy") and self.questions[name] <= 2
        if busy or name.startswith("servfail") or (name.startswith("sixfail") and kind == A):
            return 2
        if name.startswith("no") or name.endswith(".invalid"):
            return 3
        if kind == AAAA:
            return [(kind, socket.inet_pton(socket.AF_INET6, "::1"))] * name.startswith("six")
        if kind != A or name.startswith(("bare", "sixonly")):
            return []
        count = 70 if name.startswith("many") else 1
        return [(kind, bytes([127, 0, 0, 1 + number])) for number in range(count)]

    def close(self) -> None:
        self._socket.close()


@contextmanager
def name_server(delay_s: float = 0.0) -> Iterator[NameServer]:
    """The server while the block runs."""
    server = NameServer(delay_s)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        wake = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        host, port = server.address.split(":")
        wake.sendto(b"", (host, int(port)))
        thread.join()
        server.close()
