"""The whole command on a real Flink cluster: the same bytes, whatever dies or hangs meanwhile."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.runs.flink_jobs import ENDED, STALLED
from tests.support.command import ROOT, digests, succeed
from tests.support.crawls import BASE, OF_DATASET, Crawls, check_asked, check_equal, paths_dropped
from tests.support.disturbances import (
    Disturbances,
    DisturbedPairs,
    command,
    disturbed_pairs,
    run_to_the_end,
    wait_until,
    wake,
)
from tests.support.flink import FlinkCluster, flink_cluster
from tests.support.small_web import SmallWeb, small_web

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def disturbances(tmp_path_factory: pytest.TempPathFactory) -> Disturbances:
    return Disturbances(tmp_path_factory.mktemp("disturbances"))


@pytest.fixture(scope="module")
def flink(
    disturbances: Disturbances, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlinkCluster]:
    folder = tmp_path_factory.mktemp("flink")
    with flink_cluster(folder, disturbances.environment()) as started:
        yield started


@pytest.fixture(scope="module")
def pairs(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> DisturbedPairs:
    return disturbed_pairs(web, tmp_path_factory.mktemp("disturbed"))


def arguments(flink: FlinkCluster, output: Path, *flags: str) -> tuple[str, ...]:
    """The command's arguments; workers are in another folder, hence the relative path."""
    return (*flags, *flink.flags(), f"--output={os.path.relpath(output, ROOT)}")


def test_the_same_bytes_though_workers_and_the_command_die_or_are_paused(
    flink: FlinkCluster, pairs: DisturbedPairs, disturbances: Disturbances, tmp_path: Path
):
    """Two workers are paused in an attempt, and the command and the TaskManager die. In the second
    start two more are killed. The first two wake up after the end."""
    log = tmp_path / "log"
    args = arguments(flink, tmp_path / "set", *pairs.flags)
    pause, kill = signal.SIGSTOP, signal.SIGKILL
    disturbances.plan(("finished", pause), ("publishing", pause))
    with command(args, log, {}) as first:
        wait_until(lambda: not disturbances.to_come(), first, log)
        first.kill()
    paused = disturbances.paused()
    for process in flink.pids("TaskManagerRunner"):  # or its job would wait for those that hang
        os.kill(process, signal.SIGKILL)
    disturbances.plan(("fetching", kill), ("won", kill))
    run_to_the_end(args, log, disturbances, 3)
    pairs.check(tmp_path / "set")
    for process in paused:
        wake(process)
    pairs.check(tmp_path / "set", patience_s=60)
    # Neither dead workers leave files there, nor do jobs bring Beam's jars.
    temporary = flink.folder / "tmp"
    while left_by_dead_workers(flink, temporary / "workers"):  # they are about to be removed
        time.sleep(0.2)
    blobs = [path.stat().st_size for path in temporary.glob("blobStore-*/job_*/*")]
    assert sum(blobs) < 1_000_000
    assert "left running by an earlier start of this command, is cancelled" in log.read_text()


def left_by_dead_workers(flink: FlinkCluster, folder: Path) -> list[Path]:
    """The temporary folders of no living worker."""
    left = list(folder.iterdir())
    living = [Path(f"/proc/{pid}/environ") for pid in flink.pids("--control")]
    environments = [path.read_text() for path in living if path.exists()]
    return [path for path in left if not any(f"TMPDIR={path}\0" in one for one in environments)]


def test_an_image_that_crashes_its_decoder_costs_only_itself(
    flink: FlinkCluster, web: SmallWeb, tmp_path: Path
):
    """The job begins again, and ends by itself."""
    crashing, log = disturbed_pairs(web, tmp_path, crash=True), tmp_path / "log"
    with command(arguments(flink, tmp_path / "set", *crashing.flags), log, {}) as started:
        assert started.wait() == 0, log.read_text()
    crashing.check(tmp_path / "set")
    workers = (flink.folder / "workers.log").read_text()
    assert f"a decoder crashes at {crashing.url}: please report it" in workers


def test_the_shards_of_a_worker_that_hangs_are_taken_over(
    flink: FlinkCluster, pairs: DisturbedPairs, disturbances: Disturbances, tmp_path: Path
):
    """All shards are written while it hangs, for good: the command ends the run by itself. It wakes
    up after the end."""
    output, log = tmp_path / "set", tmp_path / "log"
    shards = len(list(pairs.expected.glob("*/*_stats.json")))
    disturbances.plan(("fetching", signal.SIGSTOP))
    with command(arguments(flink, output, *pairs.flags), log, {}) as started:
        assert started.wait() == 0, log.read_text()
    assert f"{STALLED}: this command adds up what they hold" in log.read_text()
    pairs.check(output)
    wake(disturbances.paused()[0])
    pairs.check(output, patience_s=60)
    # The live view counts what the stats of all shards say, whichever worker wrote them.
    line = rf"image stage: {shards} of {shards} shards, (\d+) of \1 pairs, .* kept"
    assert re.search(line, log.read_text()), log.read_text()[-3000:]


def test_texts_in_many_languages_have_the_same_bytes(flink: FlinkCluster, tmp_path: Path):
    """The vote and balanced concepts: the text stage beyond English."""
    spoken = {
        "two brown dogs run along the beach in the morning": 20,
        "zwei braune Hunde laufen am Morgen den Strand entlang": 40,
        "朝の砂浜を茶色い犬が二匹走っている": 40,
        "две коричневые собаки бегут утром по пляжу": 40,
    }
    texts = [f"{text} {number}" for text, count in spoken.items() for number in range(count)]
    urls = [f"http://host.example/{i}.jpg" for i in range(len(texts))]
    pq.write_table(pa.table({"url": urls, "text": texts}), tmp_path / "pairs.parquet")
    flags = ("--text_only", "--language=all", "--max_pairs_per_concept=3")
    succeed(tmp_path / "pairs.parquet", tmp_path / "expected", *flags)
    args = (f"--input={tmp_path / 'pairs.parquet'}", *flags)
    with command(arguments(flink, tmp_path / "set", *args), tmp_path / "log", {}) as started:
        assert started.wait() == 0, (tmp_path / "log").read_text()
    assert digests(tmp_path / "set") == digests(tmp_path / "expected")
    dropped = pq.read_table(tmp_path / "set" / "rejected")["reason"].to_pylist()
    assert "frequent_concepts" in dropped


def test_a_dataset_grows_to_the_bytes_of_a_run_from_scratch(flink: FlinkCluster, tmp_path: Path):
    with small_web() as web, small_web() as moody:
        crawls = Crawls(web, moody, tmp_path)
        out, known = crawls.make(1, "--input={1}", *BASE, "--duplicates=near")
        scratch, wanted = crawls.make(2, "--input={1},{2}", *BASE, "--duplicates=near")
        words = ("--input={out},{2}", *BASE, "--duplicates=near")
        before = len(web.requests), len(moody.requests)
        args = arguments(flink, tmp_path / "new", *crawls.words(words, out=out))
        with command(args, tmp_path / "log", {}) as started:
            assert started.wait() == 0, (tmp_path / "log").read_text()
    check_equal(tmp_path / "new", scratch)
    asked = Counter({*web.requests[before[0] :], *moody.requests[before[1] :]})
    check_asked(asked, wanted, known, paths_dropped(out, *OF_DATASET))


def test_control_c_ends_the_job_in_flink_and_the_same_command_resumes(
    flink: FlinkCluster, web: SmallWeb, pairs: DisturbedPairs, tmp_path: Path
):
    output, log = tmp_path / "set", tmp_path / "log"
    args = arguments(flink, output, *pairs.flags)
    with web.holding_after(24), command(args, log, {}) as started:
        wait_until(lambda: [*output.glob("*/*_stats.json")] != [], started, log)
        started.send_signal(signal.SIGINT)
        assert started.wait() == 1, log.read_text()
        while {job["state"] for job in flink.jobs()} - {*ENDED}:
            time.sleep(0.1)
        time.sleep(10)  # workers look each second or two whether they are stopped
    shards = {*output.glob("*/*_stats.json")}
    time.sleep(5)
    assert {*output.glob("*/*_stats.json")} == shards
    with command(args, log, {}) as again:
        assert again.wait() == 0, log.read_text()
    pairs.check(output)
