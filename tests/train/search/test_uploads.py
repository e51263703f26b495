"""Hostile uploads, as a server answers them."""

import contextlib
import socket
import struct
import time
import zlib

import pytest

from tests.support.colour_search import answer, drawn, picture_bytes
from tests.support.train_shards import COLOURS


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels, a thousandth of them in bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(b"\0" * (side // 8 + 1) * side, 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


# Bytes, or the side of a bomb; the status, and what is said.
UPLOADS = {
    "nothing": (b"", 400, "is empty"),
    "text": (b"no picture at all", 415, "no picture that can be opened"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "no picture"),
    "bomb": (9_000, 415, "too much time or memory"),
    "bomb Pillow knows": (40_000, 415, "too much time or memory"),
    "cut JPEG": (picture_bytes(drawn(COLOURS["red"], 5))[:900], 415, "no picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "no picture"),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_hostile_uploads_are_refused(site: str, name: str) -> None:
    upload, status, text = UPLOADS[name]
    data = bomb(upload) if isinstance(upload, int) else upload
    got, told = answer(f"{site}/api/pictures", data=data, method="POST")
    assert got == status
    assert text in told["error"]


def test_an_upload_that_says_that_it_has_1_gb_is_refused_before_it_comes(site: str) -> None:
    host, port = site.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            f"POST /api/pictures HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Length: {1 << 30}\r\n\r\n".encode()
        )
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert b" 413 " in reply.partition(b"\r\n")[0]
    assert b"more than 16 MiB" in reply


def test_an_upload_without_an_end_is_cut_off(site: str) -> None:
    """A stream of 1 GB, chunk by chunk, without saying how long it is."""
    host, port = site.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            f"POST /api/pictures HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        piece = b"100000\r\n" + b"\0" * (1 << 20) + b"\r\n"
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(1024):
                connection.sendall(piece)
                sent += 1
        assert sent < 100  # MiB; what the system's buffers took after the refusal among it
        with contextlib.suppress(OSError):
            head = connection.recv(1 << 16)
            assert not head or b" 413 " in head.partition(b"\r\n")[0]
    assert answer(f"{site}/api/search?text=red")[0] == 200


def test_more_uploads_than_are_held_at_once_are_told_to_come_again(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = picture_bytes(drawn(COLOURS["red"], 5))
    host, port = site.removeprefix("http://").split(":")
    head = f"POST /api/pictures HTTP/1.1\r\nHost: {host}:{port}\r\n".encode()
    monkeypatch.setattr("alignset.train.search.app._MAX_UPLOADS", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % (len(picture) + 1) + picture)
        for _ in range(600):  # until the server has begun with the first, which lacks its last byte
            got, told = answer(f"{site}/api/pictures", data=picture, method="POST")
            if got == 503:
                break
            time.sleep(0.1)
        assert got == 503
        assert "too many pictures" in told["error"]
        connection.sendall(b"\0")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert answer(f"{site}/api/pictures", data=picture, method="POST")[0] == 200
