"""One run at a time on an output, on this machine and in an object store."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.run_lock import LOCK, Lease, Lock, take_lock
from alignset.transforms.storage.files import exists, write_atomically
from alignset.transforms.storage.object_stores import put_if, read_version
from tests.support.forks import start
from tests.support.stores import Store, chosen_store, faulty_proxy


@pytest.fixture
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    return chosen_store(request, monkeypatch)


@pytest.fixture
def path(store: Store, request: pytest.FixtureRequest) -> Iterator[str]:
    before = FileSystems._pipeline_options
    FileSystems.set_options(PipelineOptions(list(store.flags)))
    yield f"{store.root}/{request.node.originalname}/_temporary/_lock"
    FileSystems.set_options(before)


def written_by_another_machine(path: str) -> str:
    body = {"run": "x", "host": "elsewhere", "processes": "", "pid": 7, "renewals": 1}
    while True:  # a lease that is there may be renewed meanwhile
        there = read_version(path)
        if made := put_if(path, json.dumps(body).encode(), there.version if there else None):
            return made


@pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
def test_a_lease_keeps_others_out_until_it_is_released(path: str):
    lease = Lease(path, lease_s=0.8)
    with pytest.raises(UsageError, match=r"another run is writing to \w\w://bucket/test\w+ \("):
        Lease(path, lease_s=0.8)
    lease.check()
    lease.release()
    assert not exists(path)
    Lease(path, lease_s=0.8).release()


@pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
def test_a_lease_that_is_not_renewed_is_taken_over(path: str):
    written_by_another_machine(path)
    begun = time.monotonic()
    lease = Lease(path, lease_s=1.0)
    assert time.monotonic() - begun >= 1.0
    lease.check()
    lease.release()


def take_a_lease(words: list[str]) -> None:
    path, *flags = words
    FileSystems.set_options(PipelineOptions(flags))
    Lease(path)
    os._exit(9)


def test_a_lease_of_a_process_here_that_is_no_more_is_taken_over_at_once(path: str, store: Store):
    assert start(f"{__name__}:take_a_lease", path, *store.flags).wait() == 9
    assert exists(path)
    Lease(path, lease_s=1000.0).release()  # longer than a test may take


@pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
def test_a_run_that_lost_its_lease_is_told(path: str):
    lease = Lease(path, lease_s=0.8)
    version = written_by_another_machine(path)
    with pytest.raises(RuntimeError, match="another run took"):
        check_until_told(lease)
    lease.release()
    now = read_version(path)
    assert now
    assert now.version == version, "the other's lease must stay"


def check_until_told(lease: Lease) -> None:
    """Its thread sees at the next renewal that it is lost."""
    while True:
        lease.check()
        time.sleep(0.05)


def test_a_lease_of_a_process_that_is_ending_is_taken_over_when_it_has(
    path: str, monkeypatch: pytest.MonkeyPatch
):
    slept = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: slept(min(s, 0.2)))  # it would look each 28 s
    ending = subprocess.Popen(["sleep", "2"])
    here = {"host": socket.gethostname(), "processes": os.readlink("/proc/self/ns/pid")}
    body = {"run": "x", "renewals": 1, "pid": ending.pid} | here
    assert put_if(path, json.dumps(body).encode(), None)
    threading.Thread(target=ending.wait).start()
    Lease(path, lease_s=330.0).release()  # longer than a test may take
    assert ending.returncode == 0


def test_a_write_whose_answer_was_lost_counts(store: Store, path: str):
    """The store did it and said 500; tried again, the condition does not hold any more."""
    with faulty_proxy(store) as (proxy, through):
        FileSystems.set_options(PipelineOptions(list(through.flags)))
        proxy.lose_answer = lambda method, _: method == "PUT" and not proxy.failed
        lease = Lease(path, lease_s=30.0)
        assert len(proxy.failed) == 1
        assert [m for m, p in proxy.requests if "_lock" in p].count("PUT") == 2
        lease.check()
        lease.release()
        assert not exists(path)


def test_what_is_no_lease_of_ours_is_taken_over_in_time(path: str):
    write_atomically(path, lambda sink: sink.write(b"no JSON"))
    Lease(path, lease_s=0.6).release()


def test_a_store_without_conditions_is_said(caplog: pytest.LogCaptureFixture):
    lock = take_lock("mem://bucket/set/_temporary")
    lock.check()
    lock.release()
    assert "cannot be locked" in caplog.text


def test_a_lock_of_a_process_that_is_ending_is_waited_for(tmp_path: Path):
    """A killed process is gone some time after the kill: it gives its memory back first."""
    work = str(tmp_path / "set" / "_temporary")
    lock = take_lock(work)
    threading.Timer(1.0, lock.release).start()
    take_lock(work).release()


def test_a_local_folder(tmp_path: Path):
    work = str(tmp_path / "set" / "_temporary")
    lock = take_lock(work)
    with pytest.raises(UsageError, match=f"another run is writing to {tmp_path}/set; wait"):
        take_lock(work)
    lock.release()
    take_lock(work).release()


def test_who_waits_for_a_run_that_takes_its_folder_away_has_the_new_one(tmp_path: Path):
    """Else it would write to a folder that is gone, and keep nobody out."""
    work = tmp_path / "_temporary"
    first, others = take_lock(str(work)), list[Lock]()
    waiting = threading.Thread(target=lambda: others.append(take_lock(str(work))))
    waiting.start()
    time.sleep(0.2)  # it has opened the file of the first
    (work / LOCK).unlink()
    work.rmdir()
    first.release()
    waiting.join()
    assert (work / LOCK).exists()
    with pytest.raises(UsageError, match="another run is writing"):
        take_lock(str(work))
    others[0].release()
    take_lock(str(work)).release()
