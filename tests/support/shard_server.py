"""A web server of one folder on loopback that knows ranges, or not, and hangs up at will.

The Hub's dataset `me/set` has the same files.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

import pytest

from alignset.transforms.storage.stores import client
from tests.support.serving import serving


class ShardServer(ThreadingHTTPServer):
    """Attributes:
    ranges: whether it knows them.
    cuts: after how many bytes of its body each answer in turn ends; then they are whole.
    status: what it answers instead, where that is not 200.
    asked: path and Range of each request.
    ended: set as the server ends.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder, self.ranges, self.status = folder, True, 200
        self.cuts: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.ended = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: ShardServer

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        kind, _, name = unquote(path[1:]).partition("/")
        self.server.asked.append((self.path, self.headers.get("Range")))
        if self.server.status != 200:
            self._answer(self.server.status)
        elif listed := re.fullmatch("api/datasets/me/set/tree/[^/]+/?(.*)", f"{kind}/{name}"):
            folder = self.server.folder / listed[1]
            found = folder.rglob("*") if "recursive=true" in query.lower() else folder.glob("*")
            self._answer(200, json.dumps([*map(self._entry, sorted(found))]).encode())
        elif kind == "api":
            self._answer(200, b'{"id": "me/set", "sha": "%s", "siblings": []}' % (b"f" * 40))
        elif kind == "silent":
            self.server.ended.wait(60)
        elif kind == "circle":
            self._answer(302, Location=self.path)
        elif kind == "secret" and self.headers["Authorization"] != "Basic bWU6cCB3":
            self._answer(401)
        elif kind in ("endless", "trickle"):
            self._without_end(kind)
        else:
            found = re.fullmatch("datasets/me/set/resolve/[^/]+/(.+)", f"{kind}/{name}")
            self._file(self.server.folder / (found[1] if found else unquote(path[1:])))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        found = [self.server.folder / path for path in paths]
        self._answer(200, json.dumps([self._entry(p) for p in found if p.exists()]).encode())

    def _entry(self, path: Path) -> dict[str, object]:
        name = str(path.relative_to(self.server.folder))
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._answer(404, X_Error_Code="EntryNotFound")
        body, asked = path.read_bytes(), self.headers.get("Range")
        fields = {"ETag": f'"{path.stat().st_mtime_ns}"'}
        if path.suffix == ".gz":
            fields["Content_Encoding"] = "gzip"
        if not self.server.ranges or not asked:
            return self._answer(200, body, **fields)
        start, end = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
        first, last = int(start), min(int(end or len(body)), len(body) - 1)
        fields["Content_Range"] = f"bytes {first}-{last}/{len(body)}"
        return self._answer(206 if body else 416, body[first : last + 1], **fields)

    def _answer(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            is_cut = status in (200, 206) and self.server.cuts
            self.wfile.write(body[: self.server.cuts.pop(0)] if is_cut else body)

    def _without_end(self, how: str) -> None:
        self.send_response(206 if how == "trickle" else 200)
        if how == "trickle":
            self.send_header("Content-Range", f"bytes 0-{(1 << 30) - 1}/{1 << 30}")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ended.wait(0.05 if how == "trickle" else 0):
                self.wfile.write(b"u" if how == "trickle" else bytes(1 << 20))

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def shard_server(folder: Path) -> Iterator[ShardServer]:
    with serving(ShardServer(folder)) as server:
        yield server
        server.ended.set()


@contextlib.contextmanager
def hub_of(server: ShardServer) -> Iterator[str]:
    """Has `hf://` lead to a server; its dataset."""
    from huggingface_hub import HfFileSystem

    with pytest.MonkeyPatch.context() as patch:
        place = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        patch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", place)
        HfFileSystem.clear_instance_cache()
        client.cache_clear()
        yield "hf://datasets/me/set"
    HfFileSystem.clear_instance_cache()
    client.cache_clear()
