"""Whole runs that hang where nothing of Python can stop them: a signal ends them all the same, and
the same command goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import ROOT, digests, run, run_args
from tests.support.golden_run import Golden
from tests.support.small_web import SmallWeb

LONG_S = 120  # for what takes some seconds and, where it does not end, takes for ever
SAID = "beam_runner.py: stopped; the same command goes on from here\n"
# The command, in which a function hangs, or the import of a module where none is named. A module of
# its own: what Beam pickles of `__main__` has lost its globals.
HANGING = """
import importlib, sys
from collections import deque
from itertools import repeat
import beam_runner

where, name, how = sys.argv[1:4]
main = beam_runner.main

def in_c_with_the_lock():
    deque(repeat(None), maxlen=0)

def in_a_kernel():
    import numba, numpy
    @numba.njit(nogil=True)
    def count(numbers):
        while numbers[0] < 1:
            numbers[1] += 1
    count(numpy.zeros(2))

def hang(*_, **__):
    print("hangs", flush=True)
    globals()[how]()

class Finder:
    def find_spec(self, wanted, *_):
        if wanted == where:
            hang()

def hanging(argv, _):
    if name:
        setattr(importlib.import_module(where), name, hang)
    else:
        sys.meta_path.insert(0, Finder())
    return main(argv)

def start():
    beam_runner.main = hanging
    sys.exit(beam_runner.stoppable_main(sys.argv[4:]))
"""


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen]]:
    processes: list[subprocess.Popen] = []

    def start(*command: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("where", "name", "how", "signum"),
    [
        ("pipeline.options", "", "in_c_with_the_lock", signal.SIGINT),
        ("pipeline.curate", "read_split", "in_a_kernel", signal.SIGTERM),  # in a thread
        ("pipeline.run", "curate_images", "in_a_kernel", signal.SIGINT),  # in the main one
        ("transforms.shards.build_shard", "fetch_all", "in_c_with_the_lock", signal.SIGTERM),
        ("transforms.shards.measure_images", "examine_all", "in_a_kernel", signal.SIGTERM),
    ],
)
def test_a_run_that_hangs_is_ended_and_goes_on(
    plain: Golden, started: Callable, tmp_path: Path, where: str, name: str, how: str, signum: int
):
    output = tmp_path / "set"
    args = (f"--input={plain.pairs}", f"--output={output}", *plain.flags)
    (tmp_path / "hanging.py").write_text(HANGING)
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import hanging as h; h.start()"
    process = started("-c", first, where, name, how, *args)
    assert process.stdout.readline() == "hangs\n"
    time.sleep(0.5)  # until it is in what it hangs in
    process.send_signal(signum)
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err.endswith(SAID)) == (1, True), err
    assert run(plain.pairs, output, *plain.flags).status == 0
    assert digests(output) == digests(plain.output)


def workers(of: int) -> list[int]:
    """The processes of Beam's workers that a command has started."""
    (run,) = Path(f"/proc/{of}/task/{of}/children").read_text().split()
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            pid = int(path.parent.name)
            if b"sdk_worker_main" in path.read_bytes() and os.getpgid(pid) == int(run):
                processes.append(pid)
        except OSError:  # it has ended
            pass
    return processes


def test_processes_that_answer_no_more_end_with_their_run(
    plain: Golden, web: SmallWeb, started: Callable, tmp_path: Path
):
    output, begun = tmp_path / "set", len(web.requests)
    args = (f"--input={plain.pairs}", f"--output={output}", *plain.flags, "--connections=4")
    more = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    web.delay_s = 0.05
    process = started("beam_runner.py", *args, *more)
    until = time.monotonic() + LONG_S
    while len(web.requests) < begun + 10:
        assert time.monotonic() < until
        time.sleep(0.01)
    at_work = workers(process.pid)
    assert len(at_work) >= 2
    for worker in at_work:
        os.kill(worker, signal.SIGSTOP)
    web.delay_s = 0.0
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err.endswith(SAID)) == (1, True), err
    assert [worker for worker in at_work if Path(f"/proc/{worker}/exe").exists()] == []
    assert run_args(*args).status == 0
    assert digests(output) == digests(plain.output)


def test_a_job_service_that_says_nothing_holds_no_command_up(
    plain: Golden, started: Callable, tmp_path: Path
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LONG_S)
        port = silent.getsockname()[1]
        args = (f"--input={plain.pairs}", f"--output={tmp_path}/set", *plain.flags)
        more = ("--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}")
        process = started("beam_runner.py", *args, *more, "--environment_type=LOOPBACK")
        connections = [silent.accept()[0] for _ in range(2)]  # one to see whether it is there
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LONG_S)
        for connection in connections:
            connection.close()
    assert (process.returncode, err.endswith(SAID)) == (1, True), err
    assert run(plain.pairs, tmp_path / "set", *plain.flags).status == 0
    assert digests(tmp_path / "set") == digests(plain.output)
