"""Real servers of object stores on loopback, and a proxy before one that fails at will.

S3: moto's server, which comes with the tests' packages; or versitygw, S3 over a folder, where
ALIGNSET_VERSITYGW names its binary (`make test-s3`). Google's: an emulator, taught conditions.
"""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import boto3
import botocore.config
import pytest

from alignset.transforms.storage.files import match, open_to_read, publish
from alignset.transforms.storage.stores import client
from tests.support.serving import serving

BUCKET = "bucket"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "testtest"}


class Store(NamedTuple):
    """A store that is served, and what the command needs to reach it."""

    url: str  # of its server
    flags: tuple[str, ...]
    root: str = f"s3://{BUCKET}"

    def client(self) -> Any:
        """boto3's, straight to the store."""
        config = botocore.config.Config(retries={"max_attempts": 0})
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", config=config, **KEYS
        )

    def keys(self, folder: str) -> list[str]:
        """The names of all objects under a folder, below it."""
        with options_of(self):
            return [path.removeprefix(f"{folder}/") for path, _ in match(folder, hidden=True)]

    def upload(self, file: Path, path: str) -> None:
        with options_of(self):
            publish(file, path)

    def download(self, folder: str, local: Path) -> Path:
        for key in self.keys(folder):
            (local / key).parent.mkdir(parents=True, exist_ok=True)
            with options_of(self), open_to_read(f"{folder}/{key}") as source:
                (local / key).write_bytes(source.read())
        return local


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink)
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                assert server.poll() is None, f"{command[0]} ended:\n{log.read_text()}"
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield
        finally:
            server.terminate()
            server.wait(20)


def s3_flags(url: str) -> tuple[str, ...]:
    return (
        f"--s3_endpoint_url={url}",
        "--s3_region_name=us-east-1",
        *(f"--s3_{name.removeprefix('aws_')}={value}" for name, value in KEYS.items()),
    )


def s3_variables(url: str) -> dict[str, str]:
    """The variables in which workers find a store."""
    values = {name.upper(): value for name, value in KEYS.items()}
    return values | {"AWS_ENDPOINT_URL_S3": url, "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def s3_store(folder: Path) -> Iterator[Store]:
    """An S3 server with one bucket."""
    port = free_port()
    if gateway := os.environ.get("ALIGNSET_VERSITYGW"):
        (folder / "objects").mkdir()
        command = [gateway, "--port", f"127.0.0.1:{port}", "--access", KEYS["aws_access_key_id"]]
        command += ["--secret", KEYS["aws_secret_access_key"], "posix", str(folder / "objects")]
    else:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, folder / "server.log"):
        url = f"http://127.0.0.1:{port}"
        store = Store(url, s3_flags(url))
        store.client().create_bucket(Bucket=BUCKET)
        yield store


@contextlib.contextmanager
def gs_store(folder: Path) -> Iterator[Store]:
    """An emulator of Google's store with one bucket; STORAGE_EMULATOR_HOST must name its URL."""
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--default-bucket", BUCKET]
    url = f"http://127.0.0.1:{port}"
    with _running(command, port, folder / "server.log"), serving(Conditions(url)) as proxy:
        yield Store(proxy.url, (), f"gs://{BUCKET}")


# Given a request's method and path, what to do with it: None to hand it on, a status to answer,
# "cut" to hand on half of its body and hang up, "lost" to hand it on and answer 500.
Fault = Callable[[str, str], int | str | None]


class FaultyProxy(ThreadingHTTPServer):
    """Hands requests on to a store, but for those that `fault` takes; logs them all."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, store_url: str, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Proxied)
        self.store = store_url.removeprefix("http://")
        self.fault: Fault = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.turn: contextlib.AbstractContextManager[object] = contextlib.nullcontext()

    def condition(self, path: str, body: bytes) -> int | None:
        """The status of a request whose condition does not hold."""
        return None

    def generation(self, path: str) -> str | None:
        """What an answer says of an object's version."""
        return None

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"

    def listings(self) -> list[str]:
        """The paths of requests that list objects."""
        listing = re.compile(r"[?&](list-type|prefix)=")
        return [path for method, path in self.requests if method == "GET" and listing.search(path)]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed hangs up


class Conditions(FaultyProxy):
    """Google's `ifGenerationMatch` before a store that ignores it: an object's generation must be
    the one that is named, 0 where there must be none, or the answer is 412. Its answers with an
    object's bytes say the generation too."""

    def __init__(self, store_url: str) -> None:
        super().__init__(store_url)
        self.turn = threading.Lock()  # between the look and the write nobody writes

    def condition(self, path: str, body: bytes) -> int | None:
        asked = urlsplit(path)
        wanted = parse_qs(asked.query).get("ifGenerationMatch")
        if not wanted:
            return None
        _, _, name = asked.path.partition("/o/")
        if not name:  # an upload's name is in its first part
            name = quote(json.loads(body.split(b"\r\n\r\n")[1].partition(b"\r\n")[0])["name"], "")
        return None if wanted == [self._look(name)] else 412

    def generation(self, path: str) -> str | None:
        asked = urlsplit(path)
        return self._look(asked.path.partition("/o/")[2]) if "alt=media" in asked.query else None

    def _look(self, name: str) -> str:
        store = http.client.HTTPConnection(self.store, timeout=30)
        store.request("GET", f"/storage/v1/b/{BUCKET}/o/{name}")
        metadata = json.loads(store.getresponse().read() or b"{}")
        store.close()
        return metadata.get("generation", "0")


class _Proxied(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: FaultyProxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.turn:
            answer = self._hand_on(body)
        if answer:
            self._answer(*answer)

    def _hand_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes] | None:
        asked = self.command, self.path
        self.server.requests.append(asked)
        fault = self.server.fault(*asked) or self.server.condition(self.path, body)
        if fault:
            self.server.failed.append(asked)
        if isinstance(fault, int):
            return fault, [], b"" if self.command == "HEAD" else _refusal(fault)
        # The Host that was signed goes with it.
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        generation = self.server.generation(self.path)
        store = http.client.HTTPConnection(self.server.store, timeout=30)
        try:
            if fault == "cut":
                store.putrequest(self.command, self.path, True, True)
                for name, value in headers.items():
                    store.putheader(name, value)
                store.endheaders(body[: len(body) // 2])
                self.close_connection = True
                return None
            store.request(self.command, self.path, body, headers)
            answer = store.getresponse()
            if generation:
                answer.headers["X-Goog-Generation"] = generation
            body = answer.read()
            if fault == "lost":
                return 500, [], _refusal(500)
            return answer.status, answer.getheaders(), body
        finally:
            store.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        size = dict((n.lower(), v) for n, v in headers).get("content-length")
        head = self.command == "HEAD" and size is not None
        self.send_header("Content-Length", str(size if head else len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_expect_100(self) -> bool:
        proceed = super().handle_expect_100()
        self.wfile.flush()  # boto3 waits a second for it
        return proceed

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def log_message(self, *_: object) -> None:
        pass


def _refusal(status: int) -> bytes:
    code = {403: "AccessDenied", 503: "SlowDown"}.get(status, "InternalError")
    return f"<Error><Code>{code}</Code><Message>The store is busy.</Message></Error>".encode()


@contextlib.contextmanager
def faulty_proxy(store: Store) -> Iterator[tuple[FaultyProxy, Store]]:
    """A proxy, and the store as it is seen through it."""
    with serving(FaultyProxy(store.url)) as proxy:
        yield proxy, Store(proxy.url, s3_flags(proxy.url))


def chosen_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that a test's parameter names, "s3" or "gs"."""
    store = request.getfixturevalue(getattr(request, "param", "s3"))
    if store.root.startswith("gs"):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
    client.cache_clear()
    return store


@contextlib.contextmanager
def options_of(store: Store) -> Iterator[None]:
    """The variables in which a store is found, as the command sets them for its flags."""
    values = s3_variables(store.url)
    if store.root.startswith("gs"):
        values = {"STORAGE_EMULATOR_HOST": store.url}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        client.cache_clear()
        yield
    client.cache_clear()
