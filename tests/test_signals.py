"""Commands that a signal ends, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from alignset.signals import PATIENCE_S
from tests.support.root import ROOT

LONG_S = 60  # for what takes less than a second
COMMAND = """
import os, sys, threading, time
import alignset.signals
from alignset.signals import end_with_parent, run_main
alignset.signals.PATIENCE_S = {patience_s}
def main(arguments, name):
    assert (arguments, name) == (["a"], "it")
    {body}
sys.exit(run_main(main, "it"))
"""
# A thread that outlasts the command, as one that waits for a server.
BUSY = "threading.Thread(target=time.sleep, args=(600,)).start(); {then}"
RUN = "print('runs', flush=True); time.sleep(600)"
SLEEP = "sys.stdout.flush(); time.sleep(600)"


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    processes = []

    def started(body: str, *prefix: str, patience_s: float = PATIENCE_S) -> subprocess.Popen[str]:
        code = COMMAND.format(body=body, patience_s=patience_s)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [*prefix, sys.executable, "-c", code, "a"]
        processes.append(subprocess.Popen(command, env=environment, **pipes))
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("then", "status", "said"),
    [
        (RUN, 1, "it: stopped; run the same command again\n"),
        (f"\n    try: {RUN}\n    except KeyboardInterrupt: return 130", 130, ""),
    ],
    ids=["by itself", "by the command"],
)
def test_a_signal_ends_a_command_with_its_threads(
    start: Callable, signum: int, then: str, status: int, said: str
):
    process = start(BUSY.format(then=then))
    assert process.stdout.readline() == "runs\n"
    process.send_signal(signum)
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (status, said)


def test_a_signal_for_which_a_command_has_its_own_handler_is_left_to_it(start: Callable):
    own = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('asked'))"
    process = start(f"{own}; print('runs'); sys.stdout.flush(); time.sleep(1); return 7")
    assert process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=LONG_S) == ("asked\n", "")  # once
    assert process.returncode == 7


def test_a_command_that_does_not_end_is_ended(start: Callable):
    process = start(f"\n    try: {RUN}\n    finally: {SLEEP}", patience_s=1)
    assert process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (1, "it: stopped; run the same command again\n")


def test_a_signal_that_another_thread_gets_ends_a_command_that_waits_for_a_lock(start: Callable):
    gets = "(time.sleep(0.5), signal.pthread_kill(threading.get_ident(), signal.SIGTERM))"
    body = f"threading.Thread(target=lambda: {gets}, daemon=True).start()"
    process = start(
        f"import signal; {body}; lock = threading.Lock(); lock.acquire(); lock.acquire()"
    )
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (1, "it: stopped; run the same command again\n")


def test_a_second_control_c_ends_what_does_not_stop(start: Callable):
    process = start(f"\n    try: {RUN}\n    finally: print('ends'); {SLEEP}")
    for said in ("runs\n", "ends\n"):
        assert process.stdout.readline() == said
        process.send_signal(signal.SIGINT)
    assert process.wait(LONG_S) == -signal.SIGINT


def test_ignored_signals_stay_ignored(start: Callable):
    process = start("print(os.getpid()); sys.stdout.flush(); time.sleep(1); return 7", "nohup")
    os.kill(int(process.stdout.readline()), signal.SIGHUP)
    assert process.wait(LONG_S) == 7


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("return 0", 0, ""),
        ("return 2", 2, ""),
        ("sys.exit(3)", 3, ""),
        ("import no_such_package", 2, "it: the package no_such_package is not installed"),
    ],
)
def test_the_status_is_the_commands(start: Callable, body: str, status: int, said: str):
    process = start(body)
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err[: len(said)]) == (status, said)


def test_a_reader_may_close_the_output(start: Callable):
    process = start("[print('x' * 1000) for _ in range(1000)]; return 5")
    process.stdout.close()
    assert (process.wait(LONG_S), process.stderr.read()) == (0, "")


def is_running(pid: int) -> bool:
    """Whether a process exists, and is no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_process_may_end_with_its_parent(start: Callable, tmp_path: Path):
    child = f"end_with_parent(os.getppid()); open({str(tmp_path / 'runs')!r}, 'w').close()"
    body = f"pid = os.fork()\n    if not pid: {child}; time.sleep(600)\n    print(pid); {SLEEP}"
    process = start(body)
    pid = int(process.stdout.readline())
    until = time.monotonic() + LONG_S
    while not (tmp_path / "runs").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait(LONG_S)
    while is_running(pid):
        assert time.monotonic() < until
        time.sleep(0.01)
