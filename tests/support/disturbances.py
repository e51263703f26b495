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
from tests.support.command import digests, rejected, succeed
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

    def check(self, output: Path, *, patience_s: float = 0) -> None:
        """Fails where a dataset is not what is expected, or anything lies beside it.

        Args:
          patience_s: for how long a worker that woke up may still have files of its own there.
        """
        until, expected = time.monotonic() + patience_s, digests(self.expected)
        while True:
            try:
                different = {name for name, _ in digests(output).items() ^ expected.items()}
            except FileNotFoundError as error:  # removed while it was read
                different = {os.path.relpath(error.filename, output)}
            if not different:
                return
            is_waking = all(name.startswith("_temporary/") for name in different)
            if not is_waking or time.monotonic() >= until:
                raise AssertionError(different)
            time.sleep(0.2)


def disturbed_pairs(web: SmallWeb, folder: Path, *, crash: bool = False) -> DisturbedPairs:
    """Serves the images and makes the expected set."""
    urls = [f"{web.url}/disturbed/{crash}/{n}" for n in range(COUNT)]
    for n, url in enumerate(urls):
        web.files[url.removeprefix(web.url)] = encoded(photograph(502 + n), "JPEG")
    texts = [f"{TEXTS[n % len(TEXTS)]} {n}" for n in range(COUNT)]
    pq.write_table(pa.table({"url": urls, "caption": texts}), folder / "pairs.parquet")
    flags = (*FLAGS, "--samples_per_shard=4", "--holdout=0.2", "--duplicates=near")
    succeed(folder / "pairs.parquet", folder / "first", *flags)
    sidecars = sorted(folder.glob("first/shards/*.parquet"))
    first, *shards = (pq.read_table(sidecar)["url"].to_pylist() for sidecar in sidecars)
    # Which pairs share a shard depends on the server's port. One that keeps any is rewritten.
    chosen = next(shard for shard in shards if len(shard) > 2)[:3]
    crashing, one, copy = (url.removeprefix(web.url) for url in chosen)
    for url in first:
        del web.files[url.removeprefix(web.url)]
    web.files[crashing] += MARK * crash
    picture = photograph(501)  # not so flat that it has no near copies, as some are
    web.files |= {one: encoded(picture, "JPEG"), copy: encoded(picture, "JPEG", quality=60)}
    decoded = examine.decoded
    with pytest.MonkeyPatch.context() as patch:
        look = lambda file: "crashed_decoder" if MARK in file.body else decoded(file)  # noqa: E731
        patch.setattr(examine, "decoded", look)
        succeed(folder / "pairs.parquet", folder / "expected", *flags)
    dropped = {(url, detail) for url, _, _, detail in rejected(folder / "expected")}
    assert ((chosen[0], "crashed_decoder") in dropped) == crash
    assert {(url, "http_404") for url in first} <= dropped
    assert len({*chosen[1:]} & {url for url, _ in dropped}) == 1
    args = (f"--input={folder}/pairs.parquet", *flags)
    return DisturbedPairs(args, folder / "expected", chosen[0])


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
    """Lets a paused process go on, and waits until it ends or has been idle for 8 s: a busy machine
    may hold it up."""
    os.kill(pid, signal.SIGCONT)
    spent, idle_since = -9, time.monotonic()
    while time.monotonic() - idle_since < 8:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return
        if fields[0] == "Z":
            return
        if (now := int(fields[11]) + int(fields[12])) - spent > 1:  # hundredths of a second
            spent, idle_since = now, time.monotonic()
        time.sleep(0.1)
