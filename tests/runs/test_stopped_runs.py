"""Whole runs that a signal ends: the same command resumes."""

import signal
import socket
from pathlib import Path

import pytest

from tests.support.command import digests, run, run_fork, stop
from tests.support.forks import start
from tests.support.golden_run import Golden
from tests.support.small_web import PATIENT, SmallWeb

LONG_S = 120  # for what takes some seconds and, where it does not end, takes for ever
SAID = "beam_runner.py: stopped; "  # what follows depends on where the signal found the command


@pytest.mark.slow
def test_a_job_service_that_says_nothing_holds_no_command_up(plain: Golden, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LONG_S)
        port = silent.getsockname()[1]
        args = (f"--input={plain.pairs}", f"--output={tmp_path}/set", *plain.flags)
        more = ("--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}")
        process = start("alignset.beam_runner:main", *args, *more, "--environment_type=LOOPBACK")
        try:
            connection = silent.accept()[0]
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=LONG_S)
            connection.close()
        finally:
            process.kill()
    assert (process.returncode, err.splitlines()[-1][: len(SAID)]) == (1, SAID), err
    assert run(plain.pairs, tmp_path / "set", *plain.flags).status == 0
    assert digests(tmp_path / "set") == digests(plain.output)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_one_line_and_the_same_command_goes_on(
    plain: Golden, web: SmallWeb, tmp_path: Path, signum: signal.Signals
):
    output, begun = tmp_path / "set", len(web.requests)
    paths = (f"--input={plain.pairs}", f"--output={output}")
    args = (*paths, *plain.flags, "--connections=4", *PATIENT)
    with web.holding_after(10):
        status = stop(args, tmp_path, lambda: len(web.requests) > begun + 10, signum)
    said = (tmp_path / "said").read_text()
    assert status == 1
    assert "Traceback" not in said
    assert said.endswith(
        "beam_runner.py: stopped; the same command resumes from the last finished shard\n"
    )
    resumed = run_fork(*args)
    assert resumed.status == 0, resumed.err
    assert "text stage: " in said
    assert "text stage: " not in resumed.err  # its texts are judged once
    assert "under way when the command ended early" not in resumed.err
    assert digests(output) == digests(plain.output)
