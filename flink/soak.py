"""Kills at random moments of real runs: `python -m flink.soak [--kills=20]`.

In turn a TaskManager, a Python worker and the command itself get SIGKILL, in the text stage and in
the image stage, after a random share of the time that the stage takes undisturbed. A command that
fails, or was killed, is started again. Each set must have the bytes of the one that the
DirectRunner made.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

from flink.cluster import ROOT, Cluster
from flink.runs import SETS, FlinkInput, cluster, demo_web, last_line, run, set_hash

VICTIMS = ("TaskManager", "Python worker", "command")
PLANES: tuple[Literal["texts"], Literal["images"]] = ("texts", "images")
MAX_STARTS = 4
RUN_S = 600


@dataclass
class Kill:
    """One kill and what came of it."""

    victim: str
    plane: str
    after_s: float
    starts: int = 0
    said: str = ""
    same: bool = False
    seconds: float = 0.0

    def row(self) -> str:
        verdict = "same bytes" if self.same else "WRONG"
        return (
            f"{self.victim:<14} {self.plane:<7} {self.after_s:>6.1f} s {self.seconds:>6.0f} s "
            f"{self.starts:>6} {verdict}  {self.said}"
        )


class Undisturbed(TypedDict):
    """The hash of the DirectRunner's set, and the seconds of the job of each stage on Flink."""

    texts: float
    images: float
    hash: str


def running(flink: Cluster, plane: str) -> bool:
    """Whether a job of this stage is under way."""
    return any(
        job["state"] == "RUNNING" and job["name"].startswith(f"alignset-{plane}")
        for job in flink.jobs()
    )


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """Whether it became true before the process ended."""
    deadline = time.monotonic() + RUN_S
    while process.poll() is None and time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def workers(flink: Cluster) -> list[int]:
    """The Python workers; the pool's first process is the pool."""
    return flink.pids("workers")[1:]


def strike(
    kill: Kill, flink: Cluster, command: subprocess.Popen[bytes], draw: random.Random
) -> None:
    """Sends SIGKILL, once there is something to kill."""
    if kill.victim == "command":
        command.kill()
    elif kill.victim == "Python worker":
        if wait_until(lambda: bool(workers(flink)), command):
            os.kill(draw.choice(workers(flink)), signal.SIGKILL)
    else:
        number = draw.randint(1, flink.task_managers)
        os.kill(flink.pids(f"taskmanager-{number}")[0], signal.SIGKILL)


def disturbed(kill: Kill, corpus: FlinkInput, flink: Cluster, draw: random.Random) -> str:
    """A run with one kill, started again until it ends well; the hash of its output."""
    output, log = SETS / "soak", SETS / "soak.log"
    shutil.rmtree(output, ignore_errors=True)
    flags = [*flink.flags(), "--parallelism=2"]
    begun = time.monotonic()
    with log.open("w") as sink:
        command = subprocess.Popen(
            corpus.command(output, flags), cwd=ROOT, stdout=sink, stderr=sink
        )
        if wait_until(lambda: running(flink, kill.plane), command):
            time.sleep(kill.after_s)
            strike(kill, flink, command, draw)
        status = command.wait(RUN_S)
    kill.starts = 1
    if status:
        kill.said = last_line(log) if kill.victim != "command" else ""
    while status and kill.starts < MAX_STARTS:
        ended = run(corpus.command(output, flags), log)
        status, kill.starts = ended.status, kill.starts + 1
    kill.seconds = time.monotonic() - begun
    while not flink.answers():  # the one that was killed is up again
        time.sleep(0.5)
    return set_hash(output) if not status else ""


def undisturbed(corpus: FlinkInput, flink: Cluster) -> Undisturbed:
    """The expected output and seconds, which are found once."""
    durations = SETS / "undisturbed.json"
    made = {}
    runs = (
        {"direct": []}
        if durations.exists()
        else {"direct": [], "soak": [*flink.flags(), "--parallelism=2"]}
    )
    for name, flags in runs.items():
        shutil.rmtree(SETS / name, ignore_errors=True)
        ended = run(corpus.command(SETS / name, flags), SETS / f"{name}.log")
        if ended.status:
            sys.exit(f"an undisturbed run failed: {ended.last_line}")
        made[name] = set_hash(SETS / name)
    if len({*made.values()}) > 1:
        sys.exit("undisturbed, Flink's set is not that of the DirectRunner")
    if not durations.exists():
        jobs = {job["name"].split("-")[1]: job["duration"] / 1000 for job in flink.jobs()}
        durations.write_text(json.dumps(jobs))
    seconds = json.loads(durations.read_text())
    return {"texts": seconds["texts"], "images": seconds["images"], "hash": made["direct"]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flink.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the kill to begin with, of --kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    flags = parser.parse_args()
    SETS.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with demo_web(small=True) as corpus, cluster("soak") as flink:
        expected = undisturbed(corpus, flink)
        print(f"undisturbed: texts {expected['texts']:.0f} s, images {expected['images']:.0f} s")
        print("   killed         stage      after   took starts", flush=True)
        for number in range(flags.first, flags.kills + 1):
            draw = random.Random(1000 * flags.seed + number)
            plane, victim = PLANES[(number - 1) % 2], VICTIMS[(number - 1) // 2 % 3]
            kill = Kill(victim, plane, draw.uniform(0, expected[plane]))
            kill.same = disturbed(kill, corpus, flink, draw) == expected["hash"]
            wrong += not kill.same
            print(f"{number:>2} {kill.row()}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
