"""Whole runs that a signal ends while they wait: the same command resumes."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import digests, run, run_args
from tests.support.forks import Forked, start
from tests.support.golden_run import Golden
from tests.support.small_web import PATIENT, SmallWeb

pytestmark = pytest.mark.slow
LONG_S = 120  # for what takes some seconds and, where it does not end, takes for ever
SAID = "beam_runner.py: stopped; the same command resumes from the last finished shard\n"


@pytest.fixture
def started() -> Iterator[Callable[..., Forked]]:
    processes: list[Forked] = []

    def begin(*command: str) -> Forked:
        processes.append(start(*command))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def workers(of: int) -> list[int]:
    """The processes of Beam's workers that a command has started."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            pid = int(path.parent.name)
            if (
                b"sdk_worker_main" in path.read_bytes()
                and int((path.parent / "stat").read_text().split()[3]) == of
            ):
                processes.append(pid)
        except OSError:  # it has ended
            pass
    return processes


def test_worker_processes_end_with_their_run(
    plain: Golden, web: SmallWeb, started: Callable, tmp_path: Path
):
    output, begun = tmp_path / "set", len(web.requests)
    args = (f"--input={plain.pairs}", f"--output={output}", *plain.flags, "--connections=4")
    more = ("--direct_num_workers=2", "--direct_running_mode=multi_processing", *PATIENT)
    with web.holding_after(10):
        process = started("alignset.beam_runner:main", *args, *more)
        until = time.monotonic() + LONG_S
        while len(web.requests) < begun + 10:
            assert time.monotonic() < until
            time.sleep(0.01)
        at_work = workers(process.pid)
        assert len(at_work) >= 2
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err.endswith(SAID)) == (1, True), err
    while any(Path(f"/proc/{worker}/exe").exists() for worker in at_work):
        assert time.monotonic() < until
        time.sleep(0.05)
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
        process = started("alignset.beam_runner:main", *args, *more, "--environment_type=LOOPBACK")
        connections = [silent.accept()[0] for _ in range(2)]  # one to see whether it is there
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LONG_S)
        for connection in connections:
            connection.close()
    assert (process.returncode, err.endswith(SAID)) == (1, True), err
    assert run(plain.pairs, tmp_path / "set", *plain.flags).status == 0
    assert digests(tmp_path / "set") == digests(plain.output)
