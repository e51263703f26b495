"""A run that is killed goes on where it stopped, and ends with the same bytes."""

import random
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import digests, run, run_fork
from tests.support.golden_run import Golden
from tests.support.small_web import PATIENT, SmallWeb
from tests.support.stopped_command import stop


def paths_of_shards(output: Path, web: SmallWeb) -> dict[str, int]:
    """The number of the whole shard that each image was fetched for."""
    shards: dict[str, int] = {}
    for stats in output.glob("shards/*_stats.json"):
        name = stats.name.removesuffix("_stats.json")
        for file in (f"shards/{name}.parquet", f"rejected/images-{name}.parquet"):
            if (output / file).exists():
                urls = pq.read_table(output / file)["url"].to_pylist()
                shards |= {url.removeprefix(web.url): int(name) for url in urls}
    # Others stand in several shards.
    return {path: shard for path, shard in shards.items() if path.startswith("/good/")}


@pytest.mark.slow
def test_killed_at_random_moments_of_both_planes(plain: Golden, web: SmallWeb, tmp_path: Path):
    output = tmp_path / "set"
    args = (
        f"--input={plain.pairs}",
        f"--output={output}",
        *plain.flags,
        "--connections=4",
        *PATIENT,
    )
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    draw = random.Random(seed)
    shard_of = paths_of_shards(plain.output, web)
    assert set(shard_of.values()) == {0, 1, 2}

    def after_seconds(seconds: float) -> Callable[[], bool]:
        first_seen: list[float] = []

        def when() -> bool:
            if (output / "_temporary" / "run.json").exists():
                first_seen.append(time.monotonic())
            return bool(first_seen) and time.monotonic() - first_seen[0] > seconds

        return when

    for seconds in (draw.uniform(0, 0.3), draw.uniform(0.3, 0.6)):
        with web.holding(lambda _: True):
            assert stop(args, tmp_path, after_seconds(seconds), signal.SIGKILL) < 0
    for whole, more in [(0, draw.randint(1, 30)), (1, draw.randint(1, 30)), (2, 20)]:
        finished, before = paths_of_shards(output, web), len(web.requests)

        def asked_of_later(first: int = whole, begun: int = before) -> int:
            return sum(shard_of.get(path, -1) >= first for path in web.requests[begun:])

        def held(path: str, first: int = whole, most: int = more) -> bool:
            return shard_of.get(path, -1) >= first and asked_of_later(first) > most

        def moment(shards: int = whole, most: int = more) -> bool:
            stats = list(output.glob("shards/*_stats.json"))
            return len(stats) == shards and asked_of_later(shards) > most

        with web.holding(held):
            assert stop(args, tmp_path, moment, signal.SIGKILL) < 0
        assert finished.keys().isdisjoint(web.requests[before:])
        assert not (output / "manifest.json").exists()

    finished, before = paths_of_shards(output, web), len(web.requests)
    assert len(list(output.glob("shards/*_stats.json"))) == 2
    touched = digests(output)
    other = run(plain.pairs, output, *plain.flags, "--min_words=4")
    assert (other.status, other.err.count("\n")) == (2, 1)
    assert digests(output) == touched

    # What a kill leaves that comes in the milliseconds in which a file is written aside.
    write_cut = f".00002.tar.{uuid.uuid4().hex}"
    (output / "shards" / write_cut).write_bytes(b"the first half")
    ended = run_fork(*args)
    assert ended.status == 0, ended.err
    assert finished
    assert finished.keys().isdisjoint(web.requests[before:])
    assert len(web.requests) > before
    assert digests(output) == digests(plain.output)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_one_line_and_the_same_command_goes_on(
    plain: Golden, web: SmallWeb, tmp_path: Path, signum: signal.Signals
):
    output, begun = tmp_path / "set", len(web.requests)
    args = (
        f"--input={plain.pairs}",
        f"--output={output}",
        *plain.flags,
        "--connections=4",
        *PATIENT,
    )
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
