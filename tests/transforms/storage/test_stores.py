"""Real stores and web servers on loopback; they fail, change and lie as others do."""

import errno
import gzip
import http.client
import io
import os
import re
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

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
from tests.support.shard_server import ShardServer, hub_of, shard_server
from tests.support.stores import BUCKET, FaultyProxy, Store, chosen_store, faulty_proxy, options_of

BIG = os.urandom(9_000_000)  # more than boto3 sends at once
NAMES = {"a b": b"", "ü/%20#?": b"a dog", "a+b&c=d": BIG}
BODY = b"".join(b"%06d," % n for n in range(3000))
PAIR = b"url,caption\nhttps://a.example/1.jpg,a red bridge over water\n"
FILES = {"a/in.csv": PAIR, "b.bin": BODY, "empty": b"", "ü b.bin": b"dog", "secret/b.bin": BODY}


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
    bucket = folder.rpartition("/")[0]
    assert (f"{folder}/xx", 1) in match(bucket)
    assert abs(stores.list_remote(f"{folder}/xx*")[0].modified_s - time.time()) < 86_400
    with pytest.raises(FileNotFoundError, match=f"there is no {bucket}-2: create it, or pass ano"):
        match(f"{bucket}-2/x")


def test_more_objects_than_a_request_lists_or_removes(faulty: tuple[FaultyProxy, Store]) -> None:
    proxy, store = faulty
    paths = [f"{store.root}/many/{n:04}" for n in range(1001)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: put_if(path, b"1", None), paths))
    for action, found in ((match, [(path, 1) for path in paths]), (remove_remote, None)):
        proxy.requests.clear()
        assert action(paths if action is remove_remote else f"{store.root}/many/") == found
        assert len(proxy.requests) == 2
    assert match(f"{store.root}/many/") == []


def test_conditions(folder: str) -> None:
    path = f"{folder}/lock"
    assert read_version(path) == (b"", None)
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


def test_what_fails_is_tried_again_with_a_line_each(
    faulty: tuple[FaultyProxy, Store], caplog: pytest.LogCaptureFixture
) -> None:
    proxy, store = faulty
    a, b = (f"{store.root}/often/{name}" for name in "ab")
    listings = list[list[str]]()

    def fault(method: str, _: str) -> int | str | None:
        if len(proxy.failed) >= least or (status in ("cut", "lost") and method != "PUT"):
            return None
        listings.append(store.keys(f"{store.root}/often") if status == "cut" else [])
        return status

    for status, least, action, found in (  # noqa: B007 (the fault's)
        ("cut", 2, lambda: write(a, BIG), None),
        (500, 20, lambda: write(b, BIG), None),
        (503, 6, lambda: read(b), BIG),
        (500, 6, lambda: match(f"{store.root}/often"), [(a, len(BIG)), (b, len(BIG))]),
        (429, 6, lambda: match(a), [(a, len(BIG))]),
        (503, 6, lambda: move(a, b), None),
        (503, 6, lambda: read_version(b)[0], BIG),
        (503, 6, lambda: remove_remote([a, b]), None),
        # A writer whose answer is lost finds its own object.
        ("lost", 1, lambda: create(f"{store.root}/winner", b"00000-a"), True),
        (503, 1, lambda: create(f"{store.root}/winner", b"00000-b"), False),
    ):
        proxy.failed.clear()
        caplog.clear()
        proxy.fault = fault
        assert action() == found
        assert len(proxy.failed) >= least
        lines = [record.getMessage() for record in caplog.records if record.name == "alignset"]
        assert lines or least < 3  # boto3 has some patience of its own
        assert all(re.search(r"; trying again in \d+ s$", line) for line in lines)
    assert not any(listings)  # half an object is never seen


def test_what_is_forbidden_is_not_tried_again(faulty: tuple[FaultyProxy, Store]) -> None:
    proxy, store = faulty
    proxy.fault = lambda *_: 403
    path = f"{store.root}/forbidden"
    for action in (lambda: write(path, b"a"), lambda: match(f"{path}/*"), lambda: read(path)):
        proxy.requests.clear()
        with pytest.raises(RemoteError, match=r"^s3://.*AccessDenied"):
            action()
        assert len(proxy.requests) == 1


def test_which_errors_may_pass() -> None:
    for status, passes in ((500, True), (503, True), (429, True), (408, True), (403, False)):
        refused = {"ResponseMetadata": {"HTTPStatusCode": status}}
        assert may_pass(ClientError(refused, "GetObject")) == passes
        assert may_pass(RemoteError("a", status)) == passes
    for error in (ConnectionResetError("reset"), TimeoutError(), http.client.IncompleteRead(b"")):
        assert may_pass(error)
    assert may_pass(URLError(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")))
    no_host = URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    for error in (OSError(errno.ENOSPC, "No space left"), FileNotFoundError("a"), no_host):
        assert not may_pass(error)


def test_a_client_is_made_once_and_a_fork_makes_its_own(s3: Store) -> None:
    with options_of(s3):
        client = stores.client("s3")
        assert stores.client("s3") is client
        if not (fork := os.fork()):
            os._exit(stores.client("s3") is client)
        assert os.waitpid(fork, 0)[1] == 0


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (exists, "hdfs://host.example/a: hdfs:// cannot be read here; pass a path of this machine"),
        (lambda _: write("https://host.example/a", b""), "a: https:// can only be read"),
        (lambda _: read("https://no-such.invalid/a"), "a: <urlopen error [Errno -2] Name or"),
    ],
)
def test_places_that_cannot_be_reached(action, why: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RemoteError, match=re.escape(why)):
        action("hdfs://host.example/a")
    assert not caplog.records  # nothing is tried again


@pytest.fixture
def web(tmp_path: Path) -> Iterator[ShardServer]:
    for name, body in FILES.items():
        (tmp_path / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "web" / name).write_bytes(body)
    with shard_server(tmp_path / "web") as server:
        yield server


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("cuts", [[], [2000, 100, 0, 9000] * 3])
def test_a_file_of_a_web_server_is_read_at_any_place(
    web: ShardServer, ranges: bool, cuts: list[int], no_waits: None
) -> None:
    web.ranges, url = ranges, f"{web.url}/b.bin"
    for name, body in FILES.items():
        if "/" not in name:
            assert match(f"{web.url}/{name}") == [(f"{web.url}/{name}", len(body))]
            assert read(f"{web.url}/{name}") == body
    assert exists(url)
    assert match(f"{web.url}/no.bin") == []
    with pytest.raises(FileNotFoundError, match=r"there is no http://.*/no\.bin"):
        open_to_read(f"{web.url}/no.bin")
    assert read(f"{web.url.replace('://', '://me:p%20w@')}/secret/b.bin") == BODY
    web.cuts = cuts
    with open_to_read(url) as file:
        file.seek(7000)
        assert file.read(7) == BODY[7000:7007]
        file.seek(0)
        assert file.read() == BODY


def test_bytes_are_not_unpacked_on_the_way(web: ShardServer, s3: Store) -> None:
    packed = gzip.compress(BODY)
    (web.folder / "a.gz").write_bytes(packed)
    assert read(f"{web.url}/a.gz") == packed
    s3.client().put_object(Bucket=BUCKET, Key="packed", Body=packed, ContentEncoding="gzip")
    with options_of(s3):
        assert read(f"{s3.root}/packed") == packed


def test_files_of_the_hub(web: ShardServer, tmp_path: Path) -> None:
    with hub_of(web) as root:
        assert match(f"{root}/*.csv") == match(f"{root}/no.parquet") == []
        assert match(f"{root}/a/**") == [(f"{root}/a/in.csv", len(PAIR))]
        assert len(match(root)) == len(FILES)
        assert exists(f"{root}/b.bin")
        assert not exists(f"{root}/manifest.json")
        with open_to_read(f"{root}/b.bin") as file:
            file.seek(7000)
            assert file.read(7) == BODY[7000:7007]
        succeed(f"{root}/a", tmp_path / "out", "--text_only", "--language=")


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("silent", "timed out"),
        ("a", f"cut off after 3 of {len(PAIR)} bytes"),
        ("circle", "infinite loop"),
        ("403", "HTTP Error 403: Forbidden"),
        ("429", "HTTP Error 429: Too Many Requests"),
        ("endless", "and its host sends it only whole: download it, and pass the file"),
        ("trickle", "comes too slowly: download it, and pass the file"),
    ],
)
def test_a_host_that_sends_no_file_is_told(
    web: ShardServer, place: str, why: str, no_waits: None, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stores, "SILENCE_S", 0.2 if place == "silent" else 20.0)
    monkeypatch.setattr(stores, "SLOW_S", 0.3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9 << 20))
    web.cuts, web.status, web.ranges = [3] * 99, int(place) if place.isdigit() else 200, False
    url = f"{web.url}/{place}/in.csv"
    for read_url in (match, read)[place in ("a", "trickle") :]:
        with pytest.raises(OSError, match=re.escape(url)) as error:
            read_url(url)
        assert why in str(error.value)
    ended = run(url, tmp_path / "out", "--text_only")
    assert ended.status == 1
    assert why in ended.err.splitlines()[-1]
    assert url in ended.err.splitlines()[-1]


def test_odd_hosts_and_answers(no_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
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

    fields = {"Content-Range": "bytes 0-9/\xb2"}  # int("\xb2") fails
    odd = SimpleNamespace(
        status=206, headers=fields, read1=io.BytesIO(b"body").read1, close=lambda: None
    )
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: odd)
    assert stores.Web().open_at(url).size is None
