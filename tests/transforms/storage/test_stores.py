"""Real stores and web servers on loopback; they fail, change and lie as others do."""

import contextlib
import gzip
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote

import pytest
from botocore.exceptions import ClientError

from alignset.transforms.storage import stores
from alignset.transforms.storage.files import (
    create,
    exists,
    local_copy,
    match,
    move,
    open_to_read,
    publish,
    write_atomically,
)
from alignset.transforms.storage.stores import (
    RemoteError,
    copy_remote,
    may_pass,
    put_if,
    read_version,
    remove_remote,
)
from tests.support.command import run, succeed
from tests.support.memory_files import read
from tests.support.serving import serving
from tests.support.stores import BUCKET, FaultyProxy, Store, chosen_store, faulty_proxy, options_of

BIG = os.urandom(9_000_000)  # more than boto3 sends at once
NAMES = {"a b": b"", "ü/%20#?": b"a dog", "a+b&c=d": BIG}
BODY = b"".join(b"%06d," % n for n in range(3000))
PAIR = b"url,caption\nhttps://a.example/1.jpg,a red bridge over water\n"
FILES = {"a/in.csv": PAIR, "b.bin": BODY, "empty": b"", "ü b.bin": b"dog"}


@pytest.fixture(params=["s3", "gs"])
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    store = chosen_store(request, monkeypatch)
    with options_of(store):
        yield f"{store.root}/{abs(hash(request.node.name))}"


@pytest.fixture
def faulty(s3: Store, no_waits: None) -> Iterator[tuple[FaultyProxy, Store]]:
    with faulty_proxy(s3) as (proxy, store), options_of(store):
        yield proxy, store


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.01)))


def write(path: str, body: bytes) -> None:
    write_atomically(path, lambda sink: sink.write(body))


def test_objects_are_whole_and_stay_as_they_are(folder: str, tmp_path: Path) -> None:
    assert match(folder) == []
    for name, body in NAMES.items():
        path = f"{folder}/{name}"
        assert not exists(path)
        write(path, b"of before")
        write(path, body)
        assert exists(path)
        assert read(path) == Path(local_copy(path)).read_bytes() == body
        assert match(path) == [(path, len(body))] or "?" in name
    assert not exists(f"{folder}/ü")  # no folder is an object
    (tmp_path / "made").write_bytes(b"made")
    publish(tmp_path / "made", f"{folder}/made")
    copy_remote(f"{folder}/a+b&c=d", f"{folder}/copy")
    move(f"{folder}/made", f"{folder}/moved")
    bodies = NAMES | {"copy": BIG, "moved": b"made"}
    assert match(folder) == sorted((f"{folder}/{name}", len(body)) for name, body in bodies.items())
    for source in ("made", "nothing"):
        with pytest.raises(FileNotFoundError, match=f"there is no {folder}/{source}"):
            move(f"{folder}/{source}", f"{folder}/moved")
    assert read(f"{folder}/moved") == b"made"
    with pytest.raises(FileNotFoundError, match=f"there is no {folder}/nothing"):
        open_to_read(f"{folder}/nothing")
    remove_remote([f"{folder}/{name}" for name in [*bodies, "nothing"]])
    assert match(folder) == []


def test_a_write_that_fails_leaves_what_was_there(folder: str) -> None:
    def half(sink) -> None:
        sink.write(BIG[:8_500_000])
        raise RuntimeError("killed")

    write(f"{folder}/old", b"whole")
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="killed"):
            write_atomically(f"{folder}/{name}", half)
    assert match(folder) == [(f"{folder}/old", 5)]
    assert read(f"{folder}/old") == b"whole"


def test_parts_of_two_files_are_read_at_once_each_of_one_version(folder: str) -> None:
    for name, body in (("a", BIG * 2), ("b", b"b" * 99)):
        write(f"{folder}/{name}", body)
    with open_to_read(f"{folder}/a") as a, open_to_read(f"{folder}/b") as b:
        a.seek(17_000_000)
        assert (a.read(10), b.read(3)) == (BIG[8_000_000:8_000_010], b"bbb")
        a.seek(5)
        assert (a.read(10), b.read()) == (BIG[5:15], b"b" * 96)
        a.seek(-3, 2)
        assert (a.read(), a.read()) == (BIG[-3:], b"")
        for other in (BIG[::-1] * 2, b"short"):
            write(f"{folder}/a", other)
            a.seek(11_000_000)
            with pytest.raises(RemoteError, match=f"{folder}/a changed while it was read"):
                a.read(10)


GLOBS = {
    "x/*.tar": ["x/0.tar", "x/1.tar"],
    "x/**.tar": ["x/0.tar", "x/1.tar", "x/y/2.tar"],
    "**/?.tar": ["x/0.tar", "x/1.tar", "x/y/2.tar"],
    "x/[!0].tar": ["x/1.tar"],
    "x/[01]*": ["x/0.tar", "x/1.tar"],
    "x/y": [],
    "xx": ["xx"],
}


def test_globs(folder: str) -> None:
    for name in ("x/0.tar", "x/1.tar", "x/y/2.tar", "xx"):
        write(f"{folder}/{name}", b"1")
    for pattern, names in GLOBS.items():
        found = [file.path for file in stores.list_remote(f"{folder}/{pattern}")]
        assert sorted(found) == [f"{folder}/{name}" for name in names], pattern
    bucket = "/".join(folder.split("/")[:3])
    assert (f"{folder}/xx", 1) in match(bucket)
    assert abs(stores.list_remote(f"{folder}/xx")[0].modified_s - time.time()) < 86_400


def test_more_objects_than_a_request_lists_or_removes(s3: Store) -> None:
    with faulty_proxy(s3) as (proxy, store), options_of(store):
        client = s3.client()
        with ThreadPoolExecutor(4) as pool:
            keys = [f"many/{n:04}" for n in range(1001)]
            list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"1"), keys))
        paths = [f"{store.root}/{key}" for key in keys]
        assert match(f"{store.root}/many/") == [(path, 1) for path in paths]
        assert len(proxy.requests) == 2
        remove_remote(paths)
        assert len(proxy.requests) == 4
        assert match(f"{store.root}/many/") == []


def test_conditions(folder: str) -> None:
    path = f"{folder}/lock"
    assert read_version(path) is None
    first = put_if(path, b"1", None)
    assert first
    assert put_if(path, b"2", None) is None
    assert read_version(path) == (b"1", first)
    second = put_if(path, b"3", first)
    assert second
    assert put_if(path, b"3", first) == second  # as after an answer that was lost
    assert put_if(path, b"4", first) is None
    assert read_version(path) == (b"3", second)
    assert put_if(f"{path}-gone", b"5", first) is None
    assert not exists(f"{path}-gone")
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda n: create(f"{path}-race", b"%d" % n), range(8))]
    assert made.count(True) == 1
    assert read(f"{path}-race") == b"%d" % made.index(True)


def test_a_writer_whose_answer_is_lost_finds_its_own_object(
    faulty: tuple[FaultyProxy, Store],
) -> None:
    proxy, store = faulty
    proxy.lose_answer = lambda method, _: method == "PUT" and not proxy.failed
    assert create(f"{store.root}/lost/winner", b"00000-a")
    proxy.failed.clear()
    assert not create(f"{store.root}/lost/winner", b"00000-b")


def test_what_fails_is_tried_again_with_a_line_each(
    faulty: tuple[FaultyProxy, Store], caplog: pytest.LogCaptureFixture
) -> None:
    proxy, store = faulty
    paths = [f"{store.root}/often/{name}" for name in "ab"]
    for path in paths:
        write(path, b"a")
    files = [(path, 1) for path in paths]
    for status, least, action, found in (
        (500, 20, lambda: write(f"{store.root}/big", BIG), None),
        (503, 20, lambda: write(paths[0], b"b"), None),
        (503, 6, lambda: read(paths[0]), b"b"),
        (500, 6, lambda: match(f"{store.root}/often"), files),
        (429, 6, lambda: match(paths[0]), files[:1]),
        (503, 6, lambda: match(f"{store.root}/often/*"), files),
        (503, 6, lambda: move(paths[0], paths[1]), None),
        (503, 6, lambda: read_version(paths[1]).body, b"b"),
        (503, 6, lambda: remove_remote(paths), None),
        (503, 6, lambda: match(f"{store.root}/often"), []),
    ):
        proxy.failed.clear()
        caplog.clear()
        proxy.fault = lambda *_, s=status, n=least: s if len(proxy.failed) < n else None
        assert action() == found
        assert len(proxy.failed) >= least
        lines = [record.getMessage() for record in caplog.records if record.name == "alignset"]
        assert lines
        assert all(re.search(r"; trying again in \d+ s$", line) for line in lines)
    assert read(f"{store.root}/big") == BIG


def test_what_is_forbidden_is_not_tried_again(faulty: tuple[FaultyProxy, Store]) -> None:
    proxy, store = faulty
    proxy.fault = lambda *_: 403
    path = f"{store.root}/forbidden"
    for action in (lambda: write(path, b"a"), lambda: match(f"{path}/*"), lambda: read(path)):
        proxy.requests.clear()
        with pytest.raises(RemoteError, match=r"^s3://.*AccessDenied"):
            action()
        assert len(proxy.requests) == 1


def test_an_upload_that_is_cut_off_is_never_seen(faulty: tuple[FaultyProxy, Store]) -> None:
    proxy, store = faulty
    path, listings = f"{store.root}/cut/a", list[list[str]]()

    def cut(method: str, _: str) -> str | None:
        if method != "PUT" or len(proxy.failed) >= 2:
            return None
        listings.append(store.keys(f"{store.root}/cut"))
        return "cut"

    proxy.fault = cut
    write(path, BIG)
    assert len(listings) >= 2  # parts go side by side: a third may be cut
    assert not any(listings)
    assert read(path) == BIG


def test_which_errors_may_pass() -> None:
    for status, passes in ((500, True), (503, True), (429, True), (408, True), (403, False)):
        refused = {"ResponseMetadata": {"HTTPStatusCode": status}}
        assert may_pass(ClientError(refused, "GetObject")) == passes
        assert may_pass(RemoteError("a", status)) == passes
    for error in (ConnectionResetError("reset"), TimeoutError(), http.client.IncompleteRead(b"")):
        assert may_pass(error)
    for error in (OSError(28, "No space left on device"), FileNotFoundError("a"), ValueError("a")):
        assert not may_pass(error)


def test_a_client_is_made_once_and_a_fork_makes_its_own(
    s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with options_of(s3):
        client = stores.client("s3")
        assert stores.client("s3") is client
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert stores.client("s3") is not client
    with pytest.raises(RemoteError, match="hdfs:// has no 'stat' here; s3:// and gs:// can be"):
        exists("hdfs://host/a")
    with pytest.raises(RemoteError, match="https:// has no 'put' here"):
        write("https://host.example/a", b"")


class _Handler(http.server.BaseHTTPRequestHandler):
    """FILES below `/files/`, with ranges; below `/whole/`, without; and as the Hub's dataset
    `me/set`. Below `/flaky/` every second answer breaks off, below `/fickle/` each is another."""

    protocol_version = "HTTP/1.1"
    answers = 0

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes, sent: int | None = None, **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who only asks for the size hangs up
            self.wfile.write(body[:sent] if self.command != "HEAD" else b"")
        self.close_connection |= sent is not None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        self.answer(200, json.dumps([_entry(path) for path in paths if path in FILES]).encode())

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
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
        elif below == "lie":
            self.answer(200, bytes(1000), sent=3)
        elif below == "secret" and self.headers["Authorization"] != "Basic bWU6cCB3":
            self.answer(401, b"")
        elif below in ("403", "429", "500"):
            self.answer(int(below), b"")
        elif below == "odd":  # int("²") fails
            self.answer(206, FILES[name], Content_Range="bytes 0-9/\xb2")
        elif below in ("endless", "trickle"):
            self._without_end(below)
        elif found := re.fullmatch("/datasets/me/set/resolve/[^/]+/(.+)", path):
            self._file(FILES[found[1]], "files")
        elif name in FILES:
            self._file(FILES[name], below)
        else:
            self.answer(404, b"", X_Error_Code="EntryNotFound")

    do_HEAD = do_GET

    def _without_end(self, how: str) -> None:
        fields = {"Content-Range": f"bytes 0-{(1 << 30) - 1}/{1 << 30}"} if how == "trickle" else {}
        self.send_response(206 if fields else 200)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            while not self.server.ended.wait(0.05 if fields else 0):  # type: ignore[attr-defined]
                self.wfile.write(b"u" if fields else bytes(1 << 20))

    def _file(self, body: bytes, below: str) -> None:
        _Handler.answers += 1
        tag = f'"{_Handler.answers if below == "fickle" else 0}"'
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if not start or below == "whole":
            packed = {"Content_Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
            self.answer(200, body, ETag=tag, **packed)
        elif not body:
            self.answer(416, b"", Content_Range="bytes */0")
        else:
            first, end = int(start[1]), min(int(start[2] or len(body)), len(body) - 1) + 1
            said = f"bytes {first}-{end - 1}/{len(body)}"
            cut = 2000 if below == "flaky" and _Handler.answers % 2 else None
            self.answer(206, body[first:end], cut, Content_Range=said, ETag=tag)


def _entry(path: str) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(FILES[path]), "oid": "0" * 40}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.ended = threading.Event()  # type: ignore[attr-defined]
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.ended.set()  # type: ignore[attr-defined]


@pytest.mark.parametrize("below", ["files", "whole", "flaky"])
def test_a_file_of_a_web_server_is_read_at_any_place(web: str, below: str, no_waits: None) -> None:
    url = f"{web}/{below}/b.bin"
    assert match(url) == [(url, len(BODY))]
    assert exists(url)
    with open_to_read(url) as file:
        file.seek(7000)
        assert file.read(7) == BODY[7000:7007]
        file.seek(0)
        assert file.read() == BODY
    for name in ("empty", "ü b.bin"):
        assert match(f"{web}/{below}/{name}") == [(f"{web}/{below}/{name}", len(FILES[name]))]
        assert read(f"{web}/{below}/{name}") == FILES[name]
    assert match(f"{web}/{below}/no.bin") == []
    assert not exists(f"{web}/{below}/no.bin")
    assert read(f"{web.replace('://', '://me:p%20w@')}/secret/b.bin") == BODY
    with pytest.raises(FileNotFoundError, match=r"there is no http://.*/no\.bin"):
        open_to_read(f"{web}/{below}/no.bin")


def test_bytes_are_not_unpacked_on_the_way(web: str, s3: Store, monkeypatch) -> None:
    packed = gzip.compress(BODY)
    monkeypatch.setitem(FILES, "a.gz", packed)
    assert read(f"{web}/whole/a.gz") == packed
    s3.client().put_object(Bucket=BUCKET, Key="packed", Body=packed, ContentEncoding="gzip")
    with options_of(s3):
        assert read(f"{s3.root}/packed") == packed


def test_versions_of_a_web_file_are_not_mixed(web: str, monkeypatch) -> None:
    monkeypatch.setitem(FILES, "big", BIG)
    with open_to_read(f"{web}/fickle/big") as file:
        file.seek(8_900_000)
        with pytest.raises(RemoteError, match="/fickle/big changed while it was read"):
            file.read(1)


READS = """
from alignset.transforms.storage.files import exists, match, open_to_read

root = "hf://datasets/me/set"
print(match(f"{root}/*.csv"), match(f"{root}/a/**"), match(f"{root}/no.parquet"))
print(len(match(root)), exists(f"{root}/b.bin"), exists(f"{root}/manifest.json"))
with open_to_read(f"{root}/b.bin") as file:
    file.seek(7000)
    print(file.read(7))
"""


def test_files_of_the_hub(web: str) -> None:
    env = os.environ | {"HF_ENDPOINT": web}  # which is read where its package is imported
    done = subprocess.run(
        [sys.executable, "-c", READS], env=env, capture_output=True, text=True, check=False
    )
    inside = [("hf://datasets/me/set/a/in.csv", len(PAIR))]
    assert done.stdout.splitlines() == [
        f"[] {inside} []",
        "3 True False",
        f"{BODY[7000:7007]}",
    ], done.stderr


def test_the_command_reads_from_the_web(web: str, tmp_path: Path) -> None:
    succeed(f"{web}/files/a/in.csv", tmp_path / "out", "--text_only", "--language=")


@pytest.mark.parametrize(
    ("below", "why"),
    [
        ("silent", "timed out"),
        ("lie", "cut off after 3 of 1,000 bytes"),
        ("circle", "infinite loop"),
        ("403", "HTTP Error 403: Forbidden"),
        ("429", "HTTP Error 429: Too Many Requests"),
        ("500", "HTTP Error 500: Internal Server Error"),
        ("endless", "and its host sends it only whole: download it, and pass the file"),
        ("trickle", "comes too slowly: download it, and pass the file"),
    ],
)
def test_a_host_that_sends_no_file_is_told(
    web: str, below: str, why: str, no_waits: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stores, "SILENCE_S", 0.2 if below == "silent" else 20.0)
    monkeypatch.setattr(stores, "SLOW_S", 0.3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9 << 20))
    url = f"{web}/{below}/in.csv"
    for read_url in (match, read)[below in ("lie", "trickle") :]:
        with pytest.raises(OSError, match=re.escape(url)) as error:
            read_url(url)
        assert why in str(error.value)
    ended = run(url, tmp_path / "out", "--text_only")
    assert ended.status == 1
    assert why in ended.err.splitlines()[-1]
    assert url in ended.err.splitlines()[-1]


def test_odd_hosts_and_answers(web: str, no_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(f"{web}/odd/a/in.csv") == FILES["a/in.csv"]
    for url in ("http://[::1/x", "http://a..b/x", "hf://x"):
        with pytest.raises(stores.RemoteError, match=re.escape(url)):
            read(url)

    def refuses(request: urllib.request.Request, timeout: float) -> None:
        raise ConnectionError(f"{request.host}\n says\x1b[31m")

    monkeypatch.setattr(urllib.request, "urlopen", refuses)
    url = "https://münchen.de:8080/x"
    with pytest.raises(stores.RemoteError) as error:
        read(url)
    assert str(error.value) == f"{url}: xn--mnchen-3ya.de:8080 says[31m"
