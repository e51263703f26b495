"""A signal ends a command whatever it is doing; real processes, and no limits but generous ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.root import ROOT

LONG_S = 60  # for what takes 5 s and, where it does not end, takes for ever
BEGIN = """
import os, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from alignset import stoppable
from alignset.stoppable import run_stoppable
from tests.support.hanging import in_c_with_the_lock as hold_the_lock

def hold_in_thread():
    threading.Thread(target=hold_the_lock).start()

def swallow():
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass

def block():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

def say(what):
    print(what, flush=True)

def command():
    say(os.getpid())
"""
END = """
sys.exit(run_stoppable(command, stop_message="stopped", stopped_status=7, name="it: "))
"""
# What a command may be doing; only asleep can it still answer.
STATES = {
    "asleep": "time.sleep(1000)",
    "in C with the lock": "hold_the_lock()",
    "a thread in C with the lock": "hold_in_thread(); time.sleep(1000)",
    "waiting for a thread": "with ThreadPoolExecutor() as pool: pool.submit(time.sleep, 1000)",
    "a thread is left at the end": "hold_in_thread()",
    "the interrupt is swallowed": "swallow()",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "its signals are blocked": "block(); time.sleep(1000)",
}
Start = Callable[..., subprocess.Popen]
SLOW = [pytest.param(signum, marks=pytest.mark.slow) for signum in (signal.SIGTERM, signal.SIGHUP)]


def _hear_hangups() -> None:
    """A test runner that `nohup` started would leave them unheard in what it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command that does so and so; its process id is the first line that it says."""
    started: list[subprocess.Popen] = []

    def begin(doing: str, end: str = END, **options: object) -> subprocess.Popen:
        code = f"{BEGIN}    {doing}\n{end}"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **({"preexec_fn": _hear_hangups} | options),
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def state(pid: int) -> str:
    """As Linux has it: R, S, T (stopped) …; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + LONG_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def begun(process: subprocess.Popen) -> int:
    """The process that works, once it does."""
    pid = int(process.stdout.readline())
    time.sleep(0.2)  # until it is at what it does
    return pid


@pytest.mark.parametrize("signum", [signal.SIGINT, *SLOW])
def test_a_signal_ends_whatever_is_going_on(start: Start, signum: signal.Signals):
    processes = {name: start(doing) for name, doing in STATES.items()}
    pids = {name: begun(process) for name, process in processes.items()}
    for process in processes.values():
        process.send_signal(signum)
    said = {name: process.communicate(timeout=LONG_S) for name, process in processes.items()}
    ends = {name: (process.returncode, *said[name]) for name, process in processes.items()}
    assert ends == dict.fromkeys(STATES, (7, "", "stopped\n"))
    assert [name for name, pid in pids.items() if state(pid)] == []


def test_what_can_answer_is_not_killed(start: Start):
    body = "try: time.sleep(1000)\n    finally: say('put in order')"
    process = start(body)
    begun(process)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=LONG_S) == ("put in order\n", "stopped\n")


def test_a_second_signal_ends_it_at_once(start: Start):
    """But not one that comes with the first, as `timeout` sends it."""
    end = END.replace("sys.exit", "stoppable.PATIENCE_S = 1000; sys.exit")
    body = "try: time.sleep(1000)\n    finally: say('in order'); hold_the_lock()"
    process = start(body, end)
    begun(process)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "in order\n"
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=LONG_S)[1] == "stopped\n"
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("doing", "status", "said"),
    [
        ("return 0", 0, ""),
        ("return 3", 3, ""),
        ("sys.exit(4)", 4, ""),
        ("raise ValueError('no')", 1, "ValueError: no\n"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            137,
            "it: failed: Killed (signal 9); the same command resumes\n",
        ),
        ("os.abort()", 134, "it: failed: Aborted (signal 6); the same command resumes\n"),
    ],
)
def test_the_status_is_the_commands(start: Start, doing: str, status: int, said: str):
    process = start(doing)
    _, err = process.communicate(timeout=LONG_S)
    assert process.returncode == status
    assert err.endswith(said)
    assert said or not err


@pytest.mark.parametrize("end", ["return 0", "sys.exit(0)"])
def test_who_reads_it_may_go_when_he_has_read_enough(start: Start, end: str):
    process = start(f"print('x' * 1_000_000); {end}")
    begun(process)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(LONG_S) == 0


@pytest.mark.slow
def test_its_processes_end_with_it(start: Start):
    child = "say(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']).pid)"
    for more in ("", "; hold_the_lock()"):
        process = start(child + more)
        begun(process)
        other = int(process.stdout.readline())
        if more:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LONG_S)
        wait_for(lambda other=other: state(other) in ("", "Z"))


def test_it_ends_where_the_process_that_waits_for_it_is_killed(start: Start):
    process = start("time.sleep(1000)")
    pid = begun(process)
    process.kill()
    wait_for(lambda: state(pid) in ("", "Z"))


def test_what_is_ignored_stays_so(start: Start):
    ignore = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    process = start("time.sleep(1000)", preexec_fn=ignore)
    begun(process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=LONG_S)[1] == "stopped\n"


def test_control_z_stops_it_until_it_is_continued(start: Start):
    process = start("time.sleep(1000)")
    pid = begun(process)
    process.send_signal(signal.SIGTSTP)
    wait_for(lambda: (state(pid), state(process.pid)) == ("T", "T"))
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: (state(pid), state(process.pid)) == ("S", "S"))
    os.kill(process.pid, signal.SIGTERM)
    assert process.communicate(timeout=LONG_S)[1] == "stopped\n"
