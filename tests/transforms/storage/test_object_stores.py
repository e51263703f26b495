"""Objects in real stores on loopback, S3's behind a proxy that fails at will."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from botocore.exceptions import ClientError
from google.cloud.storage import Blob

from alignset.transforms.storage.files import (
    exists,
    local_copy,
    match,
    move,
    open_to_read,
    publish,
    write_atomically,
)
from alignset.transforms.storage.object_stores import (
    has_conditions,
    may_pass,
    put_if,
    read_version,
    remove_objects,
)
from tests.support.memory_files import read
from tests.support.stores import FaultyProxy, Store, chosen_store, faulty_proxy, options_of

BIG = os.urandom(9_000_000)  # more than boto3 sends at once


@pytest.fixture
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    return chosen_store(request, monkeypatch)


@pytest.fixture(params=["s3", "gs"])
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    store = chosen_store(request, monkeypatch)
    with options_of(store):
        yield f"{store.root}/{abs(hash(request.node.name))}"


@pytest.fixture
def faulty(s3: Store) -> Iterator[tuple[FaultyProxy, Store]]:
    with faulty_proxy(s3) as (proxy, store), options_of(store):
        yield proxy, store


@pytest.mark.parametrize("body", [b"", b"a dog", BIG], ids=["empty", "small", "in parts"])
def test_what_is_written_is_read(folder: str, tmp_path: Path, body: bytes):
    path = f"{folder}/deeper/a.bin"
    assert not exists(path)
    write_atomically(path, lambda sink: sink.write(body))
    assert exists(path)
    assert not exists(f"{folder}/deeper")  # no folder is an object
    assert read(path) == body
    (tmp_path / "made").write_bytes(body)
    publish(tmp_path / "made", f"{folder}/b")
    assert Path(local_copy(f"{folder}/b")).read_bytes() == body
    assert match(folder) == [(f"{folder}/b", len(body)), (path, len(body))]


def test_parts_of_two_files_are_read_at_once(folder: str):
    for name, body in (("a", BIG), ("b", b"b" * 99)):
        write_atomically(f"{folder}/{name}", lambda sink, body=body: sink.write(body))
    with open_to_read(f"{folder}/a") as a, open_to_read(f"{folder}/b") as b:
        a.seek(8_000_000)
        assert (a.read(10), b.read(3)) == (BIG[8_000_000:8_000_010], b"bbb")
        a.seek(5)
        assert (a.read(10), b.read()) == (BIG[5:15], b"b" * 96)


def test_what_is_not_there(folder: str):
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_to_read(f"{folder}/nothing")
    with pytest.raises(FileNotFoundError, match="is gone, and"):
        move(f"{folder}/nothing", f"{folder}/a")
    assert match(folder) == []


def test_a_write_that_fails_leaves_what_was_there(folder: str):
    def half(sink) -> None:
        sink.write(BIG[:8_500_000])
        raise RuntimeError("killed")

    write_atomically(f"{folder}/old", lambda sink: sink.write(b"whole"))
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="killed"):
            write_atomically(f"{folder}/{name}", half)
    assert [path for path, _ in match(folder)] == [f"{folder}/old"]
    assert read(f"{folder}/old") == b"whole"


def test_a_file_is_moved_and_stays_and_a_folder_is_deleted_with_all_in_it(folder: str):
    for name in ("plan/a", "plan/b/c", "planned"):
        write_atomically(f"{folder}/{name}", lambda sink: sink.write(b"12345678"))
    move(f"{folder}/plan/a", f"{folder}/b")
    assert read(f"{folder}/b") == read(f"{folder}/plan/a") == b"12345678"
    FileSystems.delete([f"{folder}/plan/"])
    assert match(folder) == [(f"{folder}/b", 8), (f"{folder}/planned", 8)]


@pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
def test_conditions(store: Store):
    path = f"{store.root}/conditions/lock"
    with options_of(store):
        assert has_conditions(path)
        assert read_version(path) is None
        first = put_if(path, b"1", None)
        assert first
        assert put_if(path, b"2", None) is None
        assert read_version(path) == (b"1", first)
        second = put_if(path, b"3", first)
        assert second
        assert put_if(path, b"4", first) is None
        assert read_version(path) == (b"3", second)
        assert put_if(f"{path}-gone", b"5", first) is None
        assert not exists(f"{path}-gone")
    assert not has_conditions("hdfs://a/b")


@pytest.mark.parametrize("store", ["gs"], indirect=True)
def test_what_is_replaced_while_it_is_read_is_read_as_it_is_now(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    """Of Google's store the version is asked first, and then for the bytes of this version."""
    path, download = f"{store.root}/replaced/lock", Blob.download_as_bytes
    with options_of(store):
        versions = [put_if(path, b"1", None)]

        def late(blob: Blob, **how: object) -> bytes:
            if len(versions) < 4:
                versions.append(put_if(path, b"%d" % len(versions), versions[-1]))
            return download(blob, **how)

        monkeypatch.setattr(Blob, "download_as_bytes", late)
        assert read_version(path) == (b"3", versions[3])
        assert len(set(versions)) == 4


@pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
def test_of_many_that_write_at_once_one_is_first(store: Store):
    path, won = f"{store.root}/race/lock", []

    def race(n: int) -> None:
        if put_if(path, b"%d" % n, None):
            won.append(b"%d" % n)

    with options_of(store):
        threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [read(path)] == won


def test_a_store_that_fails_is_tried_more_often_than_boto3_does(
    faulty: tuple[FaultyProxy, Store], monkeypatch: pytest.MonkeyPatch
):
    proxy, store = faulty
    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.01)))
    for status, body in ((500, BIG), (503, b"a")):
        path = f"{store.root}/often-{status}"
        proxy.failed.clear()
        proxy.fault = lambda *_, s=status: s if len(proxy.failed) < 20 else None
        write_atomically(path, lambda sink, body=body: sink.write(body))
        assert len(proxy.failed) >= 20
        assert read(path) == body


def test_to_list_and_to_remove_are_tried_again(
    faulty: tuple[FaultyProxy, Store], monkeypatch: pytest.MonkeyPatch
):
    proxy, store = faulty
    sleep = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.01)))
    paths = [f"{store.root}/listed/{name}" for name in "ab"]
    for path in paths:
        write_atomically(path, lambda sink: sink.write(b"a"))
    proxy.fault = lambda *_: 503 if len(proxy.failed) < 6 else None
    for look, found in (
        (lambda: match(f"{store.root}/listed"), [(path, 1) for path in paths]),
        (lambda: match(paths[0]), [(paths[0], 1)]),
        (lambda: match(f"{store.root}/listed/*"), [(path, 1) for path in paths]),
        (lambda: remove_objects(paths), None),
        (lambda: match(f"{store.root}/listed"), []),
    ):
        proxy.failed.clear()
        assert look() == found
        assert len(proxy.failed) == 6


def test_an_upload_that_is_cut_off_is_never_seen(faulty: tuple[FaultyProxy, Store]):
    proxy, store = faulty
    path = f"{store.root}/cut"
    listings: list[list[str]] = []

    def cut(method: str, _: str) -> str | None:
        if method != "PUT" or len(proxy.failed) >= 2:
            return None
        listings.append(store.keys(path.rpartition("/")[0] + "/cu"))
        return "cut"

    proxy.fault = cut
    write_atomically(path, lambda sink: sink.write(BIG))
    assert len(listings) >= 2  # parts go side by side: a third may be cut
    assert not any(listings)
    assert read(path) == BIG


@pytest.mark.slow
def test_a_read_that_is_cut_off_goes_on(faulty: tuple[FaultyProxy, Store]):
    proxy, store = faulty
    path = f"{store.root}/read"
    write_atomically(path, lambda sink: sink.write(BIG))
    proxy.fault = lambda method, _: 503 if method == "GET" and len(proxy.failed) < 8 else None
    assert read(path) == BIG
    assert len(proxy.failed) == 8


def test_what_is_forbidden_is_not_tried_again(faulty: tuple[FaultyProxy, Store]):
    proxy, store = faulty
    proxy.fault = lambda *_: 403
    with pytest.raises(Exception, match="AccessDenied"):
        write_atomically(f"{store.root}/forbidden", lambda sink: sink.write(b"a"))
    assert len(proxy.requests) == 1


def test_which_errors_may_pass():
    assert may_pass(ConnectionResetError("reset"))
    assert may_pass(TimeoutError())
    for status, passes in ((500, True), (503, True), (429, True), (408, True), (403, False)):
        refused = {"ResponseMetadata": {"HTTPStatusCode": status}}
        assert may_pass(ClientError(refused, "GetObject")) == passes
    for error in (OSError(28, "No space left on device"), FileNotFoundError("a"), ValueError("a")):
        assert not may_pass(error)
