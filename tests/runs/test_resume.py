"""A run that is killed goes on where it stopped, and ends with the same bytes."""

import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import digests, run, run_fork
from tests.support.golden_run import Golden
from tests.support.small_web import SmallWeb
from tests.support.stopped_command import stop


@pytest.fixture
def slow_web(web: SmallWeb) -> Iterator[SmallWeb]:
    web.delay_s = 0.05
    yield web
    web.delay_s = 0.0


def paths_of_finished_shards(output: Path, web: SmallWeb) -> set[str]:
    """What was fetched for the shards that are whole."""
    paths: set[str] = set()
    for stats in output.glob("shards/*_stats.json"):
        name = stats.name.removesuffix("_stats.json")
        for file in (f"shards/{name}.parquet", f"rejected/images-{name}.parquet"):
            if (output / file).exists():
                urls = pq.read_table(output / file)["url"].to_pylist()
                paths |= {url.removeprefix(web.url) for url in urls}
    return {path for path in paths if path.startswith("/good/")}  # others stand in several shards


def test_killed_at_random_moments_of_both_planes(plain: Golden, slow_web: SmallWeb, tmp_path: Path):
    output, web = tmp_path / "set", slow_web
    args = (f"--input={plain.pairs}", f"--output={output}", *plain.flags, "--connections=4")
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    draw = random.Random(seed)

    def after_seconds(seconds: float) -> Callable[[], bool]:
        first_seen: list[float] = []

        def when() -> bool:
            if (output / "_temporary" / "run.json").exists():
                first_seen.append(time.monotonic())
            return bool(first_seen) and time.monotonic() - first_seen[0] > seconds

        return when

    def after_requests(shards: int, more: int) -> Callable[[], bool]:
        def when() -> bool:
            if len(list(output.glob("shards/*_stats.json"))) < shards:
                begun[0] = len(web.requests)
            return len(web.requests) >= begun[0] + more

        begun = [len(web.requests)]
        return when

    moments = [after_seconds(draw.uniform(0, 0.3)), after_seconds(draw.uniform(0.3, 0.6))]
    for moment in moments:
        assert stop(args, tmp_path, moment, signal.SIGKILL) == -signal.SIGKILL
    for shards, more in [(0, draw.randint(1, 30)), (1, draw.randint(1, 30)), (2, 20)]:
        finished = paths_of_finished_shards(output, web)
        before = len(web.requests)
        assert stop(args, tmp_path, after_requests(shards, more), signal.SIGKILL) < 0
        assert finished.isdisjoint(web.requests[before:])
        assert not (output / "manifest.json").exists()

    finished, before = paths_of_finished_shards(output, web), len(web.requests)
    assert len(list(output.glob("shards/*_stats.json"))) == 2
    touched = digests(output)
    other = run(plain.pairs, output, *plain.flags, "--min_words=4")
    assert (other.status, other.err.count("\n")) == (2, 1)
    assert digests(output) == touched

    # What a kill leaves that comes in the milliseconds in which a file is written aside.
    write_cut = f".00002.tar.{uuid.uuid4().hex}"
    (output / "shards" / write_cut).write_bytes(b"the first half")
    web.delay_s = 0
    ended = run_fork(*args)
    assert ended.status == 0, ended.err
    assert finished
    assert finished.isdisjoint(web.requests[before:])
    assert len(web.requests) > before
    assert digests(output) == digests(plain.output)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_one_line_and_the_same_command_goes_on(
    plain: Golden, slow_web: SmallWeb, tmp_path: Path, signum: signal.Signals
):
    output, begun = tmp_path / "set", len(slow_web.requests)
    args = (f"--input={plain.pairs}", f"--output={output}", *plain.flags, "--connections=4")
    status = stop(args, tmp_path, lambda: len(slow_web.requests) > begun + 10, signum)
    said = (tmp_path / "said").read_text()
    assert status == 1
    assert "Traceback" not in said
    assert said.endswith(
        "beam_runner.py: stopped; the same command goes on from the last finished shard\n"
    )
    slow_web.delay_s = 0
    assert run(plain.pairs, output, *plain.flags).status == 0
    assert digests(output) == digests(plain.output)
