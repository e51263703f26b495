"""The whole command on a real Flink cluster: the same bytes, whatever dies or hangs meanwhile."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flink.cluster import PARTS, Cluster
from flink.runs import cluster
from tests.support.command import ROOT, digests, succeed
from tests.support.disturbances import (
    Disturbances,
    DisturbedPairs,
    command,
    disturbed_pairs,
    run_to_the_end,
    wait_until,
    wake,
)
from tests.support.small_web import SmallWeb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def disturbances(tmp_path_factory: pytest.TempPathFactory) -> Disturbances:
    return Disturbances(tmp_path_factory.mktemp("disturbances"))


@pytest.fixture(scope="module")
def flink(disturbances: Disturbances) -> Iterator[Cluster]:
    assert (PARTS / "ready").exists(), "Flink is not here: make .flink/ready"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in disturbances.environment().items():
            patch.setenv(name, value)
        with cluster("test") as started:
            yield started


@pytest.fixture(scope="module")
def pairs(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> DisturbedPairs:
    return disturbed_pairs(web, tmp_path_factory.mktemp("disturbed"))


def arguments(flink: Cluster, output: Path, *flags: str) -> tuple[str, ...]:
    """Of the command; workers are in another folder, hence the relative path."""
    return (*flags, *flink.flags(), "--parallelism=2", f"--output={os.path.relpath(output, ROOT)}")


def test_the_same_bytes_though_workers_and_the_command_die_or_are_paused(
    flink: Cluster, pairs: DisturbedPairs, disturbances: Disturbances, tmp_path: Path
):
    """Two workers are paused in an attempt, and the command and the TaskManagers die. In the second
    start two more are killed. The first two wake up after the end."""
    log = tmp_path / "log"
    args = arguments(flink, tmp_path / "set", *pairs.flags, "--sdk_worker_parallelism=1")
    pause, kill = signal.SIGSTOP, signal.SIGKILL
    disturbances.plan(("finished", pause), ("publishing", pause))
    with command(args, log, {}) as first:
        wait_until(lambda: not disturbances.to_come(), first, log)
        first.kill()
    paused = disturbances.paused()
    for number in range(1, flink.task_managers + 1):  # or their job would wait for those that hang
        os.kill(flink.pids(f"taskmanager-{number}")[0], signal.SIGKILL)
    disturbances.plan(("fetching", kill), ("won", kill))
    run_to_the_end(args, log, disturbances, 3)
    pairs.check(tmp_path / "set")
    for process in paused:
        wake(process)
    pairs.check(tmp_path / "set")
    assert "left running by an earlier start of this command, is cancelled" in log.read_text()


def test_an_image_that_crashes_its_decoder_costs_only_itself(
    flink: Cluster, web: SmallWeb, tmp_path: Path
):
    """The job begins again, and ends by itself."""
    crashing, log = disturbed_pairs(web, tmp_path, crash=True), tmp_path / "log"
    with command(arguments(flink, tmp_path / "set", *crashing.flags), log, {}) as started:
        assert started.wait() == 0, log.read_text()
    crashing.check(tmp_path / "set")
    workers = (flink.folder / "workers.log").read_text()
    assert f"a decoder crashes at {crashing.url}: please report it" in workers


def test_the_shards_of_a_worker_that_hangs_are_taken_over(
    flink: Cluster, pairs: DisturbedPairs, disturbances: Disturbances, tmp_path: Path
):
    """All shards are written while it hangs; then it finds that its own are."""
    output, log = tmp_path / "set", tmp_path / "log"
    shards = len(list(pairs.expected.glob("*/*_stats.json")))
    disturbances.plan(("fetching", signal.SIGSTOP))
    with command(arguments(flink, output, *pairs.flags), log, {}) as started:
        wait_until(lambda: len([*output.glob("*/*_stats.json")]) == shards, started, log)
        os.kill(disturbances.paused()[0], signal.SIGCONT)
        assert started.wait() == 0, log.read_text()
    pairs.check(output)
    # The live view counts what the stats of all shards say, whichever worker wrote them.
    line = rf"image stage: {shards} of {shards} shards, (\d+) of \1 pairs, .* kept"
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
    args = (f"--input={tmp_path / 'pairs.parquet'}", *flags)
    with command(arguments(flink, tmp_path / "set", *args), tmp_path / "log", {}) as started:
        assert started.wait() == 0, (tmp_path / "log").read_text()
    assert digests(tmp_path / "set") == digests(tmp_path / "expected")
    dropped = pq.read_table(tmp_path / "set" / "rejected")["reason"].to_pylist()
    assert {"beyond_language_size", "frequent_concepts"} <= {*dropped}
