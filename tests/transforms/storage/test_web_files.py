"""Files of web servers and of the Hub, by loopback servers that answer as these do."""

import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest

from alignset.transforms.storage import web_files
from alignset.transforms.storage.files import exists, match, open_to_read
from tests.support.command import run, succeed
from tests.support.serving import serving

BODY = b"".join(b"%06d," % n for n in range(3000))
PAIR = b"url,caption\nhttps://a.example/1.jpg,a red bridge over water\n"
FILES = {"a/in.csv": PAIR, "b.bin": BODY}


class _Handler(http.server.BaseHTTPRequestHandler):
    """The files below `/files/`, with ranges; below `/whole/`, without; and as the Hub's dataset
    `me/set`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes, **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        self.answer(200, json.dumps([_entry(path) for path in paths if path in FILES]).encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        below, _, name = path[1:].partition("/")
        if listed := re.fullmatch("/api/datasets/me/set/tree/main/?(.*)", path):
            inside = [file for file in FILES if file.startswith(listed[1])]
            deep = "recursive=true" in self.path.lower()
            entries = [_entry(file) for file in inside if deep or "/" not in file]
            entries += [] if deep else [{"type": "directory", "path": "a", "oid": "0" * 40}]
            self.answer(200, json.dumps(entries).encode())
        elif path.startswith("/api/datasets/me/set"):
            self.answer(200, json.dumps({"id": "me/set", "sha": "f" * 40, "siblings": []}).encode())
        elif below == "silent":
            self.server.ended.wait(60)  # type: ignore[attr-defined]
            self.close_connection = True
        elif below == "circle":
            self.answer(302, b"", Location=path)
        elif below == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else b"url")
            self.close_connection = True
        elif below in ("429", "500"):
            self.answer(int(below), b"")
        elif below in ("endless", "trickle"):
            getattr(self, f"_{below}")()
        elif below in ("files", "whole") and name in FILES:
            self._file(FILES[name], ranges=below == "files")
        elif found := re.fullmatch("/datasets/me/set/resolve/[^/]+/(.+)", path):
            self._file(FILES[found[1]], ranges=True)
        else:
            self.answer(404, b"", X_Error_Code="EntryNotFound")

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            while self.command != "HEAD":
                self.wfile.write(bytes(1 << 20))

    def _trickle(self) -> None:
        size = 1 << 20
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes 1-{size - 1}/{size}")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            for _ in range(100 if self.command != "HEAD" else 0):
                self.wfile.write(b"u")
                self.server.ended.wait(0.1)  # type: ignore[attr-defined]

    def _file(self, body: bytes, *, ranges: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if not (asked and ranges):
            self.answer(200, body, ETag='"x"', **({"Accept_Ranges": "bytes"} if ranges else {}))
            return
        first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
        said = f"bytes {first}-{last}/{len(body)}"
        self.answer(206, body[first : last + 1], Content_Range=said, ETag='"x"')


def _entry(path: str) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(FILES[path]), "oid": "0" * 40}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.ended = threading.Event()  # type: ignore[attr-defined]
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.ended.set()  # type: ignore[attr-defined]


@pytest.mark.parametrize("below", ["files", "whole"])
def test_a_file_of_a_web_server_is_read_at_any_place(web: str, below: str) -> None:
    url = f"{web}/{below}/b.bin"
    assert match(url) == [(url, len(BODY))]
    assert exists(url)
    with open_to_read(url) as file:
        file.seek(7000)
        assert file.read(7) == BODY[7000:7007]
        file.seek(0)
        assert file.read() == BODY
    assert match(f"{web}/{below}/no.bin") == []
    assert not exists(f"{web}/{below}/no.bin")


READS = """
from alignset.transforms.storage import web_files
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.files import match

root = "hf://datasets/me/set"
print(match(f"{root}/*.bin"), match(root), match(f"{root}/no.parquet"))
print(exists(f"{root}/b.bin"), exists(f"{root}/manifest.json"))
with open_to_read(f"{root}/b.bin") as file:
    file.seek(7000)
    print(file.read(7))
"""


def test_files_of_the_hub(web: str) -> None:
    env = os.environ | {"HF_ENDPOINT": web}  # which is read where its package is imported
    done = subprocess.run(
        [sys.executable, "-c", READS], env=env, capture_output=True, text=True, check=False
    )
    root = "hf://datasets/me/set"
    found = [(f"{root}/{name}", len(body)) for name, body in FILES.items()]
    assert done.stdout.splitlines() == [
        f"{found[1:]} {found} []",
        "True False",
        f"{BODY[7000:7007]}",
    ], done.stderr


def test_a_host_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: str) -> Any:
        raise RuntimeError("[Errno -2] Name or service not known")  # as httpx, which names no host

    monkeypatch.setattr("fsspec.core.url_to_fs", unknown)
    with pytest.raises(OSError, match=r"^hf://datasets/a/b\.parquet: \[Errno -2\] Name or"):
        match("hf://datasets/a/b.parquet")


def test_the_command_reads_them_and_writes_none(web: str, tmp_path: Path) -> None:
    succeed(f"{web}/files/a/in.csv", tmp_path / "out", "--text_only", "--language=")
    for output, says in (
        (f"{web}/out", "http:// can only be read; pass --output=FOLDER"),
        ("ftp://host/out", "ftp:// cannot be read here; pass a path of this machine"),
    ):
        ended = run(f"{web}/files/a/in.csv", output, "--text_only")
        assert ended.status == 2
        assert says in ended.err


@pytest.mark.parametrize(
    ("below", "why"),
    [
        ("silent", "does not answer within 0.2 s"),
        ("cut", "not completed"),
        ("circle", "redirects in circles"),
        ("429", "answers 429 Too Many Requests"),
        ("500", "answers 500 Internal Server Error"),
        ("endless", "and its host sends it only whole: download it, and pass the file"),
    ],
)
def test_a_host_that_sends_no_file_is_told(
    web: str, below: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(web_files, "SILENCE_S", 0.2 if below == "silent" else 20.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9 << 20))
    url = f"{web}/{below}/in.csv"
    for open_url in (match, open_to_read)[below == "cut" :]:
        with pytest.raises(OSError, match=re.escape(url)) as error:
            open_url(url)
        assert why in str(error.value)
    ended = run(url, tmp_path / "out", "--text_only")
    assert ended.status == (2 if below == "cut" else 1)
    assert why in ended.err.splitlines()[-1]
    assert f"{url} " in ended.err
    assert ended.err.count("\n") == 1


def test_a_host_whose_ranges_trickle_is_told(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_files, "SLOW_S", 0.3)
    url = f"{web}/trickle/in.csv"
    with pytest.raises(OSError, match=re.escape(f"{url} comes too slowly: download it")):
        open_to_read(url)
