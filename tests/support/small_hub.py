"""A model hub on loopback that has one model, and a log of what it was asked for."""

import hashlib
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.serving import serving


class SmallHub(ThreadingHTTPServer):
    """Serves the files of `folder` as those of the model `name`.

    Attributes:
      error: what it says of a file that it has not.
    """

    daemon_threads = True

    def __init__(self, name: str, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.prefix, self.folder = f"/{name}/resolve/", folder
        self.requests: list[str] = []
        self.error = "EntryNotFound"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SmallHub

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(path)
        file = None
        if path.startswith(self.server.prefix):  # /owner/name/resolve/revision/file
            file = self.server.folder / path.removeprefix(self.server.prefix).partition("/")[2]
        body = file.read_bytes() if file and file.is_file() else None
        self.send_response(404 if body is None else 200)
        self.send_header("X-Repo-Commit", "a" * 40)
        if body is None:
            self.send_header("X-Error-Code", self.server.error)
        else:
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def small_hub(name: str, folder: Path) -> AbstractContextManager[SmallHub]:
    return serving(SmallHub(name, folder))
