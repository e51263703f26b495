"""What is whole of an output, and what attempts on this machine have counted of the rest."""

import os
import uuid
from pathlib import Path

import pytest

from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_progress import (
    COUNT_S,
    Load,
    ShardCount,
    UnderWay,
    attempt_folder,
    finished_shards,
    load_of_workers,
    shards_under_way,
)
from alignset.transforms.storage.files import write_atomically

PROCESS = str(os.getpid())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_shard_is_whole_where_its_stats_are(folder: str):
    planned = {0, 1, 2, 123456, HOLDOUT + 3}
    assert finished_shards(folder, planned) == set()
    names = ("00000_stats.json", "00001.tar", "00001.parquet", "123456_stats.json", "x_stats.json")
    for name in (*names, ".00002_stats.json.0123456789abcdef0123456789abcdef"):
        write_atomically(f"{folder}/shards/{name}", lambda sink: sink.write(b"{}"))
    write_atomically(f"{folder}/holdout/00003_stats.json", lambda sink: sink.write(b"{}"))
    assert finished_shards(folder, planned) == {0, 123456, HOLDOUT + 3}
    assert finished_shards(folder, {0, 1}) == {0}


def test_a_count_is_there_while_the_attempt_is(tmp_path: Path):
    plan, clock = str(tmp_path / "plan"), Clock()
    with attempt_folder(plan) as name:
        count = ShardCount(Path(name), "start", 7, 100, clock)
        count(1)  # too early to write
        assert shards_under_way(plan, "start") == {7: UnderWay(0, PROCESS)}
        for done, at in ((5, COUNT_S), (6, COUNT_S * 1.5), (9, COUNT_S * 2)):
            clock.now = at
            count(done)
        (Path(name) / "spool").write_bytes(bytes(123))
        assert shards_under_way(plan, "start") == {7: UnderWay(9, PROCESS, 123)}
        assert shards_under_way(plan, "an earlier start") == {}
    assert shards_under_way(plan, "start") == {}


def test_of_two_attempts_the_farthest_counts(tmp_path: Path):
    plan, clock = str(tmp_path / "plan"), Clock()
    with attempt_folder(plan) as first, attempt_folder(plan) as second:
        counts = [ShardCount(Path(name), "start", 3, 100, clock) for name in (first, second)]
        clock.now = 1.0
        for count, done in zip(counts, (40, 12), strict=True):
            count(done)
        assert shards_under_way(plan, "start") == {3: UnderWay(40, PROCESS)}


def test_connections_are_those_of_each_process_once(tmp_path: Path):
    plan = str(tmp_path / "plan")
    for name, text in {
        "a": "start 1 5 77 300 CPU",
        "b": "start 2 5 77 310 CPU",  # of the same process, a moment later
        "c": "start 3 5 78 90 name server",
        "d": "earlier 3 5 79 900 memory",
    }.items():
        (tmp_path / f"shard-{name}").mkdir()
        (tmp_path / f"shard-{name}" / "done").write_text(f"{text}\n")
    assert load_of_workers(shards_under_way(plan, "start").values()) == Load(400, "CPU")
    assert load_of_workers(shards_under_way(plan, "no start").values()) == Load(0, "")


def test_a_count_tells_of_connections(tmp_path: Path):
    plan, clock = str(tmp_path / "plan"), Clock()
    loads = iter([Load(12, "hosts"), Load(7, "name server")])
    with attempt_folder(plan) as name:
        count = ShardCount(Path(name), "start", 3, 100, clock, lambda: next(loads))
        for clock.now in (1.0, 2.0):
            count(40)
        assert load_of_workers(shards_under_way(plan, "start").values()) == Load(7, "name server")
        assert count.most == 12


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"start 1 5 9", b"start x 5 9 0", b"start 1 -5 9 0", b"\xff\xfe 1 5 9 0"),
        *(b"start 1 5 x 0", b"start 1 5 9 x", b"start 1 5 9" + b"6" * 200),
    ],
)
def test_what_is_no_count_is_left_out(tmp_path: Path, body: bytes):
    (tmp_path / "shard-a").mkdir()
    (tmp_path / "shard-a" / "done").write_bytes(body)
    assert shards_under_way(str(tmp_path / "plan"), "start") == {}


def test_what_would_block_is_left_out(tmp_path: Path):
    for name in ("shard-a", "shard-b"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "shard-a" / "done")
    (tmp_path / "shard-b" / "done").mkdir()
    assert shards_under_way(str(tmp_path / "plan"), "start") == {}


def test_of_a_plan_in_a_store_attempts_are_in_the_folder_for_temporary_files():
    plan, clock, token = "mem://bucket/set/_temporary/plan", Clock(), uuid.uuid4().hex
    with attempt_folder(plan) as name:
        count = ShardCount(Path(name), token, 0, 10, clock)
        clock.now = 1.0
        count(4)
        assert shards_under_way(plan, token) == {0: UnderWay(4, PROCESS)}
