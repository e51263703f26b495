"""Whole runs that a signal ends while they wait: the same command resumes."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import digests, run
from tests.support.forks import Forked, start
from tests.support.golden_run import Golden

pytestmark = pytest.mark.slow
LONG_S = 120  # for what takes some seconds and, where it does not end, takes for ever
SAID = "beam_runner.py: stopped; run the same command again\n"


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
