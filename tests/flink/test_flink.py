"""The whole command on a real Flink cluster: the same bytes, and the same after a kill."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flink.cluster import PARTS, Cluster
from flink.runs import cluster
from tests.support.command import ROOT, digests, succeed
from tests.support.golden_run import Golden
from tests.support.small_web import PATIENT, SmallWeb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def flink() -> Iterator[Cluster]:
    assert (PARTS / "ready").exists(), "Flink is not here: make .flink/ready"
    with cluster("test") as started:
        yield started


@contextlib.contextmanager
def command(
    plain: Golden, output: Path, flink: Cluster, log: Path, *more: str
) -> Iterator[subprocess.Popen]:
    flags = [*plain.flags, *flink.flags(), "--parallelism=2", *more]
    args = ["beam_runner.py", f"--input={plain.pairs}", *flags]
    args.append(f"--output={os.path.relpath(output, ROOT)}")  # workers are in another folder
    with log.open("a") as sink:
        started = subprocess.Popen([sys.executable, *args], cwd=ROOT, stdout=sink, stderr=sink)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def wait_for_images(web: SmallWeb, begun: int, process: subprocess.Popen) -> None:
    while len(web.requests) < begun + 5:
        assert process.poll() is None, "it ended before it fetched"
        time.sleep(0.02)


def wait_until(true: Callable[[], bool], process: subprocess.Popen) -> None:
    while not true():
        assert process.poll() is None, "it ended before"
        time.sleep(0.02)


def writing(flink: Cluster) -> list[int]:
    """The Python workers that have a shard's images open."""
    processes = []
    for pid in flink.pids("workers")[1:]:
        with contextlib.suppress(OSError):
            links = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
            if any("/shard-" in link for link in links):
                processes.append(pid)
    return processes


def test_the_same_bytes_though_workers_and_the_command_are_killed(
    plain: Golden, web: SmallWeb, flink: Cluster, tmp_path: Path
):
    """The command dies while images are fetched; started again, it cancels the job that it left,
    and then a Python worker, that runs a shard, dies."""
    output, log = tmp_path / "set", tmp_path / "log"
    flags = (plain, output, flink, log, "--sdk_worker_parallelism=1", *PATIENT)
    with command(*flags) as first, web.holding_after(5):
        wait_for_images(web, len(web.requests), first)
        first.kill()
    with command(*flags) as second:
        with web.holding_after(5):
            wait_for_images(web, len(web.requests), second)
            victims = flink.pids("workers")[1:]
            assert victims
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
        status = second.wait()
    said = log.read_text()
    assert status == 0, said
    assert "left running by an earlier start of this command, is cancelled" in said
    assert digests(output) == digests(plain.output)


def test_near_duplicates_leave_as_in_process(
    plain: Golden, web: SmallWeb, flink: Cluster, tmp_path: Path
):
    output, expected, log = tmp_path / "set", tmp_path / "expected", tmp_path / "log"
    flags = ("--duplicates=near", "--holdout=0.2")
    succeed(plain.pairs, expected, *plain.flags, *flags)
    steps = json.loads((expected / "funnel.json").read_text())["steps"]
    assert {s["step"]: s["dropped"] for s in steps}["copies"]["duplicate_image"] > 0
    with command(plain, output, flink, log, *flags, *PATIENT) as started:
        assert started.wait() == 0, log.read_text()
    assert digests(output) == digests(expected)


def test_the_shards_of_a_worker_that_hangs_are_taken_over(
    plain: Golden, web: SmallWeb, flink: Cluster, tmp_path: Path
):
    """All shards are written while it hangs; then it finds that its own are."""
    output, expected, log = tmp_path / "set", tmp_path / "expected", tmp_path / "log"
    small = ("--samples_per_shard=4", "--holdout=0.2")
    succeed(plain.pairs, expected, *plain.flags, *small)
    assert list(expected.glob("holdout/*.tar"))
    shards = len(list(expected.glob("*/*_stats.json")))
    with command(plain, output, flink, log, *small, *PATIENT) as started:
        with web.holding(lambda _: True):
            wait_until(lambda: len(writing(flink)) == 2, started)
            victim = writing(flink)[0]
            os.kill(victim, signal.SIGSTOP)
        try:
            written = output.glob
            wait_until(lambda: len([*written("*/*_stats.json")]) == shards, started)
            assert shards > 8
        finally:
            os.kill(victim, signal.SIGCONT)
        assert started.wait() == 0, log.read_text()
    assert digests(output) == digests(expected)
    # The live view counts what the stats of all shards say, whichever worker wrote them.
    pairs = json.loads((expected / "funnel.json").read_text())["fetch"]["tried"]
    line = rf"image stage: {shards} of {shards} shards, {pairs} of {pairs} pairs, .* kept"
    assert re.search(line, log.read_text()), log.read_text()[-3000:]


def test_texts_in_many_languages_have_the_same_bytes(flink: Cluster, tmp_path: Path):
    """The vote, sizes of languages and balanced concepts: the text stage beyond English."""
    spoken = {
        "two brown dogs run along the beach in the morning": 20,
        "zwei braune Hunde laufen am Morgen den Strand entlang": 40,
        "朝の砂浜を茶色い犬が二匹走っている": 40,
        "две коричневые собаки бегут утром по пляжу": 40,
    }
    texts = [f"{text} {number}" for text, count in spoken.items() for number in range(count)]
    urls = [f"http://host.example/{i}.jpg" for i in range(len(texts))]
    pq.write_table(pa.table({"url": urls, "text": texts}), tmp_path / "pairs.parquet")
    flags = ("--text_only", "--language=all", "--like=en", "--max_pairs_per_concept=3")
    succeed(tmp_path / "pairs.parquet", tmp_path / "expected", *flags)
    log = tmp_path / "log"
    args = ["beam_runner.py", f"--input={tmp_path / 'pairs.parquet'}", *flags, *flink.flags()]
    args.append(f"--output={os.path.relpath(tmp_path / 'set', ROOT)}")
    with log.open("w") as sink:
        ended = subprocess.run([sys.executable, *args], cwd=ROOT, stdout=sink, stderr=sink)
    assert ended.returncode == 0, log.read_text()
    assert digests(tmp_path / "set") == digests(tmp_path / "expected")
    dropped = pq.read_table(tmp_path / "set" / "rejected")["reason"].to_pylist()
    assert {"beyond_language_size", "frequent_concepts"} <= {*dropped}
