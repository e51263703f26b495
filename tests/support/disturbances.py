"""Kills, pauses and a crashing decoder in whole runs, on any runner and any file system."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.images import examine
from tests.support.command import digests, kept, rejected, succeed
from tests.support.disturbed.sitecustomize import MARK
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.root import ROOT
from tests.support.small_web import SmallWeb

COUNT = 48
FOLDER = str(ROOT / "tests/support/disturbed")
NAMED = (
    "under way when the command ended early: the images are first decoded in a process of their own"
)


class DisturbedPairs(NamedTuple):
    """Pairs in some twelve shards. All images of one shard are gone, so that shards are renumbered,
    and another image has a near copy.

    Fields:
      flags: of a run. expected: what an undisturbed run makes.
      url: of an image that may crash its decoder, which only says so in the undisturbed run.
    """

    flags: tuple[str, ...]
    expected: Path
    url: str

    def check(self, output: Path) -> None:
        """Fails where a dataset is not what is expected, or anything lies beside it."""
        assert digests(output) == digests(self.expected)


def disturbed_pairs(web: SmallWeb, folder: Path, *, crash: bool = False) -> DisturbedPairs:
    """Serves the images and makes the expected set."""
    bodies = [encoded(photograph(500 + n), "JPEG") for n in range(COUNT)]
    bodies[-1] = encoded(photograph(501), "JPEG", quality=60)
    urls = [f"{web.url}/disturbed/{crash}/{n}" for n in range(COUNT)]
    web.files |= dict(zip((url.removeprefix(web.url) for url in urls), bodies, strict=True))
    texts = [f"{TEXTS[n % len(TEXTS)]} {n}" for n in range(COUNT)]
    pq.write_table(pa.table({"url": urls, "caption": texts}), folder / "pairs.parquet")
    flags = (*FLAGS, "--samples_per_shard=4", "--holdout=0.2", "--duplicates=near")
    succeed(folder / "pairs.parquet", folder / "first", *flags)
    first, second = (
        pq.read_table(folder / f"first/shards/{number:05d}.parquet")["url"].to_pylist()
        for number in (0, 1)
    )
    for url in first:
        del web.files[url.removeprefix(web.url)]
    web.files[second[0].removeprefix(web.url)] += MARK * crash
    examined, crashed = examine.examined, examine.Unusable("undecodable", "crashed_decoder")
    with pytest.MonkeyPatch.context() as patch:
        look = lambda file, *rest: crashed if MARK in file.body else examined(file, *rest)  # noqa: E731
        patch.setattr(examine, "examined", look)
        succeed(folder / "pairs.parquet", folder / "expected", *flags)
    dropped = {(url, detail) for url, _, _, detail in rejected(folder / "expected")}
    assert ((second[0], "crashed_decoder") in dropped) == crash
    assert {(url, "http_404") for url in first} <= dropped
    assert len(kept(folder / "expected")) < COUNT - len(first) - crash  # less the near copy
    args = (f"--input={folder}/pairs.parquet", *flags)
    return DisturbedPairs(args, folder / "expected", second[0])


class Disturbances(NamedTuple):
    """A folder with a file for each disturbance that is still to come, `NUMBER MOMENT SIGNAL`. The
    first process that comes to the moment of the first of them takes it away and signals itself."""

    at: Path

    def environment(self) -> dict[str, str]:
        """What disturbed processes have in their environment."""
        self.at.mkdir(exist_ok=True)
        return {"PYTHONPATH": FOLDER, "ALIGNSET_DISTURBANCES": str(self.at)}

    def plan(self, *disturbances: tuple[str, int]) -> None:
        """Forgets those that are over, and has others come, each a moment and a signal."""
        for over in self.at.iterdir():
            over.unlink()
        for number, (moment, signum) in enumerate(disturbances):
            (self.at / f"{number:02d} {moment} {int(signum)}").touch()

    def to_come(self) -> list[str]:
        return sorted(name for name in os.listdir(self.at) if not name.startswith("."))

    def paused(self) -> list[int]:
        """The processes that were paused."""
        past = [name.split() for name in os.listdir(self.at) if name.startswith(".")]
        return [int(pid) for *_, signum, pid in past if int(signum) == signal.SIGSTOP]


@contextlib.contextmanager
def command(
    args: tuple[str, ...], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen]:
    """The command as a user starts it. Its processes end with the block."""
    words = [sys.executable, "beam_runner.py", *args]
    with log.open("a") as sink:
        started = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=sink,
            stderr=sink,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def run_to_the_end(
    args: tuple[str, ...], log: Path, disturbances: Disturbances, most: int
) -> list[int]:
    """Starts the command again and again, until it succeeds; returns all exit statuses."""
    statuses: list[int] = []
    while not statuses or statuses[-1]:
        assert len(statuses) < most, log.read_text()
        with command(args, log, disturbances.environment()) as started:
            statuses.append(started.wait())
    assert disturbances.to_come() == [], log.read_text()
    return statuses


def wait_until(true: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    while not true():
        assert process.poll() is None, f"it ended before:\n{log.read_text()}"
        time.sleep(0.02)


def wake(pid: int) -> None:
    """Lets a paused process go on, and waits until it ends or has been idle for 3 s."""
    os.kill(pid, signal.SIGCONT)
    spent, idle_since = -9, time.monotonic()
    while time.monotonic() - idle_since < 3:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return
        if fields[0] == "Z":
            return
        if (now := int(fields[11]) + int(fields[12])) - spent > 1:  # hundredths of a second
            spent, idle_since = now, time.monotonic()
        time.sleep(0.1)
