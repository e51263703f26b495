"""One run at a time on an output: on this machine by a file lock, in object stores by a lease."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs import run_lock
from alignset.pipeline.runs.run_lock import LOCK, Lock, take_lock
from alignset.signals import run_main
from alignset.transforms.storage.files import exists, is_local, write_atomically
from alignset.transforms.storage.stores import put_if, read_version
from tests.support.forks import Forked, start
from tests.support.stores import chosen_store, options_of

LONG_S = 1000.0  # longer than a test may take
TAKEN = (
    r"another run is writing to \S+/set: process (\d+) on (\S+), since 20[-\d]+ [\d:]+ UTC; wait"
)


@pytest.fixture(params=["local", "s3", "gs"])
def work(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Iterator[str]:
    """The working folder of a run, of each kind."""
    with ExitStack() as stack:
        root = str(tmp_path)
        if request.param != "local":
            store = chosen_store(request, monkeypatch)
            stack.enter_context(options_of(store))
            root = f"{store.root}/{request.node.originalname}"
        yield f"{root}/set/_temporary"


def hold(words: list[str]) -> int:
    """A command that holds an output for ever."""
    work, run, lease_s = words
    run_lock.LEASE_S = float(lease_s)

    def held(*_: object) -> int:
        try:
            lock = take_lock(work, run)
        except UsageError as error:
            print(error, flush=True)
            return 2
        while True:
            print(f"{lock.holder['run']} has it", flush=True)
            time.sleep(1)

    return run_main(held, "hold", [])


@pytest.fixture
def begin(work: str) -> Iterator[Callable[..., Forked]]:
    runs: list[Forked] = []

    def begun(run: str, lease_s: float) -> Forked:
        runs.append(start(f"{__name__}:hold", work, run, lease_s))
        return runs[-1]

    yield begun
    for one in runs:
        one.kill()
        one.communicate()


def test_of_two_starts_one_is_refused_and_a_killed_one_is_replaced_at_once(
    work: str, begin: Callable[..., Forked], monkeypatch: pytest.MonkeyPatch
):
    runs = [begin(name, 2.0) for name in ("one", "two")]
    said = [run.stdout.readline() for run in runs if run.stdout]
    winner = next(n for n, line in enumerate(said) if line.endswith(" has it\n"))
    refused = re.match(TAKEN, said[1 - winner])
    assert refused, said
    assert refused.groups() == (str(runs[winner].pid), socket.gethostname())
    assert runs[1 - winner].wait() == 2

    runs[winner].kill()
    assert runs[winner].wait() == -signal.SIGKILL
    monkeypatch.setattr(run_lock, "LEASE_S", LONG_S)
    third, dead = take_lock(work, "third"), ["one", "two"][winner]
    assert third.holder["earlier"] == [dead]
    third.check()
    third.release()  # with work left to do
    fourth = take_lock(work, "fourth")
    assert fourth.holder["earlier"] == [dead, "third"]
    fourth.release(done=True)
    assert exists(f"{work}/{LOCK}") == is_local(work)  # there the whole folder is removed before


def test_a_run_that_is_paused_keeps_a_file_and_loses_a_lease(
    work: str, begin: Callable[..., Forked], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_lock, "ENDING_S", 0.1)
    monkeypatch.setattr(run_lock, "LEASE_S", 1.0)
    paused = begin("paused", 1.0)
    assert paused.stdout
    assert paused.stdout.readline() == "paused has it\n"
    paused.send_signal(signal.SIGSTOP)
    if is_local(work):
        with pytest.raises(UsageError, match=f"process {paused.pid} on"):
            take_lock(work, "second")
        return
    second = take_lock(work, "second")
    paused.send_signal(signal.SIGCONT)
    _, err = paused.communicate()
    assert paused.returncode == 1
    assert err.startswith(f"another run took {work.removesuffix('/_temporary')} over: this one sto")
    second.check()
    # Else this process is stopped, where the lease is renewed before the next lines.
    monkeypatch.setattr("_thread.interrupt_main", lambda _: None)
    other = take_lock_of_another(work)
    with pytest.raises(RuntimeError, match=r"another run took \S+/set over"):
        second.check()
    second.release(done=True)
    _, now = read_version(f"{work}/{LOCK}")
    assert now == other, "what another has taken over stays"


def take_lock_of_another(work: str, body: bytes = b"", **fields: object) -> str:
    """Writes the lease of a run on another machine; returns its version."""
    holder = {"run": "other", "host": "elsewhere", "process": 7, "namespace": ""}
    body = body or json.dumps(holder | fields).encode()
    if is_local(work):
        write_atomically(f"{work}/{LOCK}", lambda sink: sink.write(body))
        return ""
    _, there = read_version(f"{work}/{LOCK}")
    version = put_if(f"{work}/{LOCK}", body, there)
    return version or take_lock_of_another(work, body)  # it was renewed just then


def test_who_is_silent_elsewhere_is_taken_over_in_time(work: str, monkeypatch: pytest.MonkeyPatch):
    """Also one of an earlier version, and where the system has no /proc."""

    def missing(_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(run_lock, "LEASE_S", 0.3)
    old = b'{"run": "other", "renewals": 3, "pid": 7, "host": "elsewhere", "processes": ""}'
    for body in (b"", old, b"no JSON", b"7", b'{"run": "other", "earlier": 7}'):
        take_lock_of_another(work, body)
        begun = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(os, "readlink", missing)
            lease = take_lock(work, "next")
        assert is_local(work) or time.monotonic() - begun >= 0.3
        assert lease.holder["earlier"] == (["other"] if body in (b"", old) else [])
        lease.release(done=True)


@pytest.mark.parametrize("work", ["s3"], indirect=True)
def test_who_is_dead_here_is_taken_over_without_delay(work: str, monkeypatch: pytest.MonkeyPatch):
    """Also where its parent takes no note, as the first process of a container may not."""
    here = {"host": socket.gethostname(), "namespace": os.readlink("/proc/self/ns/pid")}
    slept = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: slept(min(s, 0.1)))
    monkeypatch.setattr(run_lock, "LEASE_S", LONG_S)
    for ends_s in ("0", "1"):  # on its way, when it is looked at first
        with subprocess.Popen(["sleep", ends_s]) as ending:
            take_lock_of_another(work, process=ending.pid, **here)
            take_lock(work, "next").release(done=True)
            assert ending.returncode is None, "nobody has waited for it"


def test_who_waits_for_a_run_that_takes_its_folder_away_has_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else it would write to a folder that is gone, and keep nobody out. A process that is killed
    is gone some time after: it gives its memory back first."""
    monkeypatch.setattr(run_lock, "ENDING_S", LONG_S)
    work = tmp_path / "_temporary"
    first, others = take_lock(str(work), "first"), list[Lock]()
    waiting = threading.Thread(target=lambda: others.append(take_lock(str(work), "second")))
    waiting.start()
    time.sleep(1)  # it has opened the file of the first
    (work / LOCK).unlink()
    work.rmdir()
    first.release()
    waiting.join()
    monkeypatch.setattr(run_lock, "ENDING_S", 0.1)
    assert json.loads((work / LOCK).read_text()) == others[0].holder
    with pytest.raises(UsageError, match="another run is writing"):
        take_lock(str(work), "third")
    others[0].release()
    (work / LOCK).write_bytes(b"\0" * 200)  # the power failed
    take_lock(str(work), "third").release()
