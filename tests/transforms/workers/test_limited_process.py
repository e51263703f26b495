"""Functions called in child processes: what they return and raise, and the limits that end them."""

import ctypes
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from alignset.transforms.workers import limited_process as module
from alignset.transforms.workers.limited_process import (
    CHECKED,
    ChildError,
    CostlyError,
    CrashError,
    Limits,
    OvertimeError,
    RaisedError,
    call_limited,
)
from alignset.transforms.workers.threads import Jobs, Results, SharedThreads

AMPLE = Limits(30.0, 1 << 30)


def reversed_parts(body: bytes) -> list[bytes]:
    return [body[::-1], b"", str(os.getpid()).encode()]


def raise_cut(body: bytes) -> list[bytes]:
    raise EOFError(f"cut after {len(body)} bytes")


def wait_for_ever(_: bytes) -> list[bytes]:
    signal.pause()
    return []


def burn(body: bytes) -> list[bytes]:
    while True:
        pass


def fill(body: bytes) -> list[bytes]:
    return [bytes(1 << 30)]


def fill_by_pages(body: bytes) -> list[bytes]:
    return [str(len(mmap.mmap(-1, 1 << 30))).encode()]


def crash(body: bytes) -> list[bytes]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def write_past_a_block(body: bytes) -> list[bytes]:
    """As a decoder may; by the usual allocator nothing happens, or much later."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    blocks = [ctypes.c_void_p(libc.malloc(200)) for _ in range(2)]
    ctypes.memset(blocks[0], 7, 201)
    for block in blocks:
        libc.free(block)
    return []


def leave(body: bytes) -> list[bytes]:
    os._exit(3)


def close_pipes(body: bytes) -> list[bytes]:
    os.closerange(3, 64)
    signal.pause()
    return []


def crash_once(body: bytes) -> list[bytes]:
    """Dies where its marker file is there, and removes it."""
    path = body.decode()
    if os.path.exists(path):
        os.remove(path)
        os.kill(os.getpid(), signal.SIGABRT)
    return [b"lives"]


def test_parts_and_errors_come_back_from_one_process_that_stays() -> None:
    body = os.urandom(3 << 20)  # more than a pipe holds
    first = call_limited(reversed_parts, body, AMPLE)
    assert first[:2] == [body[::-1], b""]
    assert int(first[2]) != os.getpid()
    with pytest.raises(RaisedError, match="cut after 3 bytes") as raised:
        call_limited(raise_cut, b"abc", AMPLE)
    assert raised.value.kind == "EOFError"
    assert call_limited(reversed_parts, b"", AMPLE)[2] == first[2]
    os.kill(int(first[2]), signal.SIGKILL)  # one that dies while it is idle costs nothing
    parts = call_limited(reversed_parts, b"xyz", AMPLE)
    assert parts[0] == b"zyx"
    assert parts[2] != first[2]


@pytest.mark.parametrize(
    ("function", "limits", "error", "said"),
    [
        (burn, Limits(0.2, 1 << 30), OvertimeError, None),
        (wait_for_ever, Limits(0.2, 1 << 30), OvertimeError, None),
        (fill, Limits(30.0, 1 << 26), CostlyError, None),
        (fill_by_pages, Limits(30.0, 1 << 26), CostlyError, None),
        (crash, AMPLE, CrashError, "Segmentation fault"),
        (leave, AMPLE, ChildError, "status 3"),
        (close_pipes, AMPLE, CrashError, "Killed"),
    ],
)
def test_what_goes_wrong_costs_only_the_call(
    function: module.Function,
    limits: Limits,
    error: type[Exception],
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 1.0 if function is wait_for_ever else 300.0)
    begun = time.process_time()
    with pytest.raises(error, match=said) as raised:
        call_limited(function, b"", limits)
    assert raised.type is error
    assert time.process_time() - begun < 10  # of this process, which waits
    assert len(call_limited(fill, b"", Limits(30.0, 5 << 28))[0]) == 1 << 30  # for one call alone


def test_a_crash_is_tried_again_in_a_new_process(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    assert call_limited(crash_once, str(marker).encode(), AMPLE) == [b"lives"]


def test_a_checked_child_dies_of_what_it_writes_past_a_block() -> None:
    """The child ends when its pool is closed."""
    with pytest.raises(CrashError, match="Aborted"):
        call_limited(write_past_a_block, b"", AMPLE, CHECKED)
    pid = int(call_limited(reversed_parts, b"", AMPLE, CHECKED)[2])
    CHECKED.end_idle()
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_cannot_start_is_no_fault_of_the_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHILDREN", module.Children())
    for wrong, says in (("/bin/false", "status 1"), ("/nowhere", "can be started")):
        monkeypatch.setattr(sys, "executable", wrong)
        with pytest.raises(ChildError, match=says):
            call_limited(reversed_parts, b"", AMPLE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(ChildError, match="Too many open files"):
            call_limited(reversed_parts, b"", AMPLE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_threads_share_a_few_processes() -> None:
    bodies = [bytes([n]) * 1000 for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda body: call_limited(reversed_parts, body, AMPLE), bodies)]
    assert [answer[0] for answer in answers] == bodies
    assert len({bytes(answer[2]) for answer in answers}) <= module.THREADS


def test_a_fork_starts_children_of_its_own() -> None:
    pid = bytes(call_limited(reversed_parts, b"", AMPLE)[2])
    reading, writing = os.pipe()
    fork = os.fork()
    if not fork:
        os.write(writing, bytes(call_limited(reversed_parts, b"", AMPLE)[2]))
        os._exit(0)
    assert os.waitpid(fork, 0)[1] == 0
    assert os.read(reading, 100) not in (b"", pid)
    assert bytes(call_limited(reversed_parts, b"", AMPLE)[2]) == pid


def test_no_module_comes_from_the_folder_of_the_user(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a dataset of somebody else."""
    for name in ("resource", "struct", "PIL"):
        Path(tmp_path, f"{name}.py").write_text(f"open({str(tmp_path)!r} + '/ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "CHILDREN", module.Children())
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    assert call_limited(reversed_parts, b"ab", AMPLE)[0] == b"ba"
    assert not Path(tmp_path, "ran").exists()


def test_many_open_files_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHILDREN", module.Children())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        assert call_limited(reversed_parts, b"ab", AMPLE)[0] == b"ba"
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stopped_work_waits_for_no_child() -> None:
    """Also in the threads that work for it."""
    begun, raised = Event(), list[type]()

    def call() -> None:
        begun.set()
        try:
            call_limited(burn, b"", Limits(60.0, 1 << 30))
        except BaseException as error:
            raised.append(type(error))
            raise

    def work() -> Iterator[None]:
        jobs = Jobs(SharedThreads())
        try:
            jobs.begin(call)
            yield from jobs.wait_until_done()
        finally:
            jobs.cancel()

    with ThreadPoolExecutor(1) as pool:
        results = Results(pool, work)
        assert begun.wait(60)
        results.stop()
        results.wait()
    assert raised == [ChildError]  # and no CostlyError, after 60 s
